"""A worker's entry among those that are there."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, delete, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from service import __version__
from service.local import LocalDatabases
from service.platform.migration import upgrade
from service.tables.workers import Worker
from workers.supervision.registry import Description, Registry

pytestmark = pytest.mark.xdist_group("migrations")

DESCRIPTION = Description("host:1", "cpu", landlock=7, slots=2)
NOW = datetime.now(UTC)


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    with Session(shared_engine) as session, session.begin():
        session.execute(delete(Worker))
    return shared_engine


@pytest.fixture
def registry(engine: Engine) -> Iterator[Registry]:
    registry = Registry(engine, DESCRIPTION, beat_seconds=0.05)
    registry.start()
    yield registry
    registry.stop()


def entries(engine: Engine) -> dict[str, Worker]:
    with Session(engine) as session:
        return {row.name: row for row in session.scalars(select(Worker))}


def wait_for_beat(engine: Engine, after: datetime | None = None) -> Worker:
    while True:
        entry = entries(engine).get(DESCRIPTION.name)
        if entry is not None and (after is None or entry.seen_at > after):
            return entry
        time.sleep(0.02)


def test_a_worker_describes_itself_and_goes_on_speaking(engine: Engine, registry: Registry) -> None:
    first = wait_for_beat(engine)
    assert (first.device, first.landlock, first.slots) == ("cpu", 7, 2)
    assert first.version == __version__
    later = wait_for_beat(engine, first.seen_at)
    assert later.started_at == first.started_at
    assert registry.is_alive()


def test_a_worker_that_ends_takes_its_entry_back(engine: Engine, registry: Registry) -> None:
    wait_for_beat(engine)
    registry.stop()
    assert entries(engine) == {}


def test_one_that_never_began_can_be_stopped(engine: Engine) -> None:
    Registry(engine, DESCRIPTION).stop()


def test_an_entry_that_was_removed_comes_back(engine: Engine, registry: Registry) -> None:
    wait_for_beat(engine)
    with Session(engine) as session, session.begin():
        session.execute(delete(Worker))
    wait_for_beat(engine)
    assert registry.is_alive()


def test_the_dead_are_forgotten_after_a_day(engine: Engine) -> None:
    def silent(name: str, for_: timedelta) -> Worker:
        return Worker(
            name=name,
            started_at=NOW,
            seen_at=NOW - for_,
            device="cpu",
            landlock=7,
            slots=1,
            version="1",
        )

    with Session(engine) as session, session.begin():
        session.add_all(
            [silent("long", timedelta(hours=25)), silent("lately", timedelta(hours=23))]
        )
    registry = Registry(engine, DESCRIPTION)
    registry.start()
    wait_for_beat(engine)
    assert set(entries(engine)) == {"lately", DESCRIPTION.name}
    registry.stop()


def test_a_database_that_goes_away_and_comes_back_is_survived(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("away")
    with LocalDatabases(directory) as local:
        url = local.database_url
        engine = create_engine(url, pool_pre_ping=True)
        upgrade(engine)
        registry = Registry(engine, DESCRIPTION, beat_seconds=0.05)
        registry.start()
        before = wait_for_beat(engine)
    with capture_logs() as logs:
        while not logs:
            time.sleep(0.02)
    assert {entry["event"] for entry in logs} == {"interrupted"}
    assert logs[0]["thread"] == "registry"
    assert registry.is_alive()
    with LocalDatabases(directory) as local:
        assert local.database_url == url
        wait_for_beat(engine, before.seen_at)
        registry.stop()
        assert entries(engine) == {}
        engine.dispose()
