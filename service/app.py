"""The HTTP application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from fastapi import FastAPI
from obstore.exceptions import BaseError
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import async_sessionmaker
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from service import __version__
from service.analyses import routes as analyses
from service.analyses.reports import Reports
from service.analyses.watching import analyses_by_id
from service.charts import routes as charts
from service.guide import routes as guide
from service.http import problems
from service.http.application import Application
from service.inspections import routes as inspections
from service.models import routes as models
from service.operations import health, metrics
from service.platform.database import AWAY, open_async_engine, require_database_url
from service.platform.notifications import ANALYSES_CHANNEL, Notifications
from service.platform.settings import MIB, Settings
from service.platform.storage import BlobStore
from service.probes import builtin
from service.probes import routes as probes
from service.report import routes as schemas
from service.security import routes as security

log = structlog.get_logger()

# Room for the form fields around an uploaded file.
_FORM_BYTES = MIB
# What could not be done at the start, since something was away, is tried so often.
_TRY_AGAIN_SECONDS = 2.0
_MAY_PASS: tuple[type[Exception], ...] = (*AWAY, ProgrammingError, OSError, BaseError)

_DESCRIPTION = """
Phiscope shows what a neural network has learned, and says whether it learned it with the fewest
features it needs. Upload a TorchScript model, name a probe dataset, and read the report.
[The guide](/guide) explains every figure and every error.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application. Nothing is connected before it starts serving.

    Raises:
        ValueError: A setting it needs is missing.
    """
    settings = settings or Settings()
    require_database_url(settings)
    app = Application(
        title="Phiscope",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        max_body_size=MIB,
        docs_url=None,  # ours needs no internet
        redoc_url=None,
        responses=problems.RESPONSES,
    )
    app.state.settings = settings
    if "*" not in settings.allowed_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts)
    problems.install(app)
    app.include_router(models.router, max_body_size=settings.max_model_bytes + _FORM_BYTES)
    app.include_router(probes.router, max_body_size=settings.max_probe_bytes + _FORM_BYTES)
    app.include_router(analyses.router)
    app.include_router(charts.router)
    app.include_router(inspections.router)
    app.include_router(security.router)
    app.include_router(schemas.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(guide.router)
    app.mount("/static", StaticFiles(directory=guide.STATIC), name="static")
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    engine = open_async_engine(settings)
    app.state.engine = engine
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    # Each statement by itself: what only reads need not begin and end a transaction.
    reading = async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"))
    app.state.reading = reading
    app.state.reports = Reports(reading)
    app.state.analyses = analyses_by_id(reading)
    app.state.store = BlobStore(settings.blob_url)
    # It is in nobody's way: where the store cannot be searched now, the next start does it.
    with suppress(OSError):
        await run_in_threadpool(app.state.store.remove_left_behind)
    app.state.notifications = Notifications(require_database_url(settings), ANALYSES_CHANNEL)
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(app.state.notifications.run())]
    if not await _ensure_builtin(app):
        tasks.append(asyncio.create_task(_ensure_builtin_later(app)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await engine.dispose()


async def _ensure_builtin(app: FastAPI) -> bool:
    """See that the built-in probe is there; return whether database and storage let it be done."""
    try:
        await builtin.ensure(app.state.sessions, app.state.store)
    except _MAY_PASS as error:
        log.warning("built-in probe not registered", error=str(error).partition("\n")[0])
        return False
    return True


async def _ensure_builtin_later(app: FastAPI) -> None:
    while True:
        await asyncio.sleep(_TRY_AGAIN_SECONDS)
        if await _ensure_builtin(app):
            return
