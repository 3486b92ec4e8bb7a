"""The queue: every statement about jobs, as the API and the workers execute them.

A job is QUEUED in the transaction of whatever it works on; a relay then publishes its id to the
broker. A worker that hears of it claims it: it is RUNNING, under a lease that its holder renews.

    QUEUED ── claim ──▶ RUNNING ── close ──▶ DONE
       ▲                   │
       └───── release ─────┘      withdraw: from either of them to DONE

A job is released by a holder that gives it back, or by a relay that finds its lease expired. All
guards are in the SQL. A claim raises the job's attempt, and every later statement of its holder
names that attempt: the statements of a worker that was wrongly presumed dead change nothing.
Whoever closes a job writes the outcome of its subject in the same transaction.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Interval,
    Select,
    Update,
    and_,
    func,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from service.tables.analyses import Analysis
from service.tables.jobs import Job, JobKind, JobState
from service.tables.probes import Probe, ProbeStatus

JOBS_CHANNEL = "phiscope_jobs"
"""Notified when there may be something to publish, so that a relay wakes at once."""

# Lower runs first, as in the broker.
PRIORITIES = {"high": 0, "normal": 3, "low": 6}

# An idle worker claims a job within a second of its publication.
_UNCLAIMED_AFTER = timedelta(seconds=5)


def enqueue(
    kind: JobKind,
    subject_id: UUID,
    *,
    queue: str = "cpu",
    priority: int = PRIORITIES["normal"],
) -> ReturningInsert[None]:
    """Queue a job; a relay hears of it on commit."""
    return (
        insert(Job)
        .values(kind=kind, subject_id=subject_id, queue=queue, priority=priority)
        .returning(_notification())
    )


def withdraw(subject_ids: Collection[UUID]) -> Update:
    """Take unfinished jobs of some subjects out of the queue; a worker on one loses its lease."""
    return (
        update(Job)
        .where(Job.subject_id.in_(subject_ids), Job.state != JobState.DONE)
        .values(state=JobState.DONE)
    )


def wake(analyses: ColumnElement[bool]) -> ReturningUpdate[None]:
    """Have relays look again: what these queued analyses were waiting for is now there."""
    return (
        update(Job)
        .where(
            Job.subject_id.in_(select(Analysis.id).where(analyses)), Job.state == JobState.QUEUED
        )
        .values(queued_at=func.now())
        .returning(_notification())
    )


def due(limit: int) -> Select[UUID, str, int]:
    """Find and lock queued jobs that are to be published, most urgent first.

    Returns their ids, queues and priorities.
    """
    # By the database's clock: ids are made by several machines, whose clocks need not agree.
    return (
        select(Job.id, Job.queue, Job.priority)
        .where(_is_due())
        .order_by(Job.priority, Job.created_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


def longest_due() -> Select[timedelta]:
    """Find how long the job that has been due longest has waited for a relay; no row if none."""
    return (
        select(type_coerce(func.now() - Job.queued_at, Interval()))
        .where(_is_due())
        .order_by(Job.queued_at)
        .limit(1)
    )


def _is_due() -> ColumnElement[bool]:
    return and_(Job.state == JobState.QUEUED, Job.published_at.is_(None), ~_waits_for_probe())


def _waits_for_probe() -> ColumnElement[bool]:
    """Select jobs whose analysis waits until its probes have been validated."""
    return (
        select(Probe.id)
        .join(Analysis, Probe.id.in_((Analysis.probe_id, Analysis.eval_probe_id)))
        .where(Analysis.id == Job.subject_id, Probe.status == ProbeStatus.VALIDATING)
        .exists()
    )


def mark_published(job_ids: Collection[UUID]) -> Update:
    """Remember that the broker has these jobs' messages."""
    return update(Job).where(Job.id.in_(job_ids)).values(published_at=func.now())


def unpublish(job_ids: Collection[UUID]) -> Update:
    """Have queued jobs published again if no message was sent, or none is used for a claim."""
    return (
        update(Job)
        .where(Job.id.in_(job_ids), Job.state == JobState.QUEUED)
        .values(published_at=None)
    )


def unclaimed() -> Select[str, int]:
    """Count the jobs that were published some seconds ago and that nobody has claimed.

    Returns the names of the broker's queues that have any, and how many.
    """
    return select(Job.queue, func.count()).where(_is_unclaimed()).group_by(Job.queue)


def unpublish_oldest(queue: str, limit: int) -> Update:
    """Have so many unclaimed jobs of a queue published again, those published first."""
    oldest = (
        select(Job.id)
        .where(_is_unclaimed(), Job.queue == queue)
        .order_by(Job.published_at, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte()
    )
    return update(Job).where(Job.id.in_(select(oldest.c.id))).values(published_at=None)


def _is_unclaimed() -> ColumnElement[bool]:
    return and_(Job.state == JobState.QUEUED, Job.published_at < func.now() - _UNCLAIMED_AFTER)


def claim(job_id: UUID, worker: str, seconds: float) -> ReturningUpdate[str, UUID, int]:
    """Claim a job that is queued, or whose holder let its lease expire.

    Returns its kind, its subject and the attempt; nothing if somebody else works on it, or it is
    done, or gone.
    """
    return (
        update(Job)
        .where(Job.id == job_id, or_(Job.state == JobState.QUEUED, _is_expired()))
        .values(
            state=JobState.RUNNING,
            attempt=Job.attempt + 1,
            lease_until=_from_now(seconds),
            worker=worker,
        )
        .returning(Job.kind, Job.subject_id, Job.attempt)
    )


def renew(job_id: UUID, attempt: int, seconds: float) -> ReturningUpdate[UUID]:
    """Prolong a lease; returns nothing if the lease is lost."""
    return _held(job_id, attempt).values(lease_until=_from_now(seconds)).returning(Job.id)


def close(job_id: UUID, attempt: int) -> ReturningUpdate[UUID]:
    """End a job; returns nothing if the lease is lost: then nothing may be written about it."""
    return _held(job_id, attempt).values(state=JobState.DONE, lease_until=None).returning(Job.id)


def release(job_id: UUID, attempt: int) -> ReturningUpdate[UUID, None]:
    """Give a job back to the queue, and wake relays; returns nothing if the lease is lost."""
    return (
        _held(job_id, attempt)
        .values(state=JobState.QUEUED, queued_at=func.now(), lease_until=None, published_at=None)
        .returning(Job.id, _notification())
    )


def expired() -> Select[UUID, str, UUID, int]:
    """Find and lock jobs whose holders have vanished.

    Returns their ids, kinds, subjects and attempts.
    """
    return (
        select(Job.id, Job.kind, Job.subject_id, Job.attempt)
        .where(_is_expired())
        .with_for_update(skip_locked=True)
    )


def _held(job_id: UUID, attempt: int) -> Update:
    return update(Job).where(
        Job.id == job_id, Job.attempt == attempt, Job.state == JobState.RUNNING
    )


def _is_expired() -> ColumnElement[bool]:
    return and_(Job.state == JobState.RUNNING, Job.lease_until < func.now())


def _from_now(seconds: float) -> ColumnElement[datetime]:
    return func.now() + timedelta(seconds=seconds)


def _notification() -> ColumnElement[None]:
    return func.pg_notify(JOBS_CHANNEL, "")
