"""Files on their way into a store: digested while they are written, and gone unless they are kept.

Those of a store on disk lie beside its blobs, so that keeping one is a rename. Each is locked by
whoever writes it. The lock ends with its holder, however that ends: so a file that nobody has
locked was left behind, and may go.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

CHUNK_BYTES = 1024 * 1024
# Earlier versions wrote beside the blob, as `DIGEST#1`, and locked nothing.
_UNLOCKED_SECONDS = 24 * 3600


class Incoming:
    """A file that is being written; its bytes go through `write` alone.

    Attributes:
        file: The bytes so far.
        size_bytes: Their count.
    """

    def __init__(self, file: BinaryIO, path: Path | None = None) -> None:
        """Begin with an empty file.

        Args:
            file: Open for writing and reading.
            path: Where it can be renamed from; None if it has no name.
        """
        self.file = file
        self.path = path
        self.size_bytes = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The digest of the bytes so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, *pieces: bytes) -> None:
        """Append bytes."""
        for piece in pieces:
            self.file.write(piece)
            self._digest.update(piece)
            self.size_bytes += len(piece)

    def copy(self, file: BinaryIO) -> None:
        """Append a whole file, from its beginning."""
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            self.write(chunk)


@contextmanager
def incoming_file(directory: Path) -> Iterator[Incoming]:
    """Create a file in a directory; it is removed in the end, unless it was renamed."""
    directory.mkdir(parents=True, exist_ok=True)
    file, path = _create_locked(directory)
    with file:
        try:
            yield Incoming(file, path)
        finally:
            path.unlink(missing_ok=True)


def _create_locked(directory: Path) -> tuple[BinaryIO, Path]:
    while True:
        path = directory / uuid4().hex
        file = path.open("x+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever removes what was left behind may have taken it for that before it was locked.
        if os.fstat(file.fileno()).st_nlink:
            return file, path
        file.close()


def remove_left_behind(incoming: Path, blobs: Path) -> int:
    """Remove the files of uploads that were killed, and none that is being written.

    Args:
        incoming: Where files are written.
        blobs: Where earlier versions wrote them, two levels up.

    Returns:
        How many there were.
    """
    count = 0
    for path in incoming.iterdir() if incoming.is_dir() else ():
        with suppress(FileNotFoundError), path.open("rb") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            count += 1
    for path in blobs.glob("*/*#*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _UNLOCKED_SECONDS:
                path.unlink()
                count += 1
    return count
