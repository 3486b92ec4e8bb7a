"""HTTP for quarantines and security events."""

from typing import Annotated

from fastapi import APIRouter, Query, status

from service.http.dependencies import ReadSession
from service.http.fields import Sha256
from service.http.pagination import Page, split_page
from service.platform.database import Session
from service.security import repository, service
from service.security.schemas import (
    QuarantineQuery,
    QuarantineRead,
    SecurityEventQuery,
    SecurityEventRead,
)

router = APIRouter(prefix="/v1", tags=["security"])


@router.get("/quarantines")
async def list_quarantines(
    session: ReadSession, query: Annotated[QuarantineQuery, Query()]
) -> Page[QuarantineRead]:
    """List the files that no job opens, those quarantined last first."""
    rows, cursor = split_page(await repository.list_quarantines(session, query), query.limit)
    return Page(items=[QuarantineRead.model_validate(row) for row in rows], next_cursor=cursor)


@router.get("/quarantines/{sha256}")
async def get_quarantine(sha256: Sha256, session: ReadSession) -> QuarantineRead:
    """Return a file's quarantine: since when, and why."""
    return QuarantineRead.model_validate(await service.get(session, sha256))


@router.delete("/quarantines/{sha256}", status_code=status.HTTP_204_NO_CONTENT)
async def release_quarantine(sha256: Sha256, session: Session) -> None:
    """Release a file: jobs open it again, and its strikes count from zero. For the operator."""
    await service.release(session, sha256)


@router.get("/security-events")
async def list_security_events(
    session: ReadSession, query: Annotated[SecurityEventQuery, Query()]
) -> Page[SecurityEventRead]:
    """List what an operator has to know of, newest first."""
    rows, cursor = split_page(await repository.list_events(session, query), query.limit)
    return Page(items=[SecurityEventRead.model_validate(row) for row in rows], next_cursor=cursor)
