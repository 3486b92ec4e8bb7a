"""HTTP for inspections."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from service.inspections import service
from service.inspections.schemas import InspectionQuery, InspectionRead
from service.platform.notifications import Notifications

router = APIRouter(prefix="/v1/models", tags=["models"])

RETRY_AFTER_SECONDS = "1"


@router.get(
    "/{model_id}/inspection",
    responses={
        status.HTTP_202_ACCEPTED: {
            "model": InspectionRead,
            "description": "It has not ended yet; ask again after `Retry-After` seconds.",
        }
    },
)
async def inspect_model(
    model_id: UUID,
    request: Request,
    response: Response,
    query: Annotated[InspectionQuery, Query()],
) -> InspectionRead:
    """Show what a model takes and returns, and which of its linear layers is the head, and why.

    No data are needed: a worker runs the model on an example input. Its shape is the one that the
    request declares, else the one that the archive records, else a guess. The first request for it
    makes the inspection; the same request again is answered with the same inspection. It ends as
    `succeeded`, also for a model whose features cannot be found (`findings.refusal` says why), or
    as `failed`, if no input was found that the model takes or it cannot be loaded.
    """
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    reading: async_sessionmaker[AsyncSession] = request.app.state.reading
    notifications: Notifications = request.app.state.notifications
    # Committed before the wait, for otherwise no worker would see it.
    async with sessions.begin() as session:
        inspection_id = await service.ensure(session, model_id, query)

    async def read() -> InspectionRead:
        async with reading() as session:
            return await service.get(session, inspection_id)

    inspection = await notifications.wait(
        str(inspection_id), read, lambda found: found.finished_at is not None, query.wait
    )
    if inspection.finished_at is None:
        response.status_code = status.HTTP_202_ACCEPTED
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return inspection
