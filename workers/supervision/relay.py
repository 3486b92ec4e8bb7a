"""The relay: from the outbox to the broker, and from vanished workers back to the outbox.

Any number of relays may run: rows are locked with SKIP LOCKED, and a message published twice finds
nothing to claim. No message is on its way while a transaction is open: a broker that hangs would
hold its locks.
"""

from collections.abc import Sequence
from uuid import UUID

import psycopg
import structlog
from celery import Celery
from kombu.exceptions import ChannelError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.contract.failures import Failure, FailureCode
from service.platform.notifications import conninfo_of
from service.platform.settings import Settings
from service.tables import queue
from workers.supervision import leases
from workers.supervision.background import BackgroundThread
from workers.supervision.celery_app import RUN_JOB
from workers.supervision.kinds.catalogue import KINDS
from workers.supervision.leases import Lease

log = structlog.get_logger()

_BATCH = 100


class Relay(BackgroundThread):
    """Publishes due jobs and requeues lost ones, in the background of a worker process."""

    def __init__(self, settings: Settings, engine: Engine, celery: Celery) -> None:
        super().__init__("relay")
        self._settings = settings
        self._engine = engine
        self._celery = celery

    def stop(self) -> None:
        """Ask the thread to end; it does within a poll."""
        self.stopping.set()

    def work(self) -> None:
        """Publish whenever there may be something to publish, and look after lost jobs."""
        conninfo = conninfo_of(str(self._engine.url.render_as_string(hide_password=False)))
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(f"LISTEN {queue.JOBS_CHANNEL}")
            while not self.stopping.is_set():
                self.requeue_lost()
                self.find_lost_messages()
                while self.publish_due() == _BATCH:
                    pass
                for _ in connection.notifies(timeout=self._settings.poll_seconds, stop_after=1):
                    pass

    def publish_due(self) -> int:
        """Publish one batch of queued jobs, most urgent first, and return how many there were.

        They are marked as published before they are. What cannot be sent is marked anew; should
        this process end in between, the messages are found missing a little later.
        """
        with Session(self._engine) as session, session.begin():
            jobs = session.execute(queue.due(_BATCH)).all()
            if jobs:
                session.execute(queue.mark_published([job_id for job_id, _, _ in jobs]))
        for place, (job_id, name, priority) in enumerate(jobs):
            try:
                self._celery.send_task(
                    RUN_JOB, args=[str(job_id)], queue=name, priority=priority, retry=False
                )
            except Exception:
                self._unpublish([job_id for job_id, _, _ in jobs[place:]])
                raise
        return len(jobs)

    def find_lost_messages(self) -> int:
        """Have jobs published again whose messages the broker no longer has; return how many.

        A message is used up where a worker is stopped, or the database goes away, before the claim;
        and a broker may lose its data. So jobs that have been published for some seconds, and that
        nobody has claimed, are compared with the messages that wait. If there are fewer of these,
        those published first are published again. A message that a worker has fetched and keeps
        until it has a slot is published twice, once.
        """
        with Session(self._engine) as session:
            published = session.execute(queue.unclaimed()).all()
        lost = 0
        for name, jobs in published:
            missing = jobs - self._waiting(name)
            if missing > 0:
                with Session(self._engine) as session, session.begin():
                    session.execute(queue.unpublish_oldest(name, missing))
                log.warning("messages lost", queue=name, count=missing)
                lost += missing
        return lost

    def _waiting(self, name: str) -> int:
        """Return how many messages wait in one of the broker's queues."""
        with self._celery.connection_for_write() as connection:
            try:
                found = connection.default_channel.queue_declare(queue=name, passive=True)
            except ChannelError:  # a queue without messages is not there
                return 0
            return int(found.message_count)

    def _unpublish(self, job_ids: Sequence[UUID]) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(queue.unpublish(job_ids))

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
        hint="Ask again. If that ends the same way, tell the operator: the workers' logs, or the "
        "kernel's, say whether memory ran out, a machine failed, or somebody killed them.",
        detail={"attempts": attempts},
    )
