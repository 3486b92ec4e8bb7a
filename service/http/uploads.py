"""Receiving a file: into one that is incoming first, so that a broken upload leaves nothing."""

import base64
import binascii
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from service.http import bundles
from service.http.forms import FormParser, IncomingPart, Sink
from service.http.problems import (
    DigestMismatch,
    InvalidRequest,
    UnsupportedMediaType,
    UploadIncomplete,
)
from service.platform.incoming import Incoming
from service.platform.storage import BlobStore

_SHA256_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
_MAX_FIELDS = 16


@dataclass(frozen=True)
class Upload:
    """A received file and what came with it.

    Attributes:
        incoming: The bytes, their digest and their count; its file is at its beginning.
        fields: The form fields, or the query parameters for a raw body.
    """

    incoming: Incoming
    fields: Mapping[str, str]


@asynccontextmanager
async def receive(
    request: Request, store: BlobStore, *, raw_allowed: bool = False, most_files: int = 1
) -> AsyncIterator[Upload]:
    """Receive the request's file, verified against `Content-Digest` where that is given.

    Args:
        request: Its body is `multipart/form-data` with a part `file`, or the file itself.
        store: Where it may be kept.
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
        reader = _multipart(request, store, most_files)
    elif media_type == "application/octet-stream" and raw_allowed:
        reader = _raw(request, store)
    else:
        raw = " or application/octet-stream (the file as the body)" if raw_allowed else ""
        raise UnsupportedMediaType(
            f"Content-Type is {media_type or 'missing'}; expected multipart/form-data with a part "
            f"`file`{raw}."
        )
    async with reader as upload:
        if upload.incoming.size_bytes == 0:
            raise InvalidRequest("The uploaded file is empty (0 bytes).")
        _verify_digest(request.headers.get("content-digest"), upload.incoming.sha256)
        yield upload


@asynccontextmanager
async def _multipart(request: Request, store: BlobStore, most_files: int) -> AsyncIterator[Upload]:
    with ExitStack() as opened:
        parser = FormParser(
            request.headers,
            request.stream(),
            lambda: opened.enter_context(store.incoming()),
            max_files=most_files,
            max_fields=_MAX_FIELDS,
        )
        form = await _parsed(parser)
        opened.callback(_close, form)
        parts = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
        if not parts:
            raise InvalidRequest(
                "The form has no complete file part named `file`. With curl: -F file=@model.pt"
            )
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
        if len(parts) == 1 and isinstance(parts[0], IncomingPart):
            yield Upload(parts[0].incoming, fields)
            return
        if len(parts) == 1:
            file = parts[0].file
        else:
            files = bundles.by_name([(part.filename, part.file) for part in parts])
            if "content-digest" in request.headers:
                raise InvalidRequest("Content-Digest is verified for one file; several were sent.")
            file = opened.enter_context(await run_in_threadpool(bundles.pack, files))
        incoming = opened.enter_context(store.incoming())
        await run_in_threadpool(incoming.copy, file)
        yield Upload(incoming, fields)


async def _parsed(parser: FormParser) -> FormData:
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise HTTPException(status_code=400, detail=error.message) from None
    except ClientDisconnect:
        raise UploadIncomplete("The connection closed before the whole body arrived.") from None


def _close(form: FormData) -> None:
    for part in form.values():
        if isinstance(part, UploadFile):
            part.file.close()


@asynccontextmanager
async def _raw(request: Request, store: BlobStore) -> AsyncIterator[Upload]:
    with store.incoming() as incoming:
        sink = Sink(incoming)
        try:
            async for chunk in request.stream():
                await sink.write(chunk)
        except ClientDisconnect:
            raise UploadIncomplete("The connection closed before the whole body arrived.") from None
        await sink.finish()
        yield Upload(incoming, dict(request.query_params))


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
