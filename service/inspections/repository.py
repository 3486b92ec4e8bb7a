"""All SQL about inspections, from the API's side."""

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from service.contract.failures import FailureCode
from service.contract.inspection import InspectionRequest
from service.platform.database import new_id
from service.tables.inspections import Inspection, InspectionStatus


async def find(session: AsyncSession, inspection_id: UUID) -> Inspection | None:
    """Return an inspection."""
    return await session.get(Inspection, inspection_id, populate_existing=True)


async def add(
    session: AsyncSession, model_id: UUID, request: InspectionRequest, fingerprint: str
) -> UUID | None:
    """Add an inspection unless there is one of this fingerprint.

    A second request for the same waits here until the first one has committed.
    """
    return await session.scalar(
        insert(Inspection)
        .values(
            id=new_id(),
            model_id=model_id,
            request=request.model_dump(mode="json"),
            fingerprint=fingerprint,
        )
        .on_conflict_do_nothing()
        .returning(Inspection.id)
    )


async def reopen(session: AsyncSession, fingerprint: str) -> UUID | None:
    """Queue an inspection again that was not really made, and may be made now.

    Its workers vanished, or the model was quarantined and may have been released since.
    """
    return await session.scalar(
        update(Inspection)
        .where(
            Inspection.fingerprint == fingerprint,
            Inspection.status == InspectionStatus.FAILED,
            Inspection.error["code"].astext.in_((FailureCode.LOST, FailureCode.QUARANTINED)),
        )
        .values(status=InspectionStatus.QUEUED, error=None, finished_at=None)
        .returning(Inspection.id)
    )


async def find_by_fingerprint(session: AsyncSession, fingerprint: str) -> UUID:
    """Return the id of the inspection of this fingerprint, which exists."""
    found = await session.scalars(
        select(Inspection.id).where(Inspection.fingerprint == fingerprint)
    )
    return found.one()
