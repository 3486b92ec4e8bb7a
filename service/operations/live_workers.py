"""Which workers are there: all SQL about them, from the API's side."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.tables.workers import Device, Worker

LIVE_FOR = timedelta(seconds=60)
"""A worker that has been silent for longer is taken for dead. It speaks every ten seconds."""


async def list_live(session: AsyncSession) -> Sequence[Worker]:
    """Return the workers that have been heard of within the last minute, by name."""
    return (await session.scalars(select(Worker).where(_is_live()).order_by(Worker.name))).all()


async def has_device(session: AsyncSession, device: Device) -> bool:
    """Say whether a worker is there whose jobs compute on this device."""
    found = select(Worker.name).where(_is_live(), Worker.device == device).limit(1)
    return await session.scalar(found) is not None


def _is_live() -> ColumnElement[bool]:
    return Worker.seen_at > func.now() - LIVE_FOR
