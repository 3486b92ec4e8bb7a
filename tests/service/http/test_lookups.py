import asyncio
from collections.abc import Collection, Mapping
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from service.http.lookups import Lookups

IDS = [UUID(int=number) for number in range(20)]


class Finder:
    """Finds even ids, when it is let; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[Collection[UUID]] = []
        self.may_answer = asyncio.Event()

    async def find_all(self, _: AsyncSession, ids: Collection[UUID]) -> Mapping[UUID, int]:
        self.asked.append(ids)
        await self.may_answer.wait()
        if IDS[19] in ids:
            raise ConnectionError("the database is away")
        return {each: each.int for each in ids if each.int % 2 == 0}


async def asked(lookups: Lookups[int], ids: Collection[UUID]) -> list[asyncio.Task[int | None]]:
    """Requests that have asked, and wait."""
    tasks = [asyncio.create_task(lookups.find(each)) for each in ids]
    await asyncio.sleep(0.01)
    return tasks


def test_what_is_asked_during_a_query_is_answered_by_the_next_one() -> None:
    async def ask() -> None:
        finder = Finder()
        lookups = Lookups(async_sessionmaker(), finder.find_all)
        first = await asked(lookups, IDS[:1])
        others = await asked(lookups, IDS[:9])
        finder.may_answer.set()
        assert [await task for task in first + others] == [
            0, 0, None, 2, None, 4, None, 6, None, 8
        ]  # fmt: skip
        assert [set(ids) for ids in finder.asked] == [{IDS[0]}, set(IDS[:9])]
        # Nothing is kept: who asks later has a query of its own.
        assert await lookups.find(IDS[2]) == 2
        assert len(finder.asked) == 3

    asyncio.run(ask())


def test_a_failure_is_told_to_those_it_concerns_and_ends_nothing() -> None:
    async def ask() -> None:
        finder = Finder()
        lookups = Lookups(async_sessionmaker(), finder.find_all)
        failing = await asked(lookups, [IDS[18], IDS[19]])
        later = await asked(lookups, IDS[4:6])
        finder.may_answer.set()
        for task in failing:
            with pytest.raises(ConnectionError):
                await task
        assert [await task for task in later] == [4, None]

    asyncio.run(ask())


def test_who_goes_away_disturbs_nobody() -> None:
    async def ask() -> None:
        finder = Finder()
        lookups = Lookups(async_sessionmaker(), finder.find_all)
        gone, stays = await asked(lookups, [IDS[2], IDS[2]])
        gone.cancel()
        finder.may_answer.set()
        assert await stays == 2

    asyncio.run(ask())
