"""All SQL about probes."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.platform.database import RowLock, locked
from service.probes.schemas import ProbeQuery
from service.tables.probes import Probe


async def find(session: AsyncSession, probe_id: UUID, lock: RowLock = "none") -> Probe | None:
    """Return a probe that has not been deleted."""
    found = select(Probe).where(Probe.id == probe_id, Probe.deleted_at.is_(None))
    return await session.scalar(locked(found, lock))


async def find_by_name(
    session: AsyncSession, name: str, version: int | None, lock: RowLock = "none"
) -> Probe | None:
    """Return a version of a named probe; the newest for None."""
    statement = select(Probe).where(Probe.name == name, Probe.deleted_at.is_(None))
    if version is not None:
        statement = statement.where(Probe.version == version)
    return await session.scalar(locked(statement.order_by(Probe.version.desc()).limit(1), lock))


async def next_version(session: AsyncSession, name: str) -> int:
    """Return the version that a new probe of this name gets; others wait until the commit.

    Deleted versions count: a number is never given twice.
    """
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    newest = await session.scalar(select(func.max(Probe.version)).where(Probe.name == name))
    return (newest or 0) + 1


async def list_page(session: AsyncSession, query: ProbeQuery) -> Sequence[Probe]:
    """Return one entry more than the page holds, newest first."""
    statement = select(Probe).where(Probe.deleted_at.is_(None))
    if query.name is not None:
        statement = statement.where(Probe.name == query.name)
    if query.status is not None:
        statement = statement.where(Probe.status == query.status)
    page = query.page_of(statement, Probe.created_at, Probe.id)
    return (await session.scalars(page)).all()


async def mark_deleted(session: AsyncSession, probe_id: UUID) -> None:
    """Take a probe out of sight; reports that name it stay."""
    await session.execute(update(Probe).where(Probe.id == probe_id).values(deleted_at=func.now()))
