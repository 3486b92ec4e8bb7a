"""A part of a file that is a file itself."""

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # exists only for type checkers


class Part(io.RawIOBase):
    """A range of a file's bytes, readable as a file; reading moves the position of that file.

    Args:
        file: Seekable.
        start: Offset of the first byte.
        size: Number of bytes.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True: a part can always be read."""
        return True

    def seekable(self) -> bool:
        """Return True: reading can start at any position."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position relative to the start, the current one or the end; return it."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer with the bytes that are left; return how many were written."""
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._position)
        content = self._file.read(max(0, min(len(view), self._size - self._position)))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
