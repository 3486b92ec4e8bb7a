"""The files inside a zip or a tar, read where they lie; nothing is ever unpacked."""

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from workers.probes.containers.container import MAX_NAME, unreadable
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

BROKEN = (
    *(ValueError, EOFError, OSError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
)
"""What reading an archive raises on bytes that are not what they claim to be.

A zip member that says it is encrypted is a RuntimeError.
"""

_CLUTTER = ("thumbs.db", "desktop.ini")
_UNIX_MODE_BITS = 16
_BUFFER_BYTES = 1 << 16
_PACK_AGAIN = (
    "pack the files again, without links: zip -r probe.zip FOLDER, or tar cf probe.tar FOLDER"
)


@dataclass(frozen=True)
class Member:
    """A file inside an archive.

    Args:
        name: With the folders it is in, separated by slashes.
        size: In bytes, as the archive says.
        open: Opens it for reading, at its beginning.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    @property
    def path(self) -> PurePosixPath:
        """Its name in parts."""
        return PurePosixPath(self.name)

    @property
    def suffix(self) -> str:
        """The end of its name, in lower case."""
        return self.path.suffix.lower()

    def read(self, limits: ProbeLimits) -> bytes:
        """Return all of it.

        Raises:
            JobError: `probe_unreadable` if it is damaged, or too large.
        """
        if self.size > limits.max_file_bytes:
            raise unreadable(
                f"The file {self.name!r} in the archive takes {self.size:,} bytes; at most "
                f"{limits.max_file_bytes:,} are read.",
                hint="Leave it out, or store it smaller.",
            )
        try:
            with self.open() as file:
                return file.read()
        except BROKEN as error:
            raise damaged(error, self.name) from error

    def seekable(self, limits: ProbeLimits) -> BinaryIO:
        """Return the file as one whose every place can be read.

        Raises:
            JobError: `probe_unreadable` if it is damaged, or compressed and too large.
        """
        opened = self.open()
        if opened.seekable() and not isinstance(opened, zipfile.ZipExtFile):
            return cast("BinaryIO", opened)
        return io.BytesIO(self.read(limits))


@dataclass(frozen=True)
class Members:
    """What an archive holds.

    Args:
        files: In the archive's order.
        folders: Those that it names, which may be empty.
    """

    files: Sequence[Member]
    folders: Sequence[str]

    def visible(self) -> list[Member]:
        """Return the files that people put there, sorted by their folders and names."""
        return sorted(
            (file for file in self.files if not _is_clutter(file.path)),
            key=lambda file: file.path.parts,
        )


class _Section(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: any place of it can be read."""
        return True

    def tell(self) -> int:
        """Return the next place to be read."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; beyond the end there is nothing."""
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, at most so many, or all."""
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        content = self._file.read(left if size < 0 else min(size, left))
        self._at += len(content)
        return content

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer with the next bytes, and tell how many they are."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def section(file: BinaryIO, start: int, size: int) -> BinaryIO:
    """Return a part of a file, as a file that is read on its own."""
    return cast("BinaryIO", io.BufferedReader(_Section(file, start, size), _BUFFER_BYTES))


def alone(file: BinaryIO, size: int) -> Members:
    """Return a file that is in no archive, as the only one of one."""
    return Members([Member("the file", size, lambda: section(file, 0, size))], [])


def zip_members(file: BinaryIO, limits: ProbeLimits) -> Members:
    """Return the directory of a zip.

    Raises:
        JobError: `probe_unreadable` if it is damaged, or holds what no probe does.
    """
    try:
        archive = zipfile.ZipFile(file)
    except BROKEN as error:
        raise unreadable(
            f"The zip archive is damaged: {error}; expected a complete one.",
            hint=f"Check that the upload was complete, or {_PACK_AGAIN}; for arrays, "
            "numpy.savez(path, x=inputs, y=labels).",
        ) from error
    entries = archive.infolist()
    _check_count(len(entries), limits)
    for entry in entries:
        if not entry.filename:  # damage may end a name before it begins
            raise _no_file("", "a file without a name")
        if stat.S_ISLNK(entry.external_attr >> _UNIX_MODE_BITS):
            raise _no_file(entry.filename, "a link")
    return Members(
        [
            Member(_checked(entry.filename), entry.file_size, _opener(archive, entry))
            for entry in entries
            if not entry.is_dir()
        ],
        [_checked(entry.filename) for entry in entries if entry.is_dir()],
    )


def tar_members(file: BinaryIO, limits: ProbeLimits) -> Members:
    """Return the directory of a tar.

    Raises:
        JobError: `probe_unreadable` if it is damaged, or holds what no probe does.
    """
    total = file.seek(0, 2)
    file.seek(0)
    files: list[Member] = []
    folders: list[str] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (entry := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would remember every one
                _check_count(len(files) + len(folders) + 1, limits)
                if entry.isdir():
                    folders.append(_checked(entry.name))
                    continue
                if not entry.isreg() or entry.issparse():
                    raise _no_file(entry.name, "a link, a device or a file with holes")
                if entry.offset_data + entry.size > total:
                    raise EOFError(f"{entry.name[:80]!r} ends beyond the end of the archive")
                files.append(Member(_checked(entry.name), entry.size, _part(file, entry)))
    except BROKEN as error:
        raise damaged(error) from error
    return Members(files, folders)


def common_folder(paths: Iterable[PurePosixPath]) -> int:
    """Return how many folders, from the outermost, all of these files have in common."""
    parents = [path.parent.parts for path in paths]
    depth = 0
    while parents and all(len(p) > depth and p[depth] == parents[0][depth] for p in parents):
        depth += 1
    return depth


def damaged(error: Exception, name: str | None = None) -> JobError:
    """Return the failure of an archive whose bytes are not what they claim to be."""
    what = "The archive" if name is None else f"The file {name!r} in the archive"
    return unreadable(
        f"{what} is damaged: {str(error)[:300]}.",
        hint=f"Check that the upload was complete, or {_PACK_AGAIN}.",
    )


def _opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(entry)


def _part(file: BinaryIO, entry: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    start, size = entry.offset_data, entry.size
    return lambda: section(file, start, size)


def _checked(name: str) -> str:
    """Return a name that could be unpacked without harm, although it never is."""
    cleaned = name.replace("\\", "/")
    path = PurePosixPath(cleaned)
    if path.is_absolute() or ".." in path.parts or "\0" in cleaned:
        raise _no_file(name, "a path that leads out of the archive")
    return cleaned


def _check_count(found: int, limits: ProbeLimits) -> None:
    if found > limits.max_files:
        raise unreadable(
            f"The archive holds more than {limits.max_files:,} files, which is the most that are "
            "read.",
            hint="Register fewer samples: some thousands are enough for an analysis.",
        )


def _is_clutter(path: PurePosixPath) -> bool:
    """Return what operating systems put beside people's files."""
    return path.name.lower() in _CLUTTER or any(
        part.startswith(".") or part == "__MACOSX" for part in path.parts
    )


def _no_file(name: str, found: str) -> JobError:
    return unreadable(
        f"The archive holds {name[:MAX_NAME]!r}, which is {found}; expected files in folders.",
        hint=f"To be read, {_PACK_AGAIN}.",
    )
