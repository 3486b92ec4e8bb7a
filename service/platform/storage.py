"""Blobs, addressed by the SHA-256 of their content, on disk or in an object store."""

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore, ObjectStore, from_url

CHUNK_BYTES = 1024 * 1024


def local_path(url: str) -> Path | None:
    """Return the directory or file that a `file://` URL names, or None for any other URL."""
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def sha256_of(file: BinaryIO) -> str:
    """Digest a file from its beginning, and rewind it."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def is_whole(file: BinaryIO, sha256: str) -> bool:
    """Return whether a real file has a digest; its position stays where it is."""
    digest, position = hashlib.sha256(), 0
    while chunk := os.pread(file.fileno(), CHUNK_BYTES, position):
        digest.update(chunk)
        position += len(chunk)
    return digest.hexdigest() == sha256


class BlobStore:
    """A content-addressed store. Its methods block: call them from a thread in async code.

    Args:
        url: `file:///path`, `s3://bucket/prefix`, `gs://…` or `az://…`.
    """

    def __init__(self, url: str) -> None:
        self._directory = local_path(url)
        self._store: ObjectStore
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self._directory)
        else:
            self._store = from_url(url)

    def put(self, sha256: str, file: BinaryIO) -> None:
        """Store a file under its digest, atomically.

        A blob that is there already stays, unless it has been damaged: then it is replaced.
        """
        file.seek(0)
        try:
            obstore.put(self._store, _key(sha256), file, mode="create")
        except AlreadyExistsError:
            with self.open(sha256) as stored:
                if is_whole(stored, sha256):
                    return
            file.seek(0)
            obstore.put(self._store, _key(sha256), file, mode="overwrite")

    def open(self, sha256: str) -> BinaryIO:
        """Open a blob as a real file, so that its descriptor can be given to another process.

        Raises:
            FileNotFoundError: There is no such blob.
        """
        if self._directory is not None:
            return (self._directory / _key(sha256)).open("rb")
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            for chunk in obstore.get(self._store, _key(sha256)).stream(min_chunk_size=CHUNK_BYTES):
                file.write(chunk)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def stream(self, sha256: str) -> AsyncIterator[bytes]:
        """Read a blob in chunks.

        Raises:
            FileNotFoundError: There is no such blob.
        """
        result = await obstore.get_async(self._store, _key(sha256))
        async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is no error."""
        with suppress(FileNotFoundError):
            obstore.delete(self._store, _key(sha256))

    def check(self) -> None:
        """Look something up; raise the store's own error if it does not answer."""
        next(iter(obstore.list(self._store, prefix="sha256", chunk_size=1)), None)


def _key(sha256: str) -> str:
    # Two levels keep directories small on file systems that slow down on large ones.
    return f"sha256/{sha256[:2]}/{sha256}"
