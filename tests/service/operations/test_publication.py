"""Whether /readyz says that queued jobs do not reach the broker."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session
from support import ServedApi

from service.platform.database import new_id
from service.tables import queue
from service.tables.jobs import Job, JobKind

pytestmark = pytest.mark.xdist_group("migrations")


def publication(api: ServedApi) -> dict[str, Any]:
    with api.http() as http:
        answer = http.get("/readyz").json()
    # Requests are taken all the same.
    assert answer["ready"]
    (check,) = [check for check in answer["checks"] if check["name"] == "publication"]
    return dict(check)


def test_readiness_knows_of_jobs_that_nobody_publishes(api: ServedApi) -> None:
    job_id = new_id()
    with Session(api.engine) as session, session.begin():
        # Nobody publishes those of other tests either.
        session.execute(update(Job).values(published_at=func.now()))
        session.add(Job(id=job_id, kind=JobKind.PROBE, subject_id=new_id(), queue="x", priority=3))
    # The API alone has no relay, but nothing can be said of a job that came just now.
    assert publication(api)["ok"]
    with Session(api.engine) as session, session.begin():
        old = func.now() - timedelta(minutes=2)
        session.execute(update(Job).where(Job.id == job_id).values(queued_at=old))
    check = publication(api)
    assert (check["ok"], check["required"]) == (False, False)
    assert "has waited for 12" in check["error"]
    assert "none reaches the broker" in check["error"]
    with Session(api.engine) as session, session.begin():
        session.execute(queue.mark_published([job_id]))
    assert publication(api)["ok"]
