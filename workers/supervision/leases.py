"""Leases: who works on what, until when, and whose writes still count (see `tables.queue`)."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from service.tables import queue
from service.tables.jobs import JobKind


@dataclass(frozen=True)
class Lease:
    """A claim on one attempt at one job."""

    job_id: UUID
    kind: JobKind
    subject_id: UUID
    attempt: int

    def in_log(self) -> AbstractContextManager[None]:
        """Name the job in every line that this thread logs meanwhile."""
        return bound_contextvars(job=str(self.job_id), kind=self.kind, attempt=self.attempt)


def claim(session: Session, job_id: UUID, worker: str, seconds: float) -> Lease | None:
    """Claim a job that is queued, or whose holder let its lease expire.

    Returns:
        The lease, or None: somebody else works on it, or it is done, or gone.
    """
    row = session.execute(queue.claim(job_id, worker, seconds)).first()
    if row is None:
        return None
    return Lease(
        job_id=job_id, kind=JobKind(row.kind), subject_id=row.subject_id, attempt=row.attempt
    )


def renew(session: Session, lease: Lease, seconds: float) -> bool:
    """Prolong a lease; False if it is not ours any more."""
    return session.execute(queue.renew(lease.job_id, lease.attempt, seconds)).first() is not None


def close(session: Session, lease: Lease) -> bool:
    """End a job; False, and then nothing may be written about it, if it is not ours any more."""
    return session.execute(queue.close(lease.job_id, lease.attempt)).first() is not None


def release(session: Session, lease: Lease) -> bool:
    """Give a job back to the queue; False if it is not ours any more."""
    return session.execute(queue.release(lease.job_id, lease.attempt)).first() is not None


def expired(session: Session) -> list[Lease]:
    """Take hold of the leases whose holders have vanished."""
    return [
        Lease(job_id, JobKind(kind), subject_id, attempt)
        for job_id, kind, subject_id, attempt in session.execute(queue.expired())
    ]
