"""Waiting for an analysis: until it has ended, or change by change."""

from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from service.analyses import repository, service
from service.analyses.schemas import AnalysisRead
from service.http.lookups import Lookups
from service.platform.notifications import LOOK_AGAIN_SECONDS, Notifications, wait_for_change
from service.tables.analyses import FINISHED, Analysis


def analyses_by_id(sessions: async_sessionmaker[AsyncSession]) -> Lookups[Analysis]:
    """Look up analyses for all who ask and wait."""
    return Lookups(sessions, repository.find_all)


class Watcher:
    """Reads analyses as they change. Holds no database connection while it waits."""

    def __init__(self, request: Request) -> None:
        self._analyses: Lookups[Analysis] = request.app.state.analyses
        self._notifications: Notifications = request.app.state.notifications

    async def read(self, analysis_id: UUID) -> AnalysisRead:
        """Return an analysis as it stands.

        Raises:
            NotFound: There is none of this id.
        """
        found = await self._analyses.find(analysis_id)
        return service.describe(service.existing(analysis_id, found))

    async def wait(self, analysis_id: UUID, seconds: float) -> AnalysisRead:
        """Return an analysis as soon as it has ended, or as it stands after so many seconds."""
        return await self._notifications.wait(
            str(analysis_id),
            lambda: self.read(analysis_id),
            lambda analysis: analysis.status in FINISHED,
            seconds,
        )

    async def follow(self, analysis_id: UUID) -> AsyncIterator[AnalysisRead]:
        """Yield an analysis now and at each change, until it has ended."""
        last: AnalysisRead | None = None
        async with self._notifications.subscribe(str(analysis_id)) as changed:
            while last is None or last.status not in FINISHED:
                changed.clear()
                analysis = await self.read(analysis_id)
                if analysis != last:
                    last = analysis
                    yield analysis
                else:
                    await wait_for_change(changed, LOOK_AGAIN_SECONDS)
