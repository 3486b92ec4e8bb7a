"""HTTP for probes."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status

from service.http.dependencies import AppSettings, ReadSession, Store
from service.http.pagination import Page, split_page
from service.http.problems import InvalidRequest, too_deep
from service.http.uploads import multipart_schema, receive
from service.platform.database import Session
from service.probes import repository, service
from service.probes.schemas import PROBE_NAME, ProbeByUri, ProbeQuery, ProbeRead

router = APIRouter(prefix="/v1/probes", tags=["probes"])

# A registration by URI is a small document; whatever is larger is something else.
_MAX_JSON_BYTES = 1024 * 1024
# Shards of a table, or arrays; images are packed into a zip or tar first.
_MAX_FILES = 256


def _request_schema() -> dict[str, Any]:
    schema = multipart_schema(
        {
            "name": {"type": "string", "pattern": PROBE_NAME},
            "spec": {"type": "string", "description": "A JSON object: how the file is read."},
        },
        ["name"],
        most_files=_MAX_FILES,
    )
    schema["requestBody"]["content"]["application/json"] = {
        "schema": ProbeByUri.model_json_schema(ref_template="#/components/schemas/{model}")
    }
    return schema


@router.post("", status_code=status.HTTP_201_CREATED, openapi_extra=_request_schema())
async def register_probe(
    request: Request, response: Response, session: Session, store: Store, settings: AppSettings
) -> ProbeRead:
    """Register a probe: a form with parts `file` and `spec`, or JSON with a `uri`.

    Several parts `file` are one probe: `.npy` arrays, or parts of one table in parquet, Arrow or
    CSV. They are kept as an uncompressed tar of them, which may be uploaded as well.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        probe = await service.add_uri(session, settings, await _read_json(request))
    else:
        async with receive(request, store, most_files=_MAX_FILES) as upload:
            probe = await service.add_upload(session, store, upload)
    response.headers["Location"] = f"/v1/probes/{probe.id}"
    await session.refresh(probe)
    return ProbeRead.model_validate(probe)


@router.get("")
async def list_probes(
    session: ReadSession, query: Annotated[ProbeQuery, Query()]
) -> Page[ProbeRead]:
    """List probes, newest first."""
    rows, cursor = split_page(await repository.list_page(session, query), query.limit)
    return Page(items=[ProbeRead.model_validate(row) for row in rows], next_cursor=cursor)


@router.get("/{reference}")
async def get_probe(reference: str, session: ReadSession) -> ProbeRead:
    """Return one probe, by id, name (the newest version) or `name@version`."""
    return ProbeRead.model_validate(await service.get(session, reference))


@router.delete("/{reference}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_probe(reference: str, session: Session, store: Store) -> None:
    """Delete a probe. Reports on it stay."""
    await service.delete(session, store, reference)


async def _read_json(request: Request) -> Any:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_JSON_BYTES:
            raise InvalidRequest(f"A JSON registration holds at most {_MAX_JSON_BYTES} bytes.")
    try:
        return json.loads(body)
    except RecursionError:
        raise too_deep() from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from None
