"""Looking up by id what many requests ask for at once, with few queries."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

Found = TypeVar("Found")


class Lookups(Generic[Found]):
    """One query at a time, for all that was asked while the one before was running.

    So each answer is as fresh as from a query of one's own: its query begins after it was asked.
    A connection is held only while there is something to answer.

    Args:
        sessions: For reading, each statement by itself.
        find_all: Finds what there is of these ids.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        find_all: Callable[[AsyncSession, Collection[UUID]], Awaitable[Mapping[UUID, Found]]],
    ) -> None:
        self._sessions = sessions
        self._find_all = find_all
        self._asked: list[tuple[UUID, asyncio.Future[Found | None]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def find(self, wanted: UUID) -> Found | None:
        """Return what there is of this id."""
        answer: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._asked.append((wanted, answer))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                await self._answer_while_asked()
        finally:
            self._answering = None

    async def _answer_while_asked(self) -> None:
        """Answer on one connection until nobody asks, or it fails those who asked last."""
        asked = self._take()
        try:
            async with self._sessions() as session:
                while asked:
                    found = await self._find_all(session, {wanted for wanted, _ in asked})
                    for wanted, answer in asked:
                        # Done already: who asked has gone.
                        if not answer.done():
                            answer.set_result(found.get(wanted))
                    # Whose requests have arrived meanwhile come along.
                    await asyncio.sleep(0)
                    asked = self._take()
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)

    def _take(self) -> list[tuple[UUID, asyncio.Future[Found | None]]]:
        asked, self._asked = self._asked, []
        return asked
