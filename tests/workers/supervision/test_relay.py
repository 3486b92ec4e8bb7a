"""What a relay publishes and when, and what it does with jobs whose workers vanished."""

from collections.abc import Iterator
from datetime import timedelta
from queue import Empty
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.platform.database import Base, new_id
from service.platform.notifications import conninfo_of
from service.platform.settings import Settings
from service.tables import queue
from service.tables.analyses import Analysis, Status
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


def test_a_message_that_nobody_claims_is_published_again(bench: Bench) -> None:
    bench.enqueue()
    bench.change(published_at=func.now() - timedelta(minutes=9))
    assert bench.relay.publish_due() == 0
    bench.change(published_at=func.now() - timedelta(minutes=11))
    assert bench.relay.publish_due() == 1


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
    bench.enqueue()
    job_id = bench.job().id
    with Session(bench.engine) as session, session.begin():
        lease = claimed(session, job_id)
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
                session.execute(queue.wake())
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
