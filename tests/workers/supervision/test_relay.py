"""What a relay publishes and when, and what it does with jobs whose workers vanished."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from queue import Empty
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.platform.database import Base, new_id
from service.platform.notifications import conninfo_of
from service.platform.settings import Settings
from service.tables import queue
from service.tables.analyses import Analysis, Status, of_probe
from service.tables.jobs import Job, JobKind, JobState
from service.tables.models import Model
from service.tables.probes import Probe, ProbeStatus
from workers.supervision import leases
from workers.supervision.leases import Lease
from workers.supervision.relay import Relay

pytestmark = pytest.mark.xdist_group("migrations")

MOST = 3


class Bench:
    """A relay with a database and a broker, and jobs for it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.celery = Celery(broker="memory://", set_as_current=False)
        # The broker is this process; no other test's messages are in a queue of this name.
        self.queue = uuid4().hex
        self.relay = Relay(Settings(max_attempts=MOST), engine, self.celery)

    def add(self, *rows: Base) -> None:
        with Session(self.engine) as session, session.begin():
            for row in rows:
                session.add(row)
                session.flush()

    def enqueue(self, kind: JobKind = JobKind.INSPECTION, subject: UUID | None = None) -> None:
        with Session(self.engine) as session, session.begin():
            session.execute(queue.enqueue(kind, subject or new_id(), queue=self.queue))

    def probe(self, status: ProbeStatus) -> UUID:
        row_id = new_id()
        self.add(Probe(id=row_id, name=uuid4().hex, version=1, spec={}, status=status))
        return row_id

    def analysis(self, probe: UUID, eval_probe: UUID | None = None) -> UUID:
        row_id, model = new_id(), new_id()
        self.add(
            Model(
                id=model,
                name=uuid4().hex,
                sha256="0" * 64,
                size_bytes=1,
                format="torchscript",
                metadata_={},
            ),
            Analysis(
                id=row_id,
                model_id=model,
                probe_id=probe,
                eval_probe_id=eval_probe,
                options={},
                priority="normal",
                progress={},
                fingerprint=uuid4().hex,
            ),
        )
        self.enqueue(JobKind.ANALYSIS, row_id)
        return row_id

    def change(self, **values: Any) -> None:
        with Session(self.engine) as session, session.begin():
            session.execute(update(Job).values(**values))

    def job(self) -> Job:
        with Session(self.engine) as session:
            return session.scalars(select(Job)).one()

    def published(self) -> list[str]:
        """What the broker has been given; it is taken from it."""
        found = []
        with self.celery.connection_for_read() as connection:
            waiting = connection.SimpleQueue(self.queue)
            while True:
                try:
                    message = waiting.get(block=False)
                except Empty:
                    return found
                message.ack()
                (job_id,), _, _ = message.payload
                found.append(job_id)


@pytest.fixture
def bench(shared_engine: Engine) -> Iterator[Bench]:
    with Session(shared_engine) as session, session.begin():
        session.execute(delete(Job))
    yield Bench(shared_engine)
    with Session(shared_engine) as session, session.begin():
        session.execute(delete(Job))


def test_a_queued_job_is_published_once(bench: Bench) -> None:
    bench.enqueue()
    assert [bench.relay.publish_due(), bench.relay.publish_due()] == [1, 0]
    assert bench.published() == [str(bench.job().id)]


def test_jobs_are_published_in_the_order_of_the_databases_clock(bench: Bench) -> None:
    for _ in range(3):
        bench.enqueue()
    with Session(bench.engine) as session, session.begin():
        # As if whoever made the later ids had a clock that is behind.
        jobs = session.scalars(select(Job).order_by(Job.id.desc())).all()
        for age, job in enumerate(jobs):
            job.created_at = datetime.now(UTC) + timedelta(seconds=age)
        expected = [str(job.id) for job in jobs]
    bench.relay.publish_due()
    assert bench.published() == expected


def longest_due(bench: Bench) -> timedelta | None:
    with Session(bench.engine) as session:
        return session.scalar(queue.longest_due())


def test_it_is_known_how_long_a_job_has_waited_for_a_relay(bench: Bench) -> None:
    assert longest_due(bench) is None
    bench.enqueue()
    bench.change(queued_at=func.now() - timedelta(seconds=40))
    longest = longest_due(bench)
    assert longest is not None
    assert 40 <= longest.total_seconds() < 400
    bench.relay.publish_due()
    assert longest_due(bench) is None


def test_a_job_that_waits_for_its_probe_waits_for_no_relay(bench: Bench) -> None:
    probe = bench.probe(ProbeStatus.VALIDATING)
    bench.analysis(probe)
    bench.change(queued_at=func.now() - timedelta(seconds=40))
    assert longest_due(bench) is None
    with Session(bench.engine) as session, session.begin():
        session.get_one(Probe, probe).status = ProbeStatus.READY
        session.execute(queue.wake(of_probe(probe)))
    longest = longest_due(bench)
    assert longest is not None
    assert longest.total_seconds() < 30


def published_since(bench: Bench, seconds: float) -> None:
    bench.change(published_at=func.now() - timedelta(seconds=seconds))


def test_a_message_that_the_broker_has_lost_is_sent_again(bench: Bench) -> None:
    bench.enqueue()
    bench.relay.publish_due()
    bench.published()  # the broker loses it
    published_since(bench, 4)
    assert (bench.relay.find_lost_messages(), bench.relay.publish_due()) == (0, 0)
    published_since(bench, 6)
    assert (bench.relay.find_lost_messages(), bench.relay.publish_due()) == (1, 1)
    assert bench.published() == [str(bench.job().id)]


def test_messages_that_wait_are_not_sent_again(bench: Bench) -> None:
    for _ in range(3):
        bench.enqueue()
    bench.relay.publish_due()
    published_since(bench, 3600)
    assert bench.relay.find_lost_messages() == 0
    assert len(bench.published()) == 3


def test_only_as_many_as_are_lost_are_sent_again_the_oldest_first(bench: Bench) -> None:
    for _ in range(3):
        bench.enqueue()
    bench.relay.publish_due()
    with Session(bench.engine) as session, session.begin():
        for age, job in enumerate(session.scalars(select(Job).order_by(Job.id)), start=6):
            job.published_at = datetime.now(UTC) - timedelta(seconds=age)
            oldest = str(job.id)
    with bench.celery.connection_for_read() as connection:
        connection.SimpleQueue(bench.queue).get(block=False).ack()
    assert (bench.relay.find_lost_messages(), bench.relay.publish_due()) == (1, 1)
    assert bench.published()[-1] == oldest
    assert bench.relay.find_lost_messages() == 2


def test_a_job_that_runs_has_lost_no_message(bench: Bench) -> None:
    bench.enqueue()
    bench.change(
        published_at=func.now() - timedelta(seconds=60),
        state=JobState.RUNNING,
        lease_until=func.now() + timedelta(seconds=60),
    )
    assert bench.relay.find_lost_messages() == 0


class Refusing:
    """A broker that takes so many messages; the rows are looked at while it is asked."""

    def __init__(self, bench: Bench, takes: int) -> None:
        self._bench, self._takes = bench, takes
        self.locked: list[UUID] = []

    def send_task(self, *_: object, args: list[str], **__: object) -> None:
        with Session(self._bench.engine) as session:
            free = select(Job.id).where(Job.id == UUID(args[0])).with_for_update(skip_locked=True)
            if session.scalar(free) is None:
                self.locked.append(UUID(args[0]))
        if not self._takes:
            raise BrokerError("gone")
        self._takes -= 1


def test_what_the_broker_does_not_take_is_to_be_published_and_nothing_is_locked_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        bench.enqueue()
    broker = Refusing(bench, takes=1)
    monkeypatch.setattr(bench.celery, "send_task", broker.send_task)
    with pytest.raises(BrokerError):
        bench.relay.publish_due()
    assert broker.locked == []
    monkeypatch.undo()
    assert bench.relay.publish_due() == 2


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.ReadOnlySqlTransaction("read-only"),
        ProgrammingError("SELECT", {}, psycopg.errors.UndefinedTable("no table")),
        ZeroDivisionError("a defect"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_relay_goes_on_whatever_happens(
    bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail() -> None:
        monkeypatch.undo()
        failed.set()
        raise error

    monkeypatch.setattr(bench.relay, "requeue_lost", fail)
    bench.relay.start()
    assert failed.wait(60)
    bench.enqueue()
    while not bench.published():
        time.sleep(0.02)
    assert bench.relay.is_alive()
    bench.relay.stop()
    bench.relay.join()


def test_what_is_withdrawn_is_not_published(bench: Bench) -> None:
    subject = new_id()
    bench.enqueue(subject=subject)
    with Session(bench.engine) as session, session.begin():
        session.execute(queue.withdraw([subject]))
    assert bench.relay.publish_due() == 0


@pytest.mark.parametrize("late", ["probe", "eval probe"])
def test_an_analysis_waits_for_its_probes(bench: Bench, late: str) -> None:
    ready, open_ = bench.probe(ProbeStatus.READY), bench.probe(ProbeStatus.VALIDATING)
    bench.analysis(*((open_, ready) if late == "probe" else (ready, open_)))
    # The job that validates a probe does not wait for it.
    bench.enqueue(JobKind.PROBE, open_)
    assert bench.relay.publish_due() == 1
    with Session(bench.engine) as session, session.begin():
        session.get_one(Probe, open_).status = ProbeStatus.READY
    assert bench.relay.publish_due() == 1


def test_the_most_urgent_comes_first(bench: Bench) -> None:
    with Session(bench.engine) as session, session.begin():
        for priority in (6, 0, 3):
            session.execute(
                queue.enqueue(JobKind.PROBE, new_id(), queue=bench.queue, priority=priority)
            )
        jobs = session.scalars(select(Job).order_by(Job.priority))
        expected = [str(job.id) for job in jobs]
    bench.relay.publish_due()
    assert bench.published() == expected


def claimed(session: Session, job_id: UUID) -> Lease:
    lease = leases.claim(session, job_id, "host:1", 60)
    assert lease is not None
    return lease


@pytest.mark.parametrize("change", ["enqueue", "release", "wake"])
def test_relays_wake_when_there_may_be_something_to_publish(bench: Bench, change: str) -> None:
    probe = bench.probe(ProbeStatus.VALIDATING)
    if change == "release":
        bench.enqueue()
        with Session(bench.engine) as session, session.begin():
            lease = claimed(session, bench.job().id)
    else:
        bench.analysis(probe)
    with psycopg.connect(
        conninfo_of(bench.engine.url.render_as_string(hide_password=False)), autocommit=True
    ) as connection:
        connection.execute(f"LISTEN {queue.JOBS_CHANNEL}")
        with Session(bench.engine) as session, session.begin():
            if change == "enqueue":
                session.execute(queue.enqueue(JobKind.PROBE, new_id(), queue=bench.queue))
            elif change == "release":
                assert leases.release(session, lease)
            else:
                session.execute(queue.wake(of_probe(probe)))
        assert [note.channel for note in connection.notifies(timeout=5, stop_after=1)] == [
            queue.JOBS_CHANNEL
        ]


def lose(bench: Bench, attempt: int) -> None:
    """Have the worker on the one job vanish."""
    bench.change(
        state=JobState.RUNNING, attempt=attempt, lease_until=func.now() - timedelta(seconds=1)
    )


def test_a_job_that_lost_its_worker_is_queued_again(bench: Bench) -> None:
    analysis = bench.analysis(bench.probe(ProbeStatus.READY))
    lose(bench, MOST - 1)
    with Session(bench.engine) as session, session.begin():
        session.get_one(Analysis, analysis).status = Status.RUNNING
    with capture_logs([merge_contextvars]) as logs:
        bench.relay.requeue_lost()
    job = bench.job()
    assert (job.state, job.published_at, job.lease_until) == (JobState.QUEUED, None, None)
    with Session(bench.engine) as session:
        row = session.get_one(Analysis, analysis)
        assert (row.status, row.progress["stage"]) == (Status.QUEUED, "queued")
    (line,) = logs
    assert (line["job"], line["kind"], line["attempt"]) == (str(job.id), "analysis", MOST - 1)


def test_a_job_that_loses_every_worker_fails(bench: Bench) -> None:
    analysis = bench.analysis(bench.probe(ProbeStatus.READY))
    lose(bench, MOST)
    bench.relay.requeue_lost()
    assert bench.job().state == JobState.DONE
    with Session(bench.engine) as session:
        error = session.get_one(Analysis, analysis).error
    assert error is not None
    assert (error["code"], error["detail"]) == ("lost", {"attempts": MOST})


def test_a_job_whose_worker_is_there_stays_its(bench: Bench) -> None:
    bench.enqueue()
    bench.change(state=JobState.RUNNING, lease_until=func.now() + timedelta(seconds=60))
    bench.relay.requeue_lost()
    assert bench.job().state == JobState.RUNNING


def test_a_probe_that_fails_takes_the_analyses_that_wait_for_it_along(bench: Bench) -> None:
    probe = bench.probe(ProbeStatus.VALIDATING)
    analysis = bench.analysis(bench.probe(ProbeStatus.READY), probe)
    bench.enqueue(JobKind.PROBE, probe)
    with Session(bench.engine) as session, session.begin():
        session.execute(
            update(Job)
            .where(Job.kind == JobKind.PROBE)
            .values(state=JobState.RUNNING, attempt=MOST, lease_until=func.now())
        )
    bench.relay.requeue_lost()
    with Session(bench.engine) as session:
        assert set(session.scalars(select(Job.state))) == {JobState.DONE}
        assert session.get_one(Probe, probe).status == ProbeStatus.FAILED
        assert session.get_one(Analysis, analysis).status == Status.FAILED
