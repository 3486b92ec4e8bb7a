"""Receiving a file: into a temporary one first, so that a broken upload leaves nothing."""

import base64
import binascii
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from service.http import bundles
from service.http.problems import (
    DigestMismatch,
    InvalidRequest,
    UnsupportedMediaType,
    UploadIncomplete,
)
from service.platform.storage import sha256_of

_SHA256_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
_MAX_FIELDS = 16


@dataclass(frozen=True)
class Upload:
    """A received file and what came with it.

    Attributes:
        file: The bytes, in a temporary file, at its beginning.
        sha256: Their digest, in hexadecimal.
        size_bytes: Their count.
        fields: The form fields, or the query parameters for a raw body.
    """

    file: BinaryIO
    sha256: str
    size_bytes: int
    fields: Mapping[str, str]


@asynccontextmanager
async def receive(
    request: Request, *, raw_allowed: bool = False, most_files: int = 1
) -> AsyncIterator[Upload]:
    """Receive the request's file, verified against `Content-Digest` where that is given.

    Args:
        request: Its body is `multipart/form-data` with a part `file`, or the file itself.
        raw_allowed: Whether the body may be the file itself (`application/octet-stream`).
        most_files: How many parts `file` there may be; several are packed into one tar.

    Raises:
        UnsupportedMediaType: The body is neither.
        UploadIncomplete: The body is cut off or malformed.
        InvalidRequest: There is no part `file`, or it is empty.
        DigestMismatch: The digest is not the announced one.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        reader = _multipart(request, most_files)
    elif media_type == "application/octet-stream" and raw_allowed:
        reader = _raw(request)
    else:
        raw = " or application/octet-stream (the file as the body)" if raw_allowed else ""
        raise UnsupportedMediaType(
            f"Content-Type is {media_type or 'missing'}; expected multipart/form-data with a part "
            f"`file`{raw}."
        )
    async with reader as (file, fields):
        size = await run_in_threadpool(file.seek, 0, 2)
        if size == 0:
            raise InvalidRequest("The uploaded file is empty (0 bytes).")
        sha256 = await run_in_threadpool(sha256_of, file)
        _verify_digest(request.headers.get("content-digest"), sha256)
        yield Upload(file=file, sha256=sha256, size_bytes=size, fields=fields)


@asynccontextmanager
async def _multipart(
    request: Request, most_files: int
) -> AsyncIterator[tuple[BinaryIO, Mapping[str, str]]]:
    try:
        form = await request.form(max_files=most_files, max_fields=_MAX_FIELDS)
    except ClientDisconnect:
        raise UploadIncomplete("The connection closed before the whole body arrived.") from None
    try:
        parts = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
        if not parts:
            raise InvalidRequest(
                "The form has no complete file part named `file`. With curl: -F file=@model.pt"
            )
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
        if len(parts) == 1:
            yield parts[0].file, fields
            return
        files = bundles.by_name([(part.filename, part.file) for part in parts])
        if "content-digest" in request.headers:
            raise InvalidRequest("Content-Digest is verified for one file; several were sent.")
        with await run_in_threadpool(bundles.pack, files) as packed:
            yield packed, fields
    finally:
        await form.close()


@asynccontextmanager
async def _raw(request: Request) -> AsyncIterator[tuple[BinaryIO, Mapping[str, str]]]:
    with tempfile.TemporaryFile() as file:
        try:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
        except ClientDisconnect:
            raise UploadIncomplete("The connection closed before the whole body arrived.") from None
        yield file, dict(request.query_params)


def _verify_digest(header: str | None, sha256: str) -> None:
    """Compare with `Content-Digest` (RFC 9530); digests by other algorithms are passed over."""
    match = _SHA256_DIGEST.search(header) if header else None
    if match is None:
        return
    try:
        announced = base64.b64decode(match[1], validate=True).hex()
    except binascii.Error:
        raise InvalidRequest("Content-Digest is not `sha-256=:BASE64:`.") from None
    if announced != sha256:
        raise DigestMismatch(
            f"Content-Digest announces sha-256 {announced}, but {sha256} arrived. Upload again."
        )


def multipart_schema(
    fields: Mapping[str, Any],
    required: list[str],
    *,
    raw: bool = False,
    most_files: int = 1,
) -> dict[str, Any]:
    """Describe an upload's body for OpenAPI, since it is read as a stream and not by FastAPI."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    if most_files > 1:
        file = {"type": "array", "items": file, "minItems": 1, "maxItems": most_files}
    content: dict[str, Any] = {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": file, **fields},
                "required": ["file", *required],
            }
        }
    }
    if raw:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}
