"""Strict reading of zip archives: one meaning for every reader, or none.

Zip files are read from their end, by a directory that need not agree with what lies before it.
Readers differ in where they look and which of the two they trust; here both must agree.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from service.contract.archives.errors import damaged, unsafe
from service.contract.archives.part import Part

LOCAL_MAGIC = b"PK\x03\x04"
_STORED, _DEFLATED = 0, 8

MAX_ENTRIES = 20_000
_MAX_DIRECTORY_BYTES = 8 << 20
_MAX_UNPACKED_BYTES = 8 << 30
_MAX_RATIO = 200
_PART_BYTES = 1 << 20  # read at a time
_SMALL = 4096  # anything so short may be packed as tightly as it likes

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_IN_EXTRA_16, _IN_EXTRA_32 = 0xFFFF, 0xFFFF_FFFF
_ZIP64_EXTRA = 1
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_DESCRIPTOR_BYTES = (12, 16, 20, 24)  # with or without a mark, narrow or wide

# No control characters, no separators of other systems, nothing that changes the direction of text.
_CLEAN_NAME = re.compile(r"[^\x00-\x1f\x7f\\:\u200e\u200f\u202a-\u202e\u2066-\u2069]{1,1024}")


@dataclass(frozen=True)
class Entry:
    """One file of an archive.

    Attributes:
        name: Its path, including the archive's own folder.
        size: Bytes unpacked.
        packed_size: Bytes in the archive.
        is_packed: Whether it is deflated.
        offset: Where its local header is.
        crc: CRC-32 of the unpacked bytes.
        data_offset: Where its bytes are, once its local header has been read.
    """

    name: str
    size: int
    packed_size: int
    is_packed: bool
    offset: int
    crc: int
    data_offset: int = -1


class Archive:
    """The entries of an archive that has passed all checks of its layout.

    Args:
        file: Seekable.

    Attributes:
        entries: By the path below the archive's own folder, the only one at its top.

    Raises:
        ArchiveError: It is ambiguous, damaged, or would unpack to too much.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        directory = _find_directory(file)
        entries = list(_read_directory(file, directory))
        _check_names(entries)
        _check_sizes(entries)
        _check_spans(entries, directory.start)
        self.entries: Mapping[str, Entry] = {
            entry.name.partition("/")[2]: entry for entry in entries
        }

    def read(self, inner: str, most: int) -> bytes:
        """Return the bytes of an entry.

        Raises:
            ArchiveError: There are more than `most`, or not those that were packed.
        """
        entry = self.entries[inner]
        if entry.size > most:
            raise unsafe(f"{shown(inner)} has {entry.size:,} bytes, {most:,} are allowed")
        self._file.seek(entry.data_offset)
        content = self._file.read(entry.packed_size)
        if entry.is_packed:
            content = _inflate(content, entry, inner)
        if len(content) != entry.size or zlib.crc32(content) != entry.crc:
            raise damaged(f"the checksum of {shown(inner)} is wrong")
        return content

    def check_sums(self) -> None:
        """Compare the checksum of every entry with its bytes, which are read but not kept.

        PyTorch does not compare them: a bit flipped in transit would silently change a weight.

        Raises:
            ArchiveError: One differs.
        """
        for inner, entry in self.entries.items():
            crc = size = 0
            for part in self._parts(inner):
                crc, size = zlib.crc32(part, crc), size + len(part)
                if size > entry.size:
                    break
            if (crc, size) != (entry.crc, entry.size):
                raise damaged(f"the checksum of {shown(inner)} is wrong")

    def _parts(self, inner: str) -> Iterator[bytes]:
        """Yield the unpacked bytes of an entry, some at a time."""
        entry = self.entries[inner]
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        position, end = entry.data_offset, entry.data_offset + entry.packed_size
        while position < end:
            self._file.seek(position)
            part = self._file.read(min(_PART_BYTES, end - position))
            position += len(part)
            if not part:
                return
            if not entry.is_packed:
                yield part
                continue
            try:
                while part:
                    yield unpacker.decompress(part, _PART_BYTES)
                    part = unpacker.unconsumed_tail
            except zlib.error as error:
                raise damaged(f"{shown(inner)} cannot be unpacked") from error

    def within(self, inner: str) -> "Archive":
        """Return an entry that is itself an archive, as it lies; its checksum is the whole's.

        Raises:
            ArchiveError: It is not an archive, or fails the checks of its layout.
        """
        entry = self.entries[inner]
        if entry.is_packed:
            raise unsafe(f"{shown(inner)} is deflated")
        return Archive(io.BufferedReader(Part(self._file, entry.data_offset, entry.size)))


def shown(name: str) -> str:
    """Return a name from the archive in a form that is safe to show in a message."""
    short = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    return repr(short)


_SHOWN = 80


def _inflate(content: bytes, entry: Entry, inner: str) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(content, entry.size + 1)
    except zlib.error as error:
        raise damaged(f"{shown(inner)} cannot be unpacked") from error
    if not unpacker.eof or unpacker.unused_data:
        raise damaged(f"{shown(inner)} unpacks to other than its {entry.size:,} bytes")
    return unpacked


class _Directory(NamedTuple):
    """Where the list of entries is, its size, and how many there are."""

    start: int
    size: int
    entries: int


def _read_directory(file: BinaryIO, found: _Directory) -> Iterator[Entry]:
    start, size, count = found
    if count > MAX_ENTRIES or size > _MAX_DIRECTORY_BYTES:
        raise unsafe(f"it has {count:,} entries, at most {MAX_ENTRIES:,} are allowed")
    file.seek(start)
    directory = file.read(size)
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > size:
            raise damaged("its directory ends early")
        fields = _CENTRAL.unpack_from(directory, position)
        name_bytes, extra_bytes, comment_bytes = fields[10:13]
        name_start = position + _CENTRAL.size
        extra_start = name_start + name_bytes
        position = extra_start + extra_bytes + comment_bytes
        if fields[0] != b"PK\x01\x02" or position > size:
            raise damaged("its directory cannot be read")
        if comment_bytes or fields[13]:
            raise unsafe("it has comments or further disks")
        entry = _entry(fields, directory[name_start:extra_start], directory[extra_start:position])
        yield _at_its_place(file, entry, fields, directory[name_start:extra_start], start)
    if position != size:
        raise unsafe("its directory holds more than it lists")


def _find_directory(file: BinaryIO) -> _Directory:
    length = file.seek(0, 2)
    if length < _END.size:
        raise damaged("it is too short")
    end_start = length - _END.size
    file.seek(end_start)
    end = _END.unpack(file.read(_END.size))
    if end[0] != b"PK\x05\x06" or end[7]:
        raise damaged("its end is missing, or something follows it")
    disk, directory_disk, on_disk, count, size, start = end[1:7]
    file.seek(max(0, end_start - _LOCATOR.size))
    locator = file.read(_LOCATOR.size)
    if locator[:4] == b"PK\x06\x07":
        end_start = _LOCATOR.unpack(locator)[2]
        if end_start + _END_64.size != length - _END.size - _LOCATOR.size:
            raise unsafe("its two end records contradict each other")
        file.seek(end_start)
        wide = _END_64.unpack(file.read(_END_64.size))
        if wide[0] != b"PK\x06\x06":
            raise damaged("its wide end is missing")
        _require_same((count, size, start), (wide[7], wide[8], wide[9]))
        disk, directory_disk, on_disk, count, size, start = wide[4:10]
    if disk or directory_disk or on_disk != count:
        raise unsafe("it is spread over several disks")
    if start + size != end_start:
        raise unsafe("its directory is not where its end says, as in files of two kinds at once")
    return _Directory(start, size, count)


def _require_same(narrow: tuple[int, int, int], wide: tuple[int, int, int]) -> None:
    """Check that both ends agree, but for fields that are too narrow to."""
    limits = (_IN_EXTRA_16, _IN_EXTRA_32, _IN_EXTRA_32)
    for first, second, limit in zip(narrow, wide, limits, strict=True):
        if first not in (second, limit):
            raise unsafe("its two end records contradict each other")


def _entry(fields: tuple[int, ...], name: bytes, extra: bytes) -> Entry:
    flags, method, crc, packed_size, size, offset = (fields[i] for i in (3, 4, 7, 8, 9, 16))
    if flags & ~(_SIZES_FOLLOW | _UTF8 | 0b110):  # two bits say how hard the packer tried
        kind = "is encrypted" if flags & _ENCRYPTED else "has unknown flags"
        raise unsafe(f"an entry {kind}")
    if method not in (_STORED, _DEFLATED):
        raise unsafe("an entry is packed in an unknown way")
    if _IN_EXTRA_32 in (size, packed_size, offset):
        size, packed_size, offset = _wide(extra, size, packed_size, offset)
    try:
        text = name.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise unsafe("the name of an entry is no text") from None
    return Entry(text, size, packed_size, method == _DEFLATED, offset, crc)


def _wide(extra: bytes, *narrow: int) -> Iterator[int]:
    """Yield sizes and offset, those that did not fit from the extra field."""
    position, values = 0, b""
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == _ZIP64_EXTRA:
            values = extra[position + 4 : position + 4 + length]
        position += 4 + length
    needed = sum(value == _IN_EXTRA_32 for value in narrow)
    if len(values) < 8 * needed:
        raise damaged("the size of an entry is missing")
    wide = iter(struct.unpack_from(f"<{needed}Q", values))
    return (next(wide) if value == _IN_EXTRA_32 else value for value in narrow)


def _at_its_place(
    file: BinaryIO, entry: Entry, central: tuple[int, ...], name: bytes, directory: int
) -> Entry:
    """Return the entry, once its local header has said the same as the directory."""
    header = b""
    if entry.offset < directory:  # it may be more than any file has, or can be asked for
        file.seek(entry.offset)
        header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != LOCAL_MAGIC:
        raise damaged(f"{shown(entry.name)} is not where the directory says")
    local = _LOCAL.unpack(header)
    name_bytes, extra_bytes = local[9:11]
    sizes_follow = bool(local[2] & _SIZES_FOLLOW)
    declared = local[6:9]
    # 0 where they follow the data, all ones where they are in the extra field.
    agree = all(
        mine in (theirs, _IN_EXTRA_32) or (sizes_follow and mine == 0)
        for mine, theirs in zip(declared, (entry.crc, central[8], central[9]), strict=True)
    )
    if file.read(name_bytes) != name or local[2:4] != central[3:5] or not agree:
        raise unsafe(f"{shown(entry.name)} is called or packed otherwise in its own header")
    data = entry.offset + _LOCAL.size + name_bytes + extra_bytes
    if data + entry.packed_size > directory:
        raise damaged(f"{shown(entry.name)} runs into the directory")
    return replace(entry, data_offset=data)


def _check_names(entries: list[Entry]) -> None:
    seen: set[str] = set()
    roots: set[str] = set()
    for entry in entries:
        name = entry.name
        root, slash, inner = name.partition("/")
        parts = name.split("/")
        if not _CLEAN_NAME.fullmatch(name) or not slash or not inner:
            raise unsafe(f"{shown(name)} is no name for an entry")
        if any(part in ("", ".", "..") for part in parts):
            raise unsafe(f"{shown(name)} leads out of the archive")
        if name.casefold() in seen:
            raise unsafe(f"{shown(name)} is there twice")
        seen.add(name.casefold())
        roots.add(root)
    if len(roots) != 1:
        raise unsafe(f"it has {len(roots):,} folders at its top, one is usual")


def _check_sizes(entries: list[Entry]) -> None:
    for entry in entries:
        if not entry.is_packed and entry.size != entry.packed_size:
            raise unsafe(f"{shown(entry.name)} has two sizes")
        if entry.size > max(_SMALL, _MAX_RATIO * entry.packed_size):
            raise unsafe(
                f"{shown(entry.name)} unpacks to {entry.size:,} from {entry.packed_size:,} bytes"
            )
    total = sum(entry.size for entry in entries)
    if total > _MAX_UNPACKED_BYTES:
        raise unsafe(f"it unpacks to {total:,} bytes")


def _check_spans(entries: list[Entry], directory: int) -> None:
    """Check that entries lie one after another, with nothing but their sizes in between."""
    ordered = sorted(entries, key=lambda entry: entry.offset)
    if ordered and ordered[0].offset != 0:
        raise unsafe("something precedes its first entry")
    starts = [*(entry.offset for entry in ordered), directory]
    for entry, following in zip(ordered, starts[1:], strict=True):
        between = following - (entry.data_offset + entry.packed_size)
        if between < 0:
            raise unsafe(f"{shown(entry.name)} overlaps the next entry")
        if between and between not in _DESCRIPTOR_BYTES:
            raise unsafe(f"{between:,} bytes after {shown(entry.name)} belong to no entry")
