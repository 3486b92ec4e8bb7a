"""The relay: from the outbox to the broker, and from vanished workers back to the outbox.

Any number of relays may run; rows are locked with SKIP LOCKED, and a message published twice finds
nothing to claim.
"""

import threading

import psycopg
import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError as DatabaseError
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.platform.notifications import conninfo_of
from service.platform.settings import Settings
from service.tables import queue
from workers.supervision import leases
from workers.supervision.celery_app import RUN_JOB
from workers.supervision.kinds.catalogue import KINDS
from workers.supervision.leases import Lease

log = structlog.get_logger()

_BATCH = 100


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
            connection.execute(f"LISTEN {queue.JOBS_CHANNEL}")
            while not self._stopping.is_set():
                self.requeue_lost()
                while self.publish_due() == _BATCH:
                    pass
                for _ in connection.notifies(timeout=self._settings.poll_seconds, stop_after=1):
                    pass

    def publish_due(self) -> int:
        """Publish one batch of queued jobs, most urgent first, and return how many there were."""
        with Session(self._engine) as session, session.begin():
            jobs = session.execute(queue.due(_BATCH)).all()
            for job_id, name, priority in jobs:
                self._celery.send_task(
                    RUN_JOB, args=[str(job_id)], queue=name, priority=priority, retry=False
                )
            if jobs:
                session.execute(queue.mark_published([job_id for job_id, _, _ in jobs]))
        return len(jobs)

    def requeue_lost(self) -> None:
        """Queue jobs again whose workers vanished; fail those that have lost too many."""
        with Session(self._engine) as session, session.begin():
            for lease in leases.expired(session):
                with lease.in_log():
                    self._requeue_or_fail(session, lease)

    def _requeue_or_fail(self, session: Session, lease: Lease) -> None:
        log.warning("job lost its worker")
        kind = KINDS[lease.kind]
        if lease.attempt < self._settings.max_attempts:
            leases.release(session, lease)
            kind.requeued(session, lease.subject_id)
        else:
            leases.close(session, lease)
            kind.failed(session, lease.subject_id, _lost(lease.attempt))


def _lost(attempts: int) -> Failure:
    return Failure(
        code=FailureCode.LOST,
        message=f"The workers on this job vanished without a word, {attempts} times.",
        hint="Ask the operator for the workers' logs; they may have run out of memory.",
        detail={"attempts": attempts},
    )
