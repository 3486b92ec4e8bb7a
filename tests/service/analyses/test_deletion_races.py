"""A model or a probe is not deleted while an analysis of it is being accepted, nor the reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from support import ServedApi

from service.analyses import service as analyses
from service.analyses.schemas import AnalysisCreate
from service.contract.options import Options
from service.http.problems import InUse, NotFound
from service.inspections import service as inspections
from service.inspections.schemas import InspectionQuery
from service.models import service as models
from service.platform.database import new_id, open_async_engine
from service.platform.settings import Settings
from service.platform.storage import BlobStore
from service.probes import service as probes
from service.tables.models import Model
from service.tables.probes import Probe, ProbeStatus

pytestmark = pytest.mark.xdist_group("migrations")

Sessions = async_sessionmaker[AsyncSession]
Do = Callable[[AsyncSession], Awaitable[object]]
# Long enough for a statement that does not wait, so that one that is still there does.
MOMENT = 0.3


@asynccontextmanager
async def sessions(api: ServedApi) -> AsyncIterator[Sessions]:
    url = api.engine.url.render_as_string(hide_password=False)
    engine = open_async_engine(Settings(database_url=url))
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


@pytest.fixture
def model(api: ServedApi) -> UUID:
    row_id, digest = new_id(), uuid4().hex * 2
    with Session(api.engine) as session, session.begin():
        session.add(
            Model(
                id=row_id,
                name=uuid4().hex,
                sha256=digest,
                size_bytes=1,
                format="torchscript",
                metadata_={},
            )
        )
    return row_id


@pytest.fixture
def probe(api: ServedApi) -> UUID:
    row_id = new_id()
    with Session(api.engine) as session, session.begin():
        session.add(
            Probe(id=row_id, name=uuid4().hex, version=1, spec={}, status=ProbeStatus.READY)
        )
    return row_id


def both(api: ServedApi, first: Do, second: Do) -> object:
    """Do the second while the transaction of the first is open, which is then committed."""

    async def race() -> object:
        async with sessions(api) as made:

            async def do_second() -> object:
                async with made.begin() as session:
                    return await second(session)

            async with made.begin() as session:
                await first(session)
                waiting = asyncio.create_task(do_second())
                await asyncio.sleep(MOMENT)
                assert not waiting.done()
            return await waiting

    return asyncio.run(race())


@pytest.fixture(params=["model", "probe", "eval probe"])
def deletion(request: pytest.FixtureRequest, model: UUID, probe: UUID, tmp_path: Path) -> Do:
    store = BlobStore(tmp_path.as_uri())
    if request.param == "model":
        return lambda session: models.delete(session, store, model)
    return lambda session: probes.delete(session, store, str(probe))


@pytest.fixture
def creation(request: pytest.FixtureRequest, api: ServedApi, model: UUID, probe: UUID) -> Do:
    other = new_id()
    with Session(api.engine) as session, session.begin():
        session.add(Probe(id=other, name=uuid4().hex, version=1, spec={}, status=ProbeStatus.READY))
    is_second = "eval probe" in request.node.name
    asked = AnalysisCreate(
        model=model,
        probe=str(other if is_second else probe),
        options=Options(eval_probe=str(probe) if is_second else None),
    )
    return lambda session: analyses.create(session, asked, None)


def test_what_an_analysis_begins_to_need_is_not_deleted(
    api: ServedApi, creation: Do, deletion: Do
) -> None:
    with pytest.raises(InUse):
        both(api, creation, deletion)


def test_no_analysis_of_what_is_being_deleted_is_accepted(
    api: ServedApi, creation: Do, deletion: Do
) -> None:
    with pytest.raises(NotFound):
        both(api, deletion, creation)


def test_no_inspection_of_a_model_that_is_being_deleted_is_accepted(
    api: ServedApi, model: UUID, tmp_path: Path
) -> None:
    store = BlobStore(tmp_path.as_uri())
    with pytest.raises(NotFound):
        both(
            api,
            lambda session: models.delete(session, store, model),
            lambda session: inspections.ensure(session, model, InspectionQuery(input=[])),
        )
