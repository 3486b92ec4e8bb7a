"""What other parts ask about workers."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from service.operations import repository
from service.tables.workers import Device, Worker


async def list_live(session: AsyncSession) -> Sequence[Worker]:
    """Return the workers that have been heard of within the last minute, by name."""
    return await repository.list_live(session)


async def has_device(session: AsyncSession, device: Device) -> bool:
    """Say whether a live worker's jobs compute on this device."""
    return await repository.has_device(session, device)
