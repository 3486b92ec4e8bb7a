import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.orm import Session
from support import ServedApi

from service.tables.probes import Probe, ProbeStatus

pytestmark = pytest.mark.xdist_group("migrations")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def listed(api: ServedApi, name: str, **query: str) -> tuple[list[str], str | None]:
    with api.http() as http:
        answer = http.get("/v1/probes", params={"name": name, **query})
    page = answer.raise_for_status().json()
    return [each["id"] for each in page["items"]], page["next_cursor"]


def test_newest_first_is_by_the_databases_clock_whatever_the_ids_say(api: ServedApi) -> None:
    # Made one after another, by machines whose clocks disagree; the last three at one moment.
    ids = [UUID(int=number) for number in (9, 7, 8, 3, 5, 4)]
    moments = [NOON + timedelta(microseconds=min(number, 3)) for number in range(len(ids))]
    with Session(api.engine) as session, session.begin():
        session.add_all(
            Probe(
                id=identifier,
                created_at=moment,
                name="clocks",
                version=version,
                spec={},
                status=ProbeStatus.READY,
            )
            for version, (identifier, moment) in enumerate(zip(ids, moments, strict=True))
        )
    expected = [str(UUID(int=number)) for number in (5, 4, 3, 8, 7, 9)]
    assert listed(api, "clocks") == (expected, None)
    found, cursor = listed(api, "clocks", limit="1")
    while cursor is not None:
        more, cursor = listed(api, "clocks", limit="1", cursor=cursor)
        found += more
    assert found == expected


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        base64.urlsafe_b64encode(UUID(int=7).bytes).decode(),  # as earlier versions wrote it
        base64.urlsafe_b64encode(b"\x7f" + 23 * b"\xff").decode(),  # a moment that no clock shows
    ],
)
def test_a_cursor_of_another_make_is_refused_and_it_is_said_what_to_do(
    api: ServedApi, cursor: str
) -> None:
    for path in ("models", "probes", "analyses", "quarantines", "security-events"):
        with api.http() as http:
            answer = http.get(f"/v1/{path}", params={"cursor": cursor})
        assert answer.status_code == 422
        assert "leave it away to start from the newest" in answer.json()["detail"]
