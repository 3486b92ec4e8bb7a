"""HTTP for analyses."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.analyses import repository, service
from service.analyses.reports import Reports
from service.analyses.schemas import AnalysisCreate, AnalysisQuery, AnalysisRead, ArtifactRead
from service.analyses.watching import Watcher
from service.http.dependencies import ReadSession, Store
from service.http.downloads import stored_file
from service.http.etags import has, respond
from service.http.pagination import Page, split_page
from service.platform.database import Session
from service.probes import service as probes
from service.report.document import Report
from service.tables.analyses import FINISHED, UNFINISHED

router = APIRouter(prefix="/v1/analyses", tags=["analyses"])

MAX_WAIT_SECONDS = 60
RETRY_AFTER_SECONDS = "1"


@router.post("", status_code=status.HTTP_202_ACCEPTED)
async def create_analysis(
    body: AnalysisCreate,
    response: Response,
    session: Session,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="Repeating a request with the same key makes no second analysis.",
        ),
    ] = None,
) -> AnalysisRead:
    """Judge a model on a probe. One that has succeeded before is answered again, finished."""
    analysis = await service.create(session, body, idempotency_key)
    response.headers["Location"] = f"/v1/analyses/{analysis.id}"
    if analysis.status in UNFINISHED:
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return service.describe(analysis)


@router.get("")
async def list_analyses(
    session: ReadSession, query: Annotated[AnalysisQuery, Query()]
) -> Page[AnalysisRead]:
    """List analyses, newest first."""
    probe_id = None if query.probe is None else (await probes.get(session, query.probe)).id
    found = await repository.list_page(session, query, probe_id)
    rows, cursor = split_page(found, query.limit)
    return Page(items=[service.describe(row) for row in rows], next_cursor=cursor)


@router.get("/{analysis_id}")
async def get_analysis(
    analysis_id: UUID,
    watcher: Annotated[Watcher, Depends()],
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the analysis to end."),
    ] = 0,
) -> AnalysisRead:
    """Return an analysis; with `wait`, as soon as it has ended."""
    return await watcher.wait(analysis_id, wait)


async def _existing(analysis_id: UUID, session: Session) -> UUID:
    """Answer 404 before the stream begins, for then it is too late."""
    return (await service.get(session, analysis_id)).id


@router.get("/{analysis_id}/events", response_class=EventSourceResponse)
async def stream_events(
    analysis_id: Annotated[UUID, Depends(_existing)], watcher: Annotated[Watcher, Depends()]
) -> AsyncIterator[ServerSentEvent]:
    """Stream `progress` events, then one of `succeeded`, `failed`, `cancelled`."""
    async for analysis in watcher.follow(analysis_id):
        name = analysis.status if analysis.status in FINISHED else "progress"
        yield ServerSentEvent(event=name, data=analysis)


@router.post("/{analysis_id}/cancel")
async def cancel_analysis(analysis_id: UUID, session: Session) -> AnalysisRead:
    """Stop an analysis that is queued or running. One that has ended stays as it is."""
    return service.describe(await service.cancel(session, analysis_id))


@router.get(
    "/{analysis_id}/report",
    response_class=Response,
    responses={
        status.HTTP_200_OK: {"model": Report},
        status.HTTP_304_NOT_MODIFIED: {"description": "The report that you have is still it."},
    },
)
async def get_report(analysis_id: UUID, request: Request) -> Response:
    """Return the report. It never changes."""
    reports: Reports = request.app.state.reports
    digest = await reports.digest(analysis_id)
    content = b"" if has(request, digest) else await reports.content(analysis_id, digest)
    return respond(
        request,
        content,
        media_type="application/json",
        etag=digest,
        headers={"Cache-Control": "private, max-age=31536000, immutable"},
    )


@router.get("/{analysis_id}/artifacts")
async def list_artifacts(analysis_id: UUID, session: ReadSession) -> Page[ArtifactRead]:
    """List the files that came out of an analysis."""
    await service.get(session, analysis_id)
    artifacts = await repository.list_artifacts(session, analysis_id)
    return Page(items=[service.describe_artifact(entry) for entry in artifacts], next_cursor=None)


@router.get("/{analysis_id}/artifacts/{name}", response_class=StreamingResponse)
async def get_artifact(
    analysis_id: UUID, name: str, session: Session, store: Store
) -> StreamingResponse:
    """Return one file."""
    artifact = await service.get_artifact(session, analysis_id, name)
    return await stored_file(
        store,
        artifact.sha256,
        called="this file",
        media_type=artifact.media_type,
        filename=artifact.name,
    )
