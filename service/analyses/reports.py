"""Reports as they were stored, for many readers."""

from collections import OrderedDict
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from service.analyses import repository, service
from service.http.lookups import Lookups

_KEPT_BYTES = 32 * 1024 * 1024
# One large report is not to push out all others.
_LARGEST_KEPT_BYTES = _KEPT_BYTES // 8


class Reports:
    """Whether there is a report is looked up each time; its bytes, which never change, are kept.

    Args:
        sessions: For reading.
    """

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._digests = Lookups(sessions, repository.find_digests)
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    async def digest(self, analysis_id: UUID) -> str:
        """Return the digest of an analysis' report, if there is one in the database now.

        Raises:
            NotFound: There is no such analysis.
            NotReady: It has not succeeded.
        """
        found = await self._digests.find(analysis_id)
        return (await self._load(analysis_id))[1] if found is None else found

    async def content(self, analysis_id: UUID, digest: str) -> bytes:
        """Return the bytes of an analysis' report, whose digest was just found.

        Raises:
            NotFound: It has been deleted meanwhile.
        """
        content = self._kept.get(digest)
        if content is not None:
            self._kept.move_to_end(digest)
            return content
        text, _ = await self._load(analysis_id)
        content = text.encode()
        self._keep(digest, content)
        return content

    async def _load(self, analysis_id: UUID) -> tuple[str, str]:
        async with self._sessions() as session:
            return await service.get_report(session, analysis_id)

    def _keep(self, digest: str, content: bytes) -> None:
        if digest in self._kept or len(content) > _LARGEST_KEPT_BYTES:
            return
        self._kept[digest] = content
        self._kept_bytes += len(content)
        while self._kept_bytes > _KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)
