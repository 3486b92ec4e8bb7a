"""HTTP for charts."""

import hashlib
from uuid import UUID

from fastapi import APIRouter, Request, Response, status

from service.charts import service
from service.charts.schemas import ChartRead
from service.charts.svg import HEADERS, MEDIA_TYPE
from service.http.dependencies import ReadSession
from service.http.etags import respond
from service.http.pagination import Page

router = APIRouter(prefix="/v1/analyses/{analysis_id}/charts", tags=["charts"])


@router.get("")
async def list_charts(analysis_id: UUID, session: ReadSession) -> Page[ChartRead]:
    """List the pictures of a report."""
    return Page(items=await service.list_charts(session, analysis_id), next_cursor=None)


@router.get(
    "/{name}.svg",
    response_class=Response,
    responses={
        status.HTTP_200_OK: {"content": {MEDIA_TYPE: {}}},
        status.HTTP_304_NOT_MODIFIED: {"description": "The picture that you have is still it."},
    },
)
async def get_chart(
    analysis_id: UUID, name: str, request: Request, session: ReadSession
) -> Response:
    """Return a picture of a report. It changes only when a version draws better."""
    svg = await service.draw_chart(session, analysis_id, name)
    return respond(
        request,
        svg,
        media_type=MEDIA_TYPE,
        etag=hashlib.sha256(svg.encode()).hexdigest(),
        headers={**HEADERS, "Cache-Control": "private, no-cache"},
    )
