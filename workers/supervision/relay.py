"""The relay: from the outbox to the broker, and from vanished workers back to the outbox.

Any number of relays may run; rows are locked with SKIP LOCKED, and a message published twice finds
nothing to claim.
"""

import threading
from datetime import timedelta

import psycopg
import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine, func, or_, select
from sqlalchemy.exc import OperationalError as DatabaseError
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.jobs.service import JOBS_CHANNEL
from service.platform.notifications import conninfo_of
from service.platform.settings import Settings
from service.tables.analyses import Analysis
from service.tables.jobs import Job, JobKind, JobState
from service.tables.probes import Probe, ProbeStatus
from workers.supervision import subjects
from workers.supervision.celery_app import RUN_JOB
from workers.supervision.leases import expired

log = structlog.get_logger()

_BATCH = 100
# A message this old that nobody has claimed may have been lost with its broker.
_REPUBLISH_AFTER = timedelta(minutes=10)


class Relay(threading.Thread):
    """Publishes due jobs and requeues lost ones, in the background of a worker process."""

    def __init__(self, settings: Settings, engine: Engine, celery: Celery) -> None:
        super().__init__(name="relay", daemon=True)
        self._settings = settings
        self._engine = engine
        self._celery = celery
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask the thread to end; it does within a poll."""
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped, whatever goes away meanwhile."""
        while not self._stopping.is_set():
            try:
                self._listen()
            except (psycopg.OperationalError, DatabaseError, BrokerError, OSError) as error:
                log.warning("relay interrupted", error=str(error).splitlines()[0])
                self._stopping.wait(self._settings.poll_seconds)

    def _listen(self) -> None:
        conninfo = conninfo_of(str(self._engine.url.render_as_string(hide_password=False)))
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(f"LISTEN {JOBS_CHANNEL}")
            while not self._stopping.is_set():
                self.requeue_lost()
                while self.publish_due() == _BATCH:
                    pass
                for _ in connection.notifies(timeout=self._settings.poll_seconds, stop_after=1):
                    pass

    def publish_due(self) -> int:
        """Publish one batch of queued jobs, most urgent first, and return how many there were."""
        with Session(self._engine) as session, session.begin():
            jobs = session.scalars(
                select(Job)
                .where(
                    Job.state == JobState.QUEUED,
                    or_(
                        Job.published_at.is_(None),
                        Job.published_at < func.now() - _REPUBLISH_AFTER,
                    ),
                    # An analysis waits until its probes have been validated.
                    ~select(Probe.id)
                    .join(Analysis, Probe.id.in_((Analysis.probe_id, Analysis.eval_probe_id)))
                    .where(
                        Job.kind == JobKind.ANALYSIS,
                        Analysis.id == Job.subject_id,
                        Probe.status == ProbeStatus.VALIDATING,
                    )
                    .exists(),
                )
                .order_by(Job.priority, Job.id)
                .limit(_BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            for job in jobs:
                self._celery.send_task(
                    RUN_JOB,
                    args=[str(job.id)],
                    queue=job.queue,
                    priority=job.priority,
                    retry=False,
                )
                job.published_at = func.now()
            return len(jobs)

    def requeue_lost(self) -> None:
        """Queue jobs again whose workers vanished; fail those that have lost too many."""
        with Session(self._engine) as session, session.begin():
            lost = session.scalars(
                select(Job).where(expired()).with_for_update(skip_locked=True)
            ).all()
            for job in lost:
                log.warning("job lost its worker", job=str(job.id), attempt=job.attempt)
                if job.attempt < self._settings.max_attempts:
                    job.state = JobState.QUEUED
                    job.published_at = None
                    job.lease_until = None
                    subjects.requeued(session, JobKind(job.kind), job.subject_id)
                else:
                    job.state = JobState.DONE
                    subjects.failed(session, JobKind(job.kind), job.subject_id, _lost(job.attempt))


def _lost(attempts: int) -> Failure:
    return Failure(
        code=FailureCode.LOST,
        message=f"The workers on this job vanished without a word, {attempts} times.",
        hint="Ask the operator for the workers' logs; they may have run out of memory.",
        detail={"attempts": attempts},
    )
