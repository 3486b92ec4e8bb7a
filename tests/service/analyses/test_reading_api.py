"""Reading, without a worker: reports as they are stored, and waiting that costs nothing."""

import asyncio
import hashlib
from uuid import UUID

import httpx
import pytest
from sqlalchemy import delete, text
from sqlalchemy.orm import Session
from support import ServedApi

from service.contract.options import Options
from service.platform.database import new_id
from service.tables.analyses import Analysis, Report, Status
from service.tables.models import Model
from service.tables.probes import Probe, ProbeStatus

pytestmark = pytest.mark.xdist_group("migrations")

# More than the connections to the database that a process may open.
WAITING = 30


def keep(api: ServedApi, document: str | None = None) -> UUID:
    """Add an analysis; one with a report has succeeded, others are queued."""
    name = new_id().hex
    with Session(api.engine, expire_on_commit=False) as session, session.begin():
        model = Model(name=name, sha256="0" * 64, size_bytes=1, format="torchscript", metadata_={})
        probe = Probe(name=name, version=1, spec={}, status=ProbeStatus.READY)
        session.add_all([model, probe])
        session.flush()
        analysis = Analysis(
            model_id=model.id,
            probe_id=probe.id,
            options=Options().model_dump(mode="json"),
            priority="normal",
            status=Status.QUEUED if document is None else Status.SUCCEEDED,
            progress={"stage": "queued", "done": 0, "total": 0},
            fingerprint=name,
        )
        session.add(analysis)
        session.flush()
        if document is not None:
            digest = hashlib.sha256(document.encode()).hexdigest()
            session.add(Report(analysis_id=analysis.id, document=document, sha256=digest))
    return analysis.id


def test_a_report_is_given_as_it_was_stored_or_not_again(api: ServedApi) -> None:
    document = '{"ρ":   [1.0, 1e-3]}'
    path = f"/v1/analyses/{keep(api, document)}/report"
    with api.http() as http:
        for _ in range(2):
            first = http.get(path)
            assert (first.status_code, first.content) == (200, document.encode())
            assert first.headers["content-type"] == "application/json"
            again = http.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
            other = http.get(path, headers={"If-None-Match": '"another"'})
            assert other.content == document.encode()


def test_reports_that_are_alike_are_each_their_own(api: ServedApi) -> None:
    one, other = keep(api, "{}"), keep(api, "{}")
    with api.http() as http:
        assert {http.get(f"/v1/analyses/{each}/report").text for each in (one, other)} == {"{}"}


def test_a_deleted_report_is_gone_at_once_although_it_was_just_read(api: ServedApi) -> None:
    analysis_id = keep(api, '{"gone": true}')
    path = f"/v1/analyses/{analysis_id}/report"
    with api.http() as http:
        etag = http.get(path).raise_for_status().headers["etag"]
        with Session(api.engine) as session, session.begin():
            session.execute(delete(Report).where(Report.analysis_id == analysis_id))
            session.execute(delete(Analysis).where(Analysis.id == analysis_id))
        for headers in ({}, {"If-None-Match": etag}):
            assert http.get(path, headers=headers).status_code == 404


def test_without_a_report_it_is_said_why(api: ServedApi) -> None:
    with api.http() as http:
        answer = http.get(f"/v1/analyses/{keep(api)}/report")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_ready")
        assert http.get(f"/v1/analyses/{new_id()}/report").status_code == 404


@pytest.mark.parametrize("address", ["?wait=60", "/events"])
def test_whoever_waits_holds_no_connection_to_the_database(api: ServedApi, address: str) -> None:
    analysis_id = keep(api)

    async def wait_and_read() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=api.url, timeout=60, limits=limits) as http:
            path = f"/v1/analyses/{analysis_id}"
            waiting = [asyncio.create_task(http.get(path + address)) for _ in range(WAITING)]
            await asyncio.sleep(1)
            with api.engine.connect() as connection:
                held = connection.scalar(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid() AND state <> 'idle'"
                    )
                )
            assert held == 0
            assert (await http.get("/v1/models")).status_code == 200
            assert not any(task.done() for task in waiting)
            (await http.post(f"{path}/cancel")).raise_for_status()
            answers = await asyncio.gather(*waiting)
        assert all("cancelled" in answer.text for answer in answers)

    asyncio.run(wait_and_read())


def test_the_head_of_a_stream_does_not_wait_for_its_events(api: ServedApi) -> None:
    with httpx.Client(base_url=api.url, timeout=30) as http:
        head = http.head(f"/v1/analyses/{keep(api)}/events")
        assert head.headers["content-type"].startswith("text/event-stream")
        assert (head.status_code, head.content) == (200, b"")
