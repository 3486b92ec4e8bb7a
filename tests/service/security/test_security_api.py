from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session
from support import ServedApi

from service.contract.security_events import SecurityEvent
from service.platform.database import Base
from service.tables.jobs import JobKind
from service.tables.security import Event, Quarantine

pytestmark = pytest.mark.xdist_group("migrations")

A, B = "a" * 64, "b" * 64


def keep(api: ServedApi, *rows: Base) -> None:
    with Session(api.engine) as session, session.begin():
        for row in rows:
            session.add(row)
            session.flush()  # in this order


def event(what: SecurityEvent = SecurityEvent.CRASHED, sha256: str | None = A) -> Event:
    return Event(
        event=what,
        sha256=sha256,
        digests={"model": A, "probe": B},
        job_id=uuid4(),
        kind=JobKind.ANALYSIS,
        subject_id=uuid4(),
        attempt=1,
        worker="host:1",
        message="It crashed.",
    )


def quarantine(sha256: str) -> Quarantine:
    return Quarantine(sha256=sha256, strikes=3, reason="3 × crashed")


def get(api: ServedApi, path: str, **query: str) -> Any:
    with api.http() as http:
        answer = http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


def test_a_quarantined_file_is_told_with_its_reason(api: ServedApi) -> None:
    keep(api, quarantine(A))
    told = get(api, f"/v1/quarantines/{A}")
    assert {key: told[key] for key in ("sha256", "strikes", "reason")} == {
        "sha256": A,
        "strikes": 3,
        "reason": "3 × crashed",
    }
    assert told["created_at"]
    assert get(api, "/v1/quarantines")["items"] == [told]


def test_a_release_is_final_and_on_record(api: ServedApi) -> None:
    keep(api, quarantine(A), quarantine(B))
    with api.http() as http:
        assert http.delete(f"/v1/quarantines/{A}").status_code == 204
        again = http.delete(f"/v1/quarantines/{A}")
        assert http.get(f"/v1/quarantines/{A}").status_code == 404
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert [each["sha256"] for each in get(api, "/v1/quarantines")["items"]] == [B]
    (released,) = get(api, "/v1/security-events")["items"]
    assert (released["event"], released["sha256"]) == ("released", A)
    assert released["job_id"] is None
    assert "3 strikes" in released["message"]


def test_events_are_told_in_full_and_found_by_what_and_whom(api: ServedApi) -> None:
    rows = [event(), event(SecurityEvent.POLICY_VIOLATION, B), event(SecurityEvent.CRASHED, B)]
    keep(api, *rows, event(SecurityEvent.NOT_CONFINED, None))
    newest, *_, oldest = get(api, "/v1/security-events")["items"]
    assert (newest["event"], newest["sha256"]) == ("not_confined", None)
    assert {key: value for key, value in oldest.items() if "id" not in key} == {
        "created_at": oldest["created_at"],
        "event": "crashed",
        "sha256": A,
        "digests": {"model": A, "probe": B},
        "kind": "analysis",
        "attempt": 1,
        "worker": "host:1",
        "message": "It crashed.",
    }
    assert len(get(api, "/v1/security-events", event="crashed")["items"]) == 2
    assert len(get(api, "/v1/security-events", sha256=B)["items"]) == 2
    (only,) = get(api, "/v1/security-events", sha256=B, event="crashed")["items"]
    assert (only["event"], only["sha256"]) == ("crashed", B)


@pytest.mark.parametrize("path", ["/v1/security-events", "/v1/quarantines"])
def test_lists_are_paged_newest_first(api: ServedApi, path: str) -> None:
    digests = [str(k) * 64 for k in range(5)]
    for digest in digests:
        keep(api, quarantine(digest), event(sha256=digest))
    first = get(api, path, limit="3")
    assert [each["sha256"] for each in first["items"]] == digests[:1:-1]
    rest = get(api, path, limit="3", cursor=first["next_cursor"])
    assert [each["sha256"] for each in rest["items"]] == digests[1::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/quarantines/abc",
        f"/v1/quarantines/{A.upper()}",
        "/v1/quarantines?limit=201",
        "/v1/quarantines?cursor=x",
        "/v1/quarantines?sha=typo",
        "/v1/security-events?event=earthquake",
        "/v1/security-events?sha256=abc",
        "/v1/security-events?evnet=crashed",
    ],
)
def test_a_wrong_request_is_refused(api: ServedApi, path: str) -> None:
    with api.http() as http:
        answer = http.get(path)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_call_is_described(api: ServedApi) -> None:
    paths = get(api, "/openapi.json")["paths"]
    calls = [call for path in paths if "/quarantines" in path or "/security-" in path
             for call in paths[path].values()]  # fmt: skip
    assert len(calls) == 4
    assert all(call["description"] and call["tags"] == ["security"] for call in calls)
