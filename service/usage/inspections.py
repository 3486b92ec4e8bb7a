"""What other slices ask about inspections without being inspections' clients themselves."""

from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.tables import queue
from service.tables.inspections import Inspection


async def drop_of_model(session: AsyncSession, model_id: UUID) -> None:
    """Delete a model's inspections, those under way among them."""
    found = await session.scalars(select(Inspection.id).where(Inspection.model_id == model_id))
    # The jobs before the inspections, in the order in which workers lock them.
    await session.execute(queue.withdraw(found.all()))
    await session.execute(delete(Inspection).where(Inspection.model_id == model_id))
