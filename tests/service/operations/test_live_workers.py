"""What the API says of workers: /readyz, and whether one has a device."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from support import ServedApi, live_worker

from service.operations import live_workers
from service.platform.database import open_async_engine
from service.platform.settings import Settings
from service.tables.workers import DEVICES, Worker

pytestmark = pytest.mark.xdist_group("migrations")


def readiness(api: ServedApi, *workers: Worker) -> dict[str, Any]:
    with Session(api.engine) as session, session.begin():
        session.add_all(workers)
    with api.http() as http:
        answer = http.get("/readyz")
    # The API takes work whoever is there to do it.
    assert answer.status_code == 200
    assert answer.json()["ready"]
    found: dict[str, Any] = answer.json()["workers"]
    return found


def test_no_worker_is_none(api: ServedApi) -> None:
    assert readiness(api) == {"state": "none", "live": 0, "with_gpu": 0, "without_landlock": []}


def test_workers_behind_both_walls_are_ok(api: ServedApi) -> None:
    assert readiness(api, live_worker("a:1"), live_worker("b:1")) == {
        "state": "ok",
        "live": 2,
        "with_gpu": 0,
        "without_landlock": [],
    }


def test_one_without_landlock_is_named(api: ServedApi) -> None:
    assert readiness(api, live_worker("a:1"), live_worker("b:1", landlock=0)) == {
        "state": "degraded",
        "live": 2,
        "with_gpu": 0,
        "without_landlock": ["b:1"],
    }


def test_one_long_silent_does_not_count(api: ServedApi) -> None:
    found = readiness(api, live_worker("a:1", silent=50), live_worker("b:1", landlock=0, silent=70))
    assert found == {"state": "ok", "live": 1, "with_gpu": 0, "without_landlock": []}


def test_a_device_is_there_while_a_live_worker_has_it(api: ServedApi) -> None:
    async def ask() -> list[bool]:
        url = api.engine.url.render_as_string(hide_password=False)
        engine = open_async_engine(Settings(database_url=url))
        async with AsyncSession(engine) as session:
            found = [await live_workers.has_device(session, device) for device in DEVICES]
        await engine.dispose()
        return found

    assert asyncio.run(ask()) == [False, False]
    readiness(api, live_worker("a:1"), live_worker("b:1", device="cuda", silent=70))
    assert asyncio.run(ask()) == [True, False]
    assert readiness(api, live_worker("c:1", device="cuda"))["with_gpu"] == 1
    assert asyncio.run(ask()) == [True, True]
