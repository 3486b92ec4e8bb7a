"""Is the process alive, and does what it depends on answer?"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Literal

import redis.asyncio
import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.concurrency import run_in_threadpool

from service.operations import live_workers
from service.platform.migration import SchemaError, check_schema
from service.tables import queue
from service.tables.workers import Worker

log = structlog.get_logger()
router = APIRouter(tags=["health"])

_CHECK_SECONDS = 3.0
# A relay that reaches the broker publishes what is queued within a poll, which is a second.
_PUBLISHED_WITHIN = timedelta(seconds=15)


class NotPublishedError(Exception):
    """Jobs are queued, and the broker has not heard of them."""


# Errors whose text is written for whoever reads `/readyz`.
_OURS = (SchemaError, NotPublishedError)


class Check(BaseModel):
    """One dependency."""

    name: str
    ok: bool
    required: bool = Field(
        description="Whether the API is of no use without it. It takes requests without its broker."
    )
    error: str | None = Field(default=None, description="The kind of error, without its secrets.")


class Workers(BaseModel):
    """Who would take up a job now. The API takes requests whatever it says here."""

    state: Literal["ok", "degraded", "none", "unknown"] = Field(
        description="`degraded`: some run models behind one wall, without Landlock. `none`: jobs "
        "wait until a worker comes. `unknown`: the database does not answer."
    )
    live: int = Field(default=0, description="Workers heard of within the last minute.")
    with_gpu: int = Field(default=0, description="Those of them whose jobs get a GPU.")
    without_landlock: list[str] = Field(
        default=[], description="Those of them without Landlock, as `host:pid`."
    )


class Readiness(BaseModel):
    """Whether requests can be served."""

    ready: bool
    checks: list[Check]
    workers: Workers


@router.get("/livez")
async def live() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness, "description": "Not ready"}},
)
async def ready(request: Request, response: Response) -> Readiness:
    """Check each dependency by name, and tell which workers there are."""
    found, *checks = await asyncio.gather(
        _find_workers(request),
        _check("database", lambda: _check_database(request), required=True),
        _check("storage", lambda: run_in_threadpool(request.app.state.store.check), required=True),
        _check("broker", lambda: _check_broker(request), required=False),
        _check("publication", lambda: _check_publication(request), required=False),
    )
    is_ready = all(check.ok for check in checks if check.required)
    if not is_ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(ready=is_ready, checks=checks, workers=found)


async def _check(name: str, probe: Callable[[], Awaitable[None]], *, required: bool) -> Check:
    try:
        await asyncio.wait_for(probe(), _CHECK_SECONDS)
    except Exception as error:  # noqa: BLE001 - whatever keeps it from answering is the finding
        log.warning("dependency does not answer", name=name, error=str(error))
        return Check(name=name, ok=False, required=required, error=_shown(error))
    return Check(name=name, ok=True, required=required)


def _shown(error: Exception) -> str:
    """Return what may be told to strangers: our own words, the system's, or the error's name."""
    if isinstance(error, _OURS):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return type(error).__name__


async def _check_database(request: Request) -> None:
    async with request.app.state.engine.connect() as connection:
        await connection.run_sync(check_schema)


async def _check_publication(request: Request) -> None:
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    async with sessions() as session:
        longest = await session.scalar(queue.longest_due())
    if longest is not None and longest > _PUBLISHED_WITHIN:
        raise NotPublishedError(
            f"A job has waited for {longest.total_seconds():.0f} s to be given to the broker: no "
            "worker is there, or none reaches the broker."
        )


async def _find_workers(request: Request) -> Workers:
    try:
        live = await asyncio.wait_for(_live_workers(request), _CHECK_SECONDS)
    except Exception as error:  # noqa: BLE001 - as above; the check of the database says more
        log.warning("workers cannot be told", error=str(error))
        return Workers(state="unknown")
    exposed = [worker.name for worker in live if not worker.landlock]
    state: Literal["ok", "degraded", "none"] = "ok" if live else "none"
    return Workers(
        state="degraded" if exposed else state,
        live=len(live),
        with_gpu=sum(worker.device == "cuda" for worker in live),
        without_landlock=exposed,
    )


async def _live_workers(request: Request) -> Sequence[Worker]:
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    async with sessions() as session:
        return await live_workers.list_live(session)


async def _check_broker(request: Request) -> None:
    url: str | None = request.app.state.settings.broker_url
    if url is None:
        raise ValueError("PHISCOPE_BROKER_URL is not set")
    # Celery spells the URL of a Unix socket in its own way.
    address = url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)
    async with redis.asyncio.from_url(address) as client:
        await client.ping()
