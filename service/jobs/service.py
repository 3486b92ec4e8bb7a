"""Putting jobs into the queue and taking them out again, from the API's side."""

from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.tables.jobs import Job, JobKind, JobState

JOBS_CHANNEL = "phiscope_jobs"
"""Notified when a job is queued, so that a relay wakes at once."""

# Lower runs first, as in the broker.
PRIORITIES = {"high": 0, "normal": 3, "low": 6}


async def enqueue(
    session: AsyncSession, kind: JobKind, subject_id: UUID, *, queue: str = "cpu", priority: int = 3
) -> None:
    """Queue a job in the transaction of whatever it works on; a relay hears of it on commit."""
    session.add(Job(kind=kind, subject_id=subject_id, queue=queue, priority=priority))
    await session.execute(select(func.pg_notify(JOBS_CHANNEL, "")))


async def withdraw(session: AsyncSession, subject_id: UUID) -> None:
    """Take a subject's unfinished jobs out of the queue; a worker on one of them finds it gone."""
    await session.execute(
        update(Job)
        .where(Job.subject_id == subject_id, Job.state != JobState.DONE)
        .values(state=JobState.DONE)
    )
