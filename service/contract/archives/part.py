"""A part of a file that is a file itself."""

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # known to type checkers alone


class Part(io.RawIOBase):
    """Some bytes of a file, as a file of its own to read; the position of the other is moved.

    Args:
        file: Seekable.
        start: Where they begin.
        size: How many there are.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True: it is there to be read."""
        return True

    def seekable(self) -> bool:
        """Return True: any place can be read."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, counted from the start, from here, or from the end; return it."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer as far as there is something; return how far."""
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._position)
        content = self._file.read(max(0, min(len(view), self._size - self._position)))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
