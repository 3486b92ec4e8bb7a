"""All SQL about security events and quarantines, from the API's side."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.contract.security_events import SecurityEvent
from service.http.pagination import PageQuery
from service.security.schemas import SecurityEventQuery
from service.tables.security import Event, Quarantine, lock_of


async def list_events(session: AsyncSession, query: SecurityEventQuery) -> Sequence[Event]:
    """Return one entry more than the page holds, newest first."""
    statement = select(Event)
    if query.event is not None:
        statement = statement.where(Event.event == query.event)
    if query.sha256 is not None:
        statement = statement.where(Event.sha256 == query.sha256)
    page = query.page_of(statement, Event.created_at, Event.id)
    return (await session.scalars(page)).all()


async def count_events(session: AsyncSession) -> dict[str, int]:
    """Return how many events of each kind there have been."""
    rows = await session.execute(select(Event.event, func.count()).group_by(Event.event))
    return dict(rows.all())


async def list_quarantines(session: AsyncSession, query: PageQuery) -> Sequence[Quarantine]:
    """Return one entry more than the page holds, newest first."""
    page = query.page_of(select(Quarantine), Quarantine.created_at, Quarantine.id)
    return (await session.scalars(page)).all()


async def count_quarantines(session: AsyncSession) -> int:
    """Return how many files are quarantined."""
    return (await session.scalars(select(func.count()).select_from(Quarantine))).one()


async def find_quarantine(session: AsyncSession, sha256: str) -> Quarantine | None:
    """Return the quarantine of a file."""
    return await session.get(Quarantine, sha256)


async def release(session: AsyncSession, sha256: str) -> bool:
    """End a file's quarantine and put that on record; its strikes count from here anew.

    Returns:
        Whether it was quarantined.
    """
    await session.execute(lock_of(sha256))
    strikes = await session.scalar(
        delete(Quarantine).where(Quarantine.sha256 == sha256).returning(Quarantine.strikes)
    )
    if strikes is None:
        return False
    session.add(
        Event(
            event=SecurityEvent.RELEASED,
            sha256=sha256,
            digests={},
            message=f"Released after {strikes} strikes.",
        )
    )
    return True
