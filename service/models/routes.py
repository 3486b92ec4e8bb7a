"""HTTP for models."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse

from service.http.dependencies import ReadSession, Store
from service.http.downloads import stored_file
from service.http.pagination import Page, split_page
from service.http.uploads import multipart_schema, receive
from service.models import repository, service
from service.models.schemas import ModelQuery, ModelRead
from service.platform.database import Session

router = APIRouter(prefix="/v1/models", tags=["models"])

_FIELDS: dict[str, Any] = {
    "name": {"type": "string", "minLength": 1, "maxLength": 200},
    "run": {
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
        "description": "The run it is a checkpoint of.",
    },
    "step": {"type": "integer", "minimum": 0, "description": "The step of that run."},
    "metadata": {"type": "string", "description": "A JSON object, kept and given back."},
}

_PARAMETERS = [
    {
        "name": name,
        "in": "query",
        "schema": schema,
        "description": "Like the form field, for a file that is sent as the body.",
    }
    for name, schema in _FIELDS.items()
]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses={
        status.HTTP_200_OK: {
            "model": ModelRead,
            "description": "The same bytes are there already under this name, run and step. That "
            "model is given as it is; where the upload came with other metadata, `notice` says so.",
        }
    },
    openapi_extra=multipart_schema(_FIELDS, ["name"], raw=True) | {"parameters": _PARAMETERS},
)
async def upload_model(
    request: Request, response: Response, session: Session, store: Store
) -> ModelRead:
    """Upload a model: a form with part `file`, or the file as the body with query parameters."""
    async with receive(request, store, raw_allowed=True) as upload:
        added = await service.add(session, store, upload)
    response.headers["Location"] = f"/v1/models/{added.model.id}"
    if not added.is_new:
        response.status_code = status.HTTP_200_OK
    return ModelRead.model_validate(added.model).model_copy(update={"notice": added.notice})


@router.get("")
async def list_models(
    session: ReadSession, query: Annotated[ModelQuery, Query()]
) -> Page[ModelRead]:
    """List models, newest first."""
    rows, cursor = split_page(await repository.list_page(session, query), query.limit)
    return Page(items=[ModelRead.model_validate(row) for row in rows], next_cursor=cursor)


@router.get("/{model_id}")
async def get_model(model_id: UUID, session: ReadSession) -> ModelRead:
    """Return one model."""
    return ModelRead.model_validate(await service.get(session, model_id))


@router.get("/{model_id}/content", response_class=StreamingResponse)
async def get_model_content(model_id: UUID, session: Session, store: Store) -> StreamingResponse:
    """Return the model's bytes, as they were uploaded."""
    model = await service.get(session, model_id)
    return await stored_file(
        store,
        model.sha256,
        called="the model",
        media_type="application/octet-stream",
        filename=f"{model.id}.pt",
    )


@router.delete("/{model_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_model(model_id: UUID, session: Session, store: Store) -> None:
    """Delete a model. Reports about it stay."""
    await service.delete(session, store, model_id)
