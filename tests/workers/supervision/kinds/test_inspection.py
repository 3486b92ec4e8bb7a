import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from support import ENDED_WELL

from service.contract.failures import Failure, FailureCode
from service.inspections import service
from service.inspections.schemas import InspectionQuery
from service.platform.database import new_id, open_async_engine
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.tables.inspections import Inspection, InspectionStatus
from service.tables.jobs import Job
from service.tables.models import Model
from workers.protocol.errors import ResultError
from workers.runner.outcome import Succeeded
from workers.supervision.kinds.inspection import InspectionKind, InspectionWork
from workers.supervision.kinds.kind import Inputs

pytestmark = pytest.mark.xdist_group("migrations")

CANDIDATE = {
    "location": "0.weight",
    "operation": "aten::linear",
    "number": 1,
    "kind": "linear",
    "features": 4,
    "outputs": 2,
    "taken": True,
    "reason": "taken: the output is its result.",
}
FINDINGS: dict[str, Any] = {
    "parameters": 10,
    "operations": 1,
    "inputs": [],
    "outputs": [],
    "head": "0.weight",
    "candidates": [CANDIDATE],
    "candidates_total": 1,
    "refusal": None,
    "warnings": [],
}


@pytest.fixture
def work() -> InspectionWork:
    return InspectionWork(new_id(), {"inputs": None}, "0" * 64, "torchscript", Settings())


def check(work: InspectionWork, tmp_path: Path, header: dict[str, Any]) -> None:
    answer = Succeeded(header, {}, "", ENDED_WELL)
    work.check(answer, Inputs([], {}), BlobStore(tmp_path.as_uri()))


def test_findings_that_an_honest_child_gives_are_accepted(
    work: InspectionWork, tmp_path: Path
) -> None:
    check(work, tmp_path, FINDINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": "10"},
        {"parameters": -1},
        {"candidates": [CANDIDATE] * 51},
        {"candidates": [CANDIDATE | {"reason": "x" * 4001}]},
        {"candidates": [CANDIDATE | {"taken": 1}]},
        {"head": "x" * 400},
        {"refusal": {"code": "no such code", "message": ""}},
        {"extra": None},
    ],
)
def test_findings_that_no_honest_child_gives_are_refused(
    work: InspectionWork, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        check(work, tmp_path, FINDINGS | change)


def test_findings_without_end_are_refused(work: InspectionWork, tmp_path: Path) -> None:
    refusal = {"code": "crashed", "message": "", "hint": None, "detail": {"x": "y" * 2**20}}
    with pytest.raises(ResultError, match="characters long"):
        check(work, tmp_path, FINDINGS | {"refusal": refusal})


def ask(shared_engine: Engine, model_id: UUID) -> UUID:
    async def ensure() -> UUID:
        url = shared_engine.url.render_as_string(hide_password=False)
        asynchronous = open_async_engine(Settings(database_url=url))
        async with AsyncSession(asynchronous) as session, session.begin():
            found = await service.ensure(session, model_id, InspectionQuery())
        await asynchronous.dispose()
        return found

    return asyncio.run(ensure())


def fail(shared_engine: Engine, inspection_id: UUID, code: FailureCode) -> None:
    with Session(shared_engine) as session, session.begin():
        failure = Failure(code=code, message="")
        InspectionKind().failed(session, inspection_id, failure)


def state(shared_engine: Engine, inspection_id: UUID) -> tuple[str, int]:
    """The status, and how many jobs there have been."""
    with Session(shared_engine) as session:
        jobs = select(func.count()).where(Job.subject_id == inspection_id)
        return session.get_one(Inspection, inspection_id).status, session.scalars(jobs).one()


@pytest.mark.parametrize("code", [FailureCode.LOST, FailureCode.QUARANTINED])
def test_one_that_was_not_really_made_is_made_again_when_asked_for(
    shared_engine: Engine, code: FailureCode
) -> None:
    model = Model(
        id=new_id(), name=code, sha256="0" * 64, size_bytes=1, format="torchscript", metadata_={}
    )
    with Session(shared_engine, expire_on_commit=False) as session, session.begin():
        session.add(model)
    inspection = ask(shared_engine, model.id)
    assert state(shared_engine, inspection) == (InspectionStatus.QUEUED, 1)
    fail(shared_engine, inspection, code)
    assert ask(shared_engine, model.id) == inspection
    assert state(shared_engine, inspection) == (InspectionStatus.QUEUED, 2)
    fail(shared_engine, inspection, FailureCode.INPUT_MISMATCH)
    assert ask(shared_engine, model.id) == inspection
    assert state(shared_engine, inspection) == (InspectionStatus.FAILED, 2)
