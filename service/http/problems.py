"""Errors of the API as RFC 9457 problem details: one exception tree, one place that renders it."""

import errno
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, TypeVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from obstore.exceptions import BaseError
from psycopg.errors import UndefinedColumn, UndefinedTable
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.exc import DataError, ProgrammingError
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.routing import Match, Mount

from service.contract.validation import ValidationIssue, issues_of
from service.platform.database import AWAY

log = structlog.get_logger()

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_MEDIA_TYPE = "application/problem+json"
_FULL = {errno.ENOSPC, errno.EDQUOT}

Fields = TypeVar("Fields", bound=BaseModel)


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 problem details."""

    type: str = Field(description="What kind of problem; a page of the guide explains it.")
    title: str
    status: int
    detail: str = Field(description="What was wrong, what was expected, what to do.")
    instance: str | None = Field(
        default=None, description="The address; absent if the request could not be read."
    )
    code: str = Field(description="The kind again, as a stable word for programs.")
    errors: list[ValidationIssue] | None = None


class Problem(Exception):
    """An error that a client is told about.

    Args:
        detail: What was wrong, what was expected, what to do.
        errors: The single things wrong, where a request has several.
        headers: Extra response headers.
    """

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        errors: list[ValidationIssue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers


class BadRequest(Problem):
    """The request is not well-formed HTTP, or its body cannot be read."""

    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"
    title = "Bad request"


class UnknownHost(Problem):
    """The request's `Host` is not a name that this deployment answers to."""

    status = HTTPStatus.BAD_REQUEST
    code = "unknown_host"
    title = "Unknown host"


class MethodNotAllowed(Problem):
    """The address is there, but not for this method; `Allow` lists those that it is for."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "method_not_allowed"
    title = "Method not allowed"


class NotFound(Problem):
    """No such resource, or it was deleted."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"
    title = "Not found"


class InvalidRequest(Problem):
    """The request is well-formed HTTP but says something that cannot be done."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_request"
    title = "Invalid request"


class NotAModel(Problem):
    """The uploaded bytes are no model in a format that Phiscope reads."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "not_a_model"
    title = "Not a model"


class UnsafeArchive(Problem):
    """The uploaded archive is built as no exporter builds one."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "unsafe_archive"
    title = "Unsafe archive"


class DigestMismatch(Problem):
    """The bytes that arrived are not those that `Content-Digest` announced."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "digest_mismatch"
    title = "Digest mismatch"


class UploadIncomplete(Problem):
    """The request body ended early or is not well-formed."""

    status = HTTPStatus.BAD_REQUEST
    code = "upload_incomplete"
    title = "Upload incomplete"


class UnsupportedMediaType(Problem):
    """The request's `Content-Type` is not one that this address takes."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    title = "Unsupported media type"


class InUse(Problem):
    """The resource cannot be deleted while unfinished work needs it."""

    status = HTTPStatus.CONFLICT
    code = "in_use"
    title = "In use"


class BuiltIn(Problem):
    """The resource is part of Phiscope and cannot be deleted."""

    status = HTTPStatus.CONFLICT
    code = "built_in"
    title = "Built in"


class NotReady(Problem):
    """The resource exists, but has not reached the state that the request needs."""

    status = HTTPStatus.CONFLICT
    code = "not_ready"
    title = "Not ready"


class IdempotencyConflict(Problem):
    """An `Idempotency-Key` came again with a different request."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "idempotency_conflict"
    title = "Idempotency key reused"


class TooLarge(Problem):
    """The body is larger than this deployment accepts."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too_large"
    title = "Too large"


class InternalError(Problem):
    """A defect of Phiscope. Its log holds the details; please report it."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal_error"
    title = "Internal error"


class StoredFileDamaged(Problem):
    """The server's copy of a file is gone, or is no longer what was stored."""

    # Not 503, which clients and proxies answer by asking again: that mends nothing.
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "stored_file_damaged"
    title = "Stored file damaged"


class Unavailable(Problem):
    """A part that Phiscope depends on does not answer at present."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
    title = "Unavailable"


class StorageFull(Problem):
    """The server's disk has no room for what was sent."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    code = "storage_full"
    title = "Storage full"


def document_of(problem: Problem, instance: str | None = None) -> ProblemDocument:
    """Write a problem down."""
    return ProblemDocument(
        type=f"/guide/problems#{problem.code}",
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=instance,
        code=problem.code,
        errors=problem.errors,
    )


def rendered(request: Request, problem: Problem) -> JSONResponse:
    """Return the answer that tells a client of a problem."""
    return JSONResponse(
        document_of(problem, request.url.path).model_dump(exclude_none=True),
        status_code=problem.status,
        headers=dict(problem.headers or {}),
        media_type=_MEDIA_TYPE,
    )


async def _render_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101 - the handler is registered for this class
    return rendered(request, error)


async def _render_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    errors = issues_of(error.errors())
    return rendered(request, InvalidRequest(_summary(errors), errors=errors))


async def _render_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    return rendered(request, _problem_of(request, error))


def _problem_of(request: Request, error: HTTPException) -> Problem:
    """Say in our words what the framework refuses."""
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return too_large(request.scope.get(MAX_BODY_SIZE_SCOPE_KEY))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound(f"There is nothing at {request.url.path}. /docs lists what there is.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _method_not_allowed(request, error)
    if isinstance(error.__cause__, RecursionError):
        return too_deep()
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadRequest(f"{error.detail}. Check how the request is written.")
    return InternalError(str(error.detail))


def too_deep() -> InvalidRequest:
    """Return the problem of JSON that is no document of ours, whatever it holds."""
    return InvalidRequest("The body holds lists or objects nested too deep; expected a few levels.")


def too_large(limit: int | None) -> TooLarge:
    """Return the problem of a body over the limit."""
    return TooLarge(f"The request body is larger than the limit of {limit} bytes.")


def _method_not_allowed(request: Request, error: HTTPException) -> MethodNotAllowed:
    """Name the methods of all routes of the address; the framework knows those of the first."""
    found = [method for method in _METHODS if _is_routed(request, method)]
    # Where there is no route of ours there are static files, which say it themselves.
    allowed = ", ".join(found) or (error.headers or {}).get("Allow", "GET, HEAD")
    return MethodNotAllowed(
        f"{request.method} is not possible here, but {allowed}. /docs lists what is.",
        headers={"Allow": allowed},
    )


def _is_routed(request: Request, method: str) -> bool:
    # HEAD is answered wherever GET is.
    scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
    return any(
        not isinstance(route, Mount) and route.matches(scope)[0] is Match.FULL
        for route in request.app.router.routes
    )


async def _render_database_down(request: Request, error: Exception) -> JSONResponse:
    log.error("database unavailable", path=request.url.path, error=str(error).splitlines()[0])
    return await _render_problem(
        request,
        Unavailable(
            "The database does not answer. Try again shortly; /readyz tells what is missing.",
            headers={"Retry-After": "5"},
        ),
    )


async def _render_storage_down(request: Request, error: Exception) -> JSONResponse:
    log.error("storage unavailable", path=request.url.path, error=str(error))
    if isinstance(error, OSError) and error.errno in _FULL:
        return await _render_problem(
            request,
            StorageFull(
                "The server's disk is full. Nothing of this request was kept: tell its "
                "operator, and send it again once there is room."
            ),
        )
    return await _render_problem(
        request,
        Unavailable(
            "The server cannot read or write its files at present. Try again later; its operator "
            "finds the reason in the log.",
            headers={"Retry-After": "60"},
        ),
    )


async def _render_refused_statement(request: Request, error: Exception) -> JSONResponse:
    """Answer for a statement that does not fit the tables, which may be of another version."""
    assert isinstance(error, ProgrammingError)  # noqa: S101 - as above
    if not isinstance(error.orig, UndefinedTable | UndefinedColumn):
        log.error("statement refused", path=request.url.path, exc_info=error)
        return await _render_defect(request, error)
    log.error("tables of another version", path=request.url.path, error=str(error.orig))
    return await _render_problem(
        request,
        Unavailable(
            "The database's tables are not those of this version of Phiscope; /readyz says more.",
            headers={"Retry-After": "60"},
        ),
    )


async def _render_unstorable(request: Request, error: Exception) -> JSONResponse:
    log.info("refused by the database", path=request.url.path, error=type(error).__name__)
    return await _render_problem(
        request,
        InvalidRequest("A value cannot be stored or looked up: it holds NUL, or is out of range."),
    )


async def _render_defect(request: Request, _error: Exception) -> JSONResponse:
    """Render an unexpected exception; the server logs the traceback."""
    return await _render_problem(
        request, InternalError("Phiscope failed on this request. Its log says where.")
    )


def validated(kind: type[Fields], document: Any) -> Fields:
    """Check a document that FastAPI did not check for us.

    Raises:
        InvalidRequest: A field is missing, unknown or wrong.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        errors = issues_of(error.errors())
        raise InvalidRequest(_summary(errors), errors=errors) from None


def _summary(errors: list[ValidationIssue]) -> str:
    return "; ".join(f"{each.location or 'the request'}: {each.message}" for each in errors[:5])


RESPONSES: dict[int | str, dict[str, Any]] = {
    kind: {
        "description": "A problem (RFC 9457)",
        "content": {_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    for kind in ("4XX", "5XX")
}
"""The errors of every operation, for OpenAPI."""


def describe(openapi: dict[str, Any]) -> None:
    """Add what `RESPONSES` refers to; FastAPI itself would describe errors as plain JSON."""
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = openapi["components"]["schemas"]
    schemas.update(schema.pop("$defs"))
    schemas["ProblemDocument"] = schema


def install(app: FastAPI) -> None:
    """Make every error that leaves the application a problem document."""
    app.add_exception_handler(Problem, _render_problem)
    app.add_exception_handler(RequestValidationError, _render_validation)
    app.add_exception_handler(HTTPException, _render_http)
    for kind in AWAY:
        app.add_exception_handler(kind, _render_database_down)
    app.add_exception_handler(ProgrammingError, _render_refused_statement)
    app.add_exception_handler(OSError, _render_storage_down)
    app.add_exception_handler(BaseError, _render_storage_down)
    app.add_exception_handler(DataError, _render_unstorable)
    app.add_exception_handler(Exception, _render_defect)
