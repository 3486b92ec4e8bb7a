"""Asking for a GPU over HTTP: where the job goes, and what is said while nobody has one."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from support import ServedApi, live_worker

from service.tables.jobs import Job

pytestmark = pytest.mark.xdist_group("migrations")


@pytest.fixture
def ask(api: ServedApi, archive: bytes) -> Any:
    """Asks for an analysis with some options."""

    def post(**options: str) -> httpx.Response:
        with api.http() as http:
            model = http.post("/v1/models", files={"file": archive}, data={"name": "anywhere"})
            return http.post(
                "/v1/analyses",
                json={
                    "model": model.json()["id"],
                    "probe": "builtin:digits",
                    "options": options,
                },
            )

    return post


def queue_of(api: ServedApi, analysis_id: str) -> str:
    with Session(api.engine) as session:
        job = session.scalars(select(Job).where(Job.subject_id == UUID(analysis_id))).one()
        return job.queue


def test_a_gpu_that_nobody_has_is_refused_at_once(ask: Any) -> None:
    answer = ask(device="cuda")
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "invalid_request"
    assert "PHISCOPE_DEVICE=cuda" in problem["detail"]


def test_a_worker_with_a_gpu_gets_the_job(api: ServedApi, ask: Any) -> None:
    with Session(api.engine) as session, session.begin():
        session.add(live_worker(device="cuda"))
    answer = ask(device="cuda")
    assert answer.status_code == 202
    assert queue_of(api, answer.json()["id"]) == "gpu"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_all_other_jobs_go_to_whichever_worker_is_free(
    api: ServedApi, ask: Any, device: str
) -> None:
    answer = ask(device=device)
    assert answer.status_code == 202
    assert queue_of(api, answer.json()["id"]) == "cpu"


def test_another_device_is_refused(ask: Any) -> None:
    assert ask(device="tpu").status_code == 422
