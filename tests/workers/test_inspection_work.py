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

from service.database import new_id, open_async_engine
from service.failures import Failure, FailureCode
from service.inspections import service
from service.inspections.schemas import InspectionQuery
from service.inspections.status import InspectionStatus
from service.inspections.tables import Inspection
from service.jobs.tables import Job, JobKind
from service.models.tables import Model
from service.settings import Settings
from service.storage import BlobStore
from workers import subjects
from workers.errors import ResultError
from workers.inspection_work import InspectionWork
from workers.runner.outcome import Succeeded

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
    return InspectionWork(
        Inspection(id=new_id(), request={"inputs": None}), Model(sha256="0" * 64), Settings()
    )


def prepare(work: InspectionWork, tmp_path: Path, header: dict[str, Any]) -> None:
    work.prepare(BlobStore(tmp_path.as_uri()), Succeeded(header, {}, "", ENDED_WELL))


def test_findings_that_an_honest_child_gives_are_accepted(
    work: InspectionWork, tmp_path: Path
) -> None:
    prepare(work, tmp_path, FINDINGS)


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
        prepare(work, tmp_path, FINDINGS | change)


def test_findings_without_end_are_refused(work: InspectionWork, tmp_path: Path) -> None:
    refusal = {"code": "crashed", "message": "", "hint": None, "detail": {"x": "y" * 2**20}}
    with pytest.raises(ResultError, match="characters long"):
        prepare(work, tmp_path, FINDINGS | {"refusal": refusal})


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    return shared_engine


def ask(engine: Engine, model_id: UUID) -> UUID:
    async def ensure() -> UUID:
        url = engine.url.render_as_string(hide_password=False)
        asynchronous = open_async_engine(Settings(database_url=url))
        async with AsyncSession(asynchronous) as session, session.begin():
            found = await service.ensure(session, model_id, InspectionQuery())
        await asynchronous.dispose()
        return found

    return asyncio.run(ensure())


def fail(engine: Engine, inspection_id: UUID, code: FailureCode) -> None:
    with Session(engine) as session, session.begin():
        failure = Failure(code=code, message="")
        subjects.failed(session, JobKind.INSPECTION, inspection_id, failure)


def state(engine: Engine, inspection_id: UUID) -> tuple[str, int]:
    """The status, and how many jobs there have been."""
    with Session(engine) as session:
        jobs = select(func.count()).where(Job.subject_id == inspection_id)
        return session.get_one(Inspection, inspection_id).status, session.scalars(jobs).one()


@pytest.mark.parametrize("code", [FailureCode.LOST, FailureCode.QUARANTINED])
def test_one_that_was_not_really_made_is_made_again_when_asked_for(
    engine: Engine, code: FailureCode
) -> None:
    model = Model(
        id=new_id(), name=code, sha256="0" * 64, size_bytes=1, format="torchscript", metadata_={}
    )
    with Session(engine, expire_on_commit=False) as session, session.begin():
        session.add(model)
    inspection = ask(engine, model.id)
    assert state(engine, inspection) == (InspectionStatus.QUEUED, 1)
    fail(engine, inspection, code)
    assert ask(engine, model.id) == inspection
    assert state(engine, inspection) == (InspectionStatus.QUEUED, 2)
    fail(engine, inspection, FailureCode.INPUT_MISMATCH)
    assert ask(engine, model.id) == inspection
    assert state(engine, inspection) == (InspectionStatus.FAILED, 2)
