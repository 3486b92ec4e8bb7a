"""Waking requests that wait for something to change in the database."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

from service.platform.database import CONNECTION_ARGUMENTS

log = structlog.get_logger()

ANALYSES_CHANNEL = "phiscope_analyses"
"""Notified with the id of an analysis or inspection whenever its row changes."""

LOOK_AGAIN_SECONDS = 2.0
"""How often a waiting request looks again by itself, in case a notification was lost."""

_RECONNECT_SECONDS = 1.0

Read = TypeVar("Read")


class Notifications:
    """One listening connection for all waiting requests of this process.

    A notification can be lost while the connection is down, so whoever waits looks again from
    time to time anyway.

    Args:
        database_url: As SQLAlchemy writes it.
        channel: The channel to listen to.
    """

    def __init__(self, database_url: str, channel: str) -> None:
        self._conninfo = conninfo_of(database_url)
        self._channel = channel
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Listen until cancelled, connecting again whenever the database went away."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True
                ) as connection:
                    await connection.execute(f"LISTEN {self._channel}")
                    async for notification in connection.notifies():
                        for event in self._waiting.get(notification.payload, ()):
                            event.set()
            except psycopg.Error as error:
                log.warning("notifications interrupted", error=str(error).partition("\n")[0])
            except Exception:
                log.exception("notifications failed; listening again")
            # Whoever waits looks again by itself meanwhile.
            await asyncio.sleep(_RECONNECT_SECONDS)

    @asynccontextmanager
    async def subscribe(self, payload: str) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set at each notification with this payload."""
        event = asyncio.Event()
        self._waiting[payload].add(event)
        try:
            yield event
        finally:
            self._waiting[payload].discard(event)
            if not self._waiting[payload]:
                del self._waiting[payload]

    async def wait(
        self,
        payload: str,
        read: Callable[[], Awaitable[Read]],
        ended: Callable[[Read], bool],
        seconds: float,
    ) -> Read:
        """Return the state that `read` returns once it has ended, or when the time is up."""
        deadline = time.monotonic() + seconds
        async with self.subscribe(payload) as changed:
            while True:
                changed.clear()
                state = await read()
                remaining = deadline - time.monotonic()
                if ended(state) or remaining <= 0:
                    return state
                await wait_for_change(changed, min(remaining, LOOK_AGAIN_SECONDS))


async def wait_for_change(changed: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(changed.wait(), seconds)


def conninfo_of(database_url: str) -> str:
    """Write SQLAlchemy's URL as what libpq reads, with what notices a connection that is dead."""
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    return make_conninfo(url, **CONNECTION_ARGUMENTS)
