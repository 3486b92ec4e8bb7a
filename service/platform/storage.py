"""Blobs, addressed by the SHA-256 of their content, on disk or in an object store."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from service.platform.incoming import CHUNK_BYTES, Incoming, incoming_file, remove_left_behind

# An upload to an object store holds so many parts in memory at once, each of five mebibytes.
_PARTS_AT_ONCE = 2
# Enough that a full disk shows: less would fit into what a file system has in hand.
_TRIAL_BYTES = 64 * 1024

STORE_AWAY: tuple[type[Exception], ...] = (OSError, BaseError)
"""What is raised while the store is full, read-only or out of reach."""


class BlobDamagedError(Exception):
    """A blob is missing, or is no longer what was stored. Its text says which, after "the file"."""


class BlobMissingError(BlobDamagedError):
    """A blob is missing."""


class StoredBlob(NamedTuple):
    """What a listing says of a blob."""

    sha256: str
    size_bytes: int
    stored_at: datetime


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

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Open a file that may be kept; what it needs of the disk is freed in the end."""
        if self._directory is not None:
            with incoming_file(self._directory / "incoming") as incoming:
                yield incoming
        else:
            with tempfile.TemporaryFile() as file:
                yield Incoming(file)

    def keep(self, incoming: Incoming) -> None:
        """Make an incoming file a blob, atomically; it is on the disk when this returns.

        It takes the place of a blob that is there already: that has the same bytes, or is damaged.
        """
        if self._directory is None or incoming.path is None:
            incoming.file.seek(0)
            key = _key(incoming.sha256)
            obstore.put(self._store, key, incoming.file, max_concurrency=_PARTS_AT_ONCE)
            return
        incoming.file.flush()
        os.fsync(incoming.file.fileno())
        path = self._directory / _key(incoming.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming.path.replace(path)
        # The name, and the directories on the way to it, which may be new.
        for directory in (path.parent, path.parent.parent, self._directory):
            _sync(directory)

    def put(self, sha256: str, file: BinaryIO) -> None:
        """Store a file under its digest, atomically.

        Raises:
            ValueError: It has another digest.
        """
        with self.incoming() as incoming:
            incoming.copy(file)
            if incoming.sha256 != sha256:
                raise ValueError(f"a file has SHA-256 {incoming.sha256}; expected {sha256}")
            self.keep(incoming)

    def holds(self, sha256: str) -> bool:
        """Return whether there is a blob under this digest; its bytes are not looked at."""
        try:
            obstore.head(self._store, _key(sha256))
        except FileNotFoundError:
            return False
        return True

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

    def open_whole(self, sha256: str) -> BinaryIO:
        """Open a blob as a real file, once all of it has been read and found to be what it was.

        Returns:
            The file, at its beginning; nobody has moved its position.

        Raises:
            BlobDamagedError: It is missing, or other bytes are there, or it cannot be read.
        """
        try:
            file = self.open(sha256)
        except FileNotFoundError as error:
            raise BlobMissingError("is missing from the server's store") from error
        try:
            whole = is_whole(file, sha256)
        except OSError as error:
            file.close()
            if error.errno != errno.EIO:
                raise
            raise BlobDamagedError("cannot be read from the server's store any more") from error
        if not whole:
            file.close()
            raise BlobDamagedError("has changed in the server's store since it was uploaded")
        return file

    def list(self, start: str) -> Iterator[StoredBlob]:
        """List the blobs whose digests start with these two characters."""
        for page in obstore.list(self._store, prefix=f"sha256/{start}"):
            for each in page:
                name = each["path"].rpartition("/")[2]
                yield StoredBlob(name, each["size"], each["last_modified"])

    def remove_left_behind(self) -> int:
        """Remove what killed uploads left of files that never became blobs; returns how many."""
        if self._directory is None:
            return 0
        return remove_left_behind(self._directory / "incoming", self._directory / "sha256")

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is no error."""
        with suppress(FileNotFoundError):
            obstore.delete(self._store, _key(sha256))

    def check(self) -> None:
        """Write a little to the disk, and look something up.

        Raises:
            OSError: The disk is full, read-only or broken.
            obstore.exceptions.BaseError: The object store does not answer.
        """
        if self._directory is not None:
            with incoming_file(self._directory / "incoming") as incoming:
                incoming.write(bytes(_TRIAL_BYTES))
                incoming.file.flush()
        next(iter(obstore.list(self._store, prefix="sha256", chunk_size=1)), None)


def _key(sha256: str) -> str:
    # Two levels keep directories small on file systems that slow down on large ones.
    return f"sha256/{sha256[:2]}/{sha256}"


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
