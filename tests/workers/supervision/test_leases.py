import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.tables import queue
from service.tables.jobs import Job, JobKind, JobState
from workers.supervision import leases

pytestmark = pytest.mark.xdist_group("migrations")


@pytest.fixture
def session(shared_engine: Engine) -> Iterator[Session]:
    # Each statement its own transaction: now() must move on.
    with Session(shared_engine.execution_options(isolation_level="AUTOCOMMIT")) as opened:
        yield opened


@pytest.fixture
def job(session: Session) -> UUID:
    queued = Job(kind=JobKind.PROBE, subject_id=uuid4(), queue="cpu", priority=3)
    session.add(queued)
    session.flush()
    return queued.id


def test_a_job_is_claimed_once(session: Session, job: UUID) -> None:
    lease = leases.claim(session, job, "one", 60)
    assert lease is not None
    assert lease.attempt == 1
    assert leases.claim(session, job, "two", 60) is None
    assert leases.claim(session, uuid4(), "two", 60) is None


def test_whoever_lost_the_lease_changes_nothing(session: Session, job: UUID) -> None:
    stale = leases.claim(session, job, "slow", 0.01)
    assert stale is not None
    time.sleep(0.05)
    fresh = leases.claim(session, job, "quick", 60)
    assert fresh is not None
    assert fresh.attempt == 2
    assert not leases.renew(session, stale, 60)
    assert not leases.release(session, stale)
    assert not leases.close(session, stale)
    assert leases.renew(session, fresh, 60)
    assert leases.close(session, fresh)
    assert not leases.close(session, fresh)
    assert leases.claim(session, job, "late", 60) is None


def test_a_released_job_is_queued_and_unpublished(session: Session, job: UUID) -> None:
    lease = leases.claim(session, job, "one", 60)
    assert lease is not None
    assert leases.release(session, lease)
    session.expire_all()
    row = session.get_one(Job, job)
    assert (row.state, row.published_at, row.lease_until) == (JobState.QUEUED, None, None)
    again = leases.claim(session, job, "two", 60)
    assert again is not None
    assert again.attempt == 2


def test_a_message_used_up_unclaimed_is_published_again(session: Session, job: UUID) -> None:
    row = session.get_one(Job, job)
    row.published_at = datetime.now(UTC)
    session.flush()
    session.execute(queue.unpublish([job]))
    session.expire_all()
    assert session.get_one(Job, job).published_at is None
