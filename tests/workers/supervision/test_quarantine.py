"""Strikes: which file an event counts against, when it is quarantined, and what that says."""

import threading
import time
from uuid import uuid4

import pytest
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from service.contract.failures import FailureCode
from service.contract.security_events import STRIKES, SecurityEvent
from service.tables.jobs import JobKind
from service.tables.security import Event, Quarantine, lock_of
from workers.supervision import quarantine
from workers.supervision.leases import Lease
from workers.supervision.quarantine import Incident

pytestmark = pytest.mark.xdist_group("migrations")

MODEL, PROBE, EVAL = "a" * 64, "b" * 64, "c" * 64
DIGESTS = {"model": MODEL, "probe": PROBE, "eval_probe": EVAL}
LIMIT = 3


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    with Session(shared_engine) as session, session.begin():
        session.execute(delete(Event))
        session.execute(delete(Quarantine))
    return shared_engine


def incident(
    event: SecurityEvent = SecurityEvent.CRASHED,
    kind: JobKind = JobKind.ANALYSIS,
    digests: dict[str, str] | None = None,
) -> Incident:
    lease = Lease(job_id=uuid4(), kind=kind, subject_id=uuid4(), attempt=2)
    return Incident(event, "What it was.", lease, digests or DIGESTS, "host:1")


def strike(engine: Engine, *incidents: Incident, limit: int = LIMIT) -> list[str | None]:
    """Record incidents, each in a transaction of its own."""
    found = []
    for each in incidents or [incident()]:
        with Session(engine) as session, session.begin():
            found.append(quarantine.record(session, each, limit))
    return found


def release(engine: Engine, sha256: str) -> None:
    """As the API does it."""
    with Session(engine) as session, session.begin():
        session.execute(lock_of(sha256))
        session.execute(delete(Quarantine).where(Quarantine.sha256 == sha256))
        session.add(Event(event=SecurityEvent.RELEASED, sha256=sha256, digests={}, message=""))


def events(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Event.event).order_by(Event.id)))


def quarantined(engine: Engine) -> list[tuple[str, int, str]]:
    with Session(engine) as session:
        return [
            (row.sha256, row.strikes, row.reason) for row in session.scalars(select(Quarantine))
        ]


def test_an_event_is_on_record_with_everything_about_its_job(engine: Engine) -> None:
    one = incident()
    strike(engine, one)
    with Session(engine) as session:
        row = session.scalars(select(Event)).one()
        assert (row.event, row.sha256, row.digests) == ("crashed", MODEL, DIGESTS)
        assert (row.job_id, row.subject_id) == (one.lease.job_id, one.lease.subject_id)
        assert (row.kind, row.attempt, row.worker) == ("analysis", 2, "host:1")
        assert row.message == "What it was."


@pytest.mark.parametrize(
    ("kind", "digests", "blamed"),
    [
        (JobKind.ANALYSIS, DIGESTS, MODEL),
        (JobKind.INSPECTION, {"model": MODEL}, MODEL),
        (JobKind.PROBE, {"probe": PROBE}, PROBE),
        (JobKind.PROBE, {}, None),
    ],
)
@pytest.mark.parametrize("event", STRIKES)
def test_the_model_is_blamed_unless_a_probe_was_being_validated(
    kind: JobKind, digests: dict[str, str], blamed: str | None, event: SecurityEvent
) -> None:
    lease = Lease(job_id=uuid4(), kind=kind, subject_id=uuid4(), attempt=1)
    assert Incident(event, "", lease, digests, "host:1").blamed == blamed


def test_the_last_strike_quarantines_the_file_and_no_other(engine: Engine) -> None:
    found = strike(
        engine,
        incident(),
        incident(SecurityEvent.POLICY_VIOLATION),
        incident(kind=JobKind.PROBE),
        incident(),
        incident(),
    )
    assert found == [None, None, None, MODEL, None]
    # A job that was under way when it fell adds to it, and does not quarantine it a second time.
    assert quarantined(engine) == [(MODEL, 4, "3 × crashed, 1 × policy_violation")]
    assert events(engine)[-3:] == ["crashed", "quarantined", "crashed"]


def test_a_worker_without_walls_is_no_files_fault(engine: Engine) -> None:
    strike(engine, *[incident(SecurityEvent.NOT_CONFINED)] * LIMIT)
    assert quarantined(engine) == []
    with Session(engine) as session:
        assert set(session.scalars(select(Event.sha256))) == {None}


def test_zero_means_never(engine: Engine) -> None:
    assert strike(engine, *[incident()] * 9, limit=0) == [None] * 9
    assert quarantined(engine) == []
    assert len(events(engine)) == 9


def test_a_release_forgives_all_strikes_before_it(engine: Engine) -> None:
    assert strike(engine, *[incident()] * LIMIT)[-1] == MODEL
    release(engine, MODEL)
    assert strike(engine, *[incident()] * LIMIT) == [None, None, MODEL]
    assert quarantined(engine) == [(MODEL, LIMIT, "3 × crashed")]


def test_two_workers_at_once_quarantine_once_and_miss_nothing(engine: Engine) -> None:
    strike(engine)
    found: list[str | None] = []

    def conclude() -> None:
        found.extend(strike(engine))

    second = threading.Thread(target=conclude)
    with Session(engine) as session, session.begin():
        assert quarantine.record(session, incident(), LIMIT) is None
        second.start()
        # It has begun, and sees no strike that is not committed; so it has to wait for this one.
        time.sleep(0.5)
        assert second.is_alive()
    second.join()
    assert found == [MODEL]


def test_many_workers_at_once_quarantine_once(engine: Engine) -> None:
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.extend(strike(engine))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=bool) == [None] * 7 + [MODEL]
    ((_, strikes, _),) = quarantined(engine)
    assert strikes == 8


def test_a_release_waits_for_a_strike_that_is_being_counted(engine: Engine) -> None:
    strike(engine, *[incident()] * (LIMIT - 1))
    other = threading.Thread(target=release, args=(engine, MODEL))
    with Session(engine) as session, session.begin():
        assert quarantine.record(session, incident(), LIMIT) == MODEL
        other.start()
        time.sleep(0.3)
    other.join()
    assert quarantined(engine) == []
    assert strike(engine) == [None]


@pytest.mark.parametrize("file", DIGESTS)
def test_a_job_with_any_quarantined_file_is_refused(engine: Engine, file: str) -> None:
    with Session(engine) as session, session.begin():
        assert quarantine.refusal(session, DIGESTS) is None
        session.add(Quarantine(sha256=DIGESTS[file], strikes=3, reason="3 × crashed"))
    with Session(engine) as session:
        since = session.scalars(select(func.extract("year", Quarantine.created_at))).one()
        failure = quarantine.refusal(session, DIGESTS)
    assert failure is not None
    assert failure.code == FailureCode.QUARANTINED
    assert file.replace("_", " ") in failure.message
    assert f"since {since}-" in failure.message
    assert "3 × crashed" in failure.message
    assert failure.hint is not None
    assert f"phiscope quarantine release {DIGESTS[file]}" in failure.hint
    assert failure.detail["sha256"] == DIGESTS[file]
