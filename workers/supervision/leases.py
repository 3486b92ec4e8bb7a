"""Claiming jobs: who works on what, until when, and whose writes still count.

All guards are in the SQL. A claim raises the job's attempt; every later statement names it, so a
worker that was presumed dead and is not finds that its statements change nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from service.jobs.service import JOBS_CHANNEL
from service.tables.jobs import Job, JobKind, JobState


@dataclass(frozen=True)
class Lease:
    """A claim on one attempt at one job."""

    job_id: UUID
    kind: JobKind
    subject_id: UUID
    attempt: int


def claim(session: Session, job_id: UUID, worker: str, seconds: float) -> Lease | None:
    """Claim a job that is queued, or whose holder let its lease expire.

    Returns:
        The lease, or None: somebody else works on it, or it is done, or gone.
    """
    free = or_(
        Job.state == JobState.QUEUED,
        and_(Job.state == JobState.RUNNING, Job.lease_until < func.now()),
    )
    row = session.execute(
        update(Job)
        .where(Job.id == job_id, free)
        .values(
            state=JobState.RUNNING,
            attempt=Job.attempt + 1,
            lease_until=_from_now(seconds),
            worker=worker,
        )
        .returning(Job.kind, Job.subject_id, Job.attempt)
    ).first()
    if row is None:
        return None
    return Lease(
        job_id=job_id, kind=JobKind(row.kind), subject_id=row.subject_id, attempt=row.attempt
    )


def renew(session: Session, lease: Lease, seconds: float) -> bool:
    """Prolong a lease; False if it is not ours any more."""
    return _change(session, lease, lease_until=_from_now(seconds))


def close(session: Session, lease: Lease) -> bool:
    """End a job; False, and then nothing may be written about it, if it is not ours any more."""
    return _change(session, lease, state=JobState.DONE, lease_until=None)


def release(session: Session, lease: Lease) -> bool:
    """Give a job back to the queue; False if it is not ours any more."""
    session.execute(select(func.pg_notify(JOBS_CHANNEL, "")))
    return _change(session, lease, state=JobState.QUEUED, lease_until=None, published_at=None)


def leave(session: Session, job_id: UUID) -> None:
    """Let a relay publish a queued job again whose message is about to be used up unclaimed."""
    session.execute(
        update(Job).where(Job.id == job_id, Job.state == JobState.QUEUED).values(published_at=None)
    )


def _change(session: Session, lease: Lease, **values: object) -> bool:
    changed = session.execute(
        update(Job)
        .where(Job.id == lease.job_id, Job.attempt == lease.attempt, Job.state == JobState.RUNNING)
        .values(**values)
        .returning(Job.id)
    )
    return changed.first() is not None


def expired() -> ColumnElement[bool]:
    """Jobs whose holder has vanished."""
    return and_(Job.state == JobState.RUNNING, Job.lease_until < func.now())


def _from_now(seconds: float) -> ColumnElement[datetime]:
    return func.now() + timedelta(seconds=seconds)
