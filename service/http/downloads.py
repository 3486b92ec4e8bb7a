"""Sending a stored file."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.http.problems import StoredFileDamaged
from service.platform.incoming import CHUNK_BYTES
from service.platform.storage import BlobDamagedError, BlobStore


async def stored_file(
    store: BlobStore, sha256: str, *, called: str, media_type: str, filename: str
) -> StreamingResponse:
    """Answer with a blob, whose digest is the `ETag`.

    All of it is read and digested before the first byte is sent, since a status cannot be taken
    back, and since an `ETag` must not stand above other bytes. That takes a second for each 1.5 GB.

    Args:
        store: Where it is.
        sha256: Its digest.
        called: How messages call it, as `the model`.
        media_type: Its type.
        filename: The name under which clients save it.

    Raises:
        StoredFileDamaged: It is missing, or is no longer what was stored.
    """
    try:
        file = await run_in_threadpool(store.open_whole, sha256)
    except BlobDamagedError as error:
        raise StoredFileDamaged(
            f"The stored copy of {called} (SHA-256 {sha256}) {error}. The server's storage is at "
            "fault: tell its operator. An uploaded file is mended by uploading the same file once "
            "more; a file of an analysis comes back with a new analysis."
        ) from error
    return StreamingResponse(
        _chunks(file),
        media_type=media_type,
        headers={
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "ETag": f'"{sha256}"',
            "Content-Disposition": f'attachment; filename="{filename}"',
        },
    )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
