"""Changing some entries of a zip file in memory, without a copy of the others."""

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer  # known to type checkers alone


def with_entries(file: BinaryIO, entries: Mapping[str, bytes]) -> BinaryIO:
    """Give a zip file with other contents of some entries.

    Args:
        file: A zip file, of which all other entries are read as they are needed.
        entries: What is changed, by the names of entries that it has.
    """
    appended = _Appended(file)
    with zipfile.ZipFile(appended, "a") as archive:
        for name, content in entries.items():
            # Its bytes stay where they are, but the directory no longer leads to them.
            archive.filelist.remove(archive.NameToInfo.pop(name))
            archive.writestr(name, content)
    appended.seek(0)
    return io.BufferedReader(appended)


class _Appended(io.RawIOBase):
    """A file whose end is written anew; what is written is kept in memory.

    Args:
        file: Seekable; nothing is written to it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._cut = file.seek(0, io.SEEK_END)
        self._written = bytearray()
        self._position = 0

    def readable(self) -> bool:
        """Return True: it is there to be read."""
        return True

    def writable(self) -> bool:
        """Return True: its end may be written."""
        return True

    def seekable(self) -> bool:
        """Return True: any place can be reached."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, counted from the start, from here, or from the end; return it."""
        end = self._cut + len(self._written)
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: end}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer as far as there is something; return how far."""
        view = memoryview(buffer).cast("B")
        if self._position < self._cut:
            self._file.seek(self._position)
            content = self._file.read(min(len(view), self._cut - self._position))
        else:
            start = self._position - self._cut
            content = bytes(self._written[start : start + len(view)])
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def write(self, content: "ReadableBuffer", /) -> int:
        """Write from here on; what of the file comes after the first such place is gone."""
        data = memoryview(content).cast("B")
        if not self._written:
            self._cut = min(self._cut, self._position)
        start = self._position - self._cut
        self._written[start : start + len(data)] = data
        self._position += len(data)
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """End it, here if not elsewhere; return where."""
        end = self._position if size is None else size
        del self._written[end - self._cut :]
        return end
