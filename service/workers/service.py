"""What other parts ask about workers."""

from collections.abc import Sequence
from typing import Literal, get_args

from sqlalchemy.ext.asyncio import AsyncSession

from service.workers import repository
from service.workers.tables import Worker

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


async def list_live(session: AsyncSession) -> Sequence[Worker]:
    """Return the workers that have been heard of within the last minute, by name."""
    return await repository.list_live(session)


async def has_device(session: AsyncSession, device: Device) -> bool:
    """Say whether a live worker's jobs compute on this device."""
    return await repository.has_device(session, device)
