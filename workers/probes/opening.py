"""Which kind of file this is, judged by its content."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import BinaryIO

from service.contract.probe_spec import FORMATS, ProbeFormat, ProbeSpec
from workers.probes.containers import members
from workers.probes.containers.container import Container, file_size, unreadable
from workers.probes.containers.image_folder import ImageFolder
from workers.probes.containers.members import Members
from workers.probes.containers.npz import NpzFile
from workers.probes.containers.safetensors import HEADER_LENGTH_BYTES, SafetensorsFile
from workers.probes.kinds import SUFFIXES, kind_of
from workers.probes.tables import arrow, csv_table
from workers.probes.tables.arrow import ArrowSource
from workers.probes.tables.csv_table import CsvTable
from workers.probes.tables.parquet import ParquetSource
from workers.probes.tables.roles import is_target, settle
from workers.probes.tables.table import Source, Table
from workers.protocol.arguments import ProbeLimits

_TAR_MAGIC_AT = 257
_HEAD_BYTES = 4096
_KNOWN = (
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "a zip archive"),
    (_TAR_MAGIC_AT, b"ustar", "a tar archive"),
    (0, b"PAR1", "parquet"),
    (0, arrow.FILE_MAGIC, "arrow"),
    (0, arrow.STREAM_MAGIC, "arrow"),
    (0, b"\x93NUMPY", "a single numpy array (.npy)"),
    (0, b"\x80\x02", "a Python pickle, which is never read"),
    (0, b"\x80\x03", "a Python pickle, which is never read"),
    (0, b"\x80\x04", "a Python pickle, which is never read"),
    (0, b"\x80\x05", "a Python pickle, which is never read"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ", "an xz file"),
    (0, b"(\xb5/\xfd", "a Zstandard file"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (0, b"SQLite format 3", "an SQLite database"),
)
_HINTS = {
    "a text file": "A table begins with a line of its columns' names, separated by commas, "
    "semicolons, tabs or bars, and holds the inputs and the target.",
    "a single numpy array (.npy)": "Save inputs and labels together with "
    "numpy.savez(path, x=inputs, y=labels), or upload both files in one request, as parts `file`.",
    "a gzip file": "Decompress it; an archive of many files may be a zip or an uncompressed tar.",
    "a PNG image": "Pack the images into a zip or tar, one folder for each class.",
    "a JPEG image": "Pack the images into a zip or tar, one folder for each class.",
}
_WHAT_TO_SEND = (
    "Save the probe with numpy.savez(path, x=inputs, y=labels), "
    "or with safetensors.numpy.save_file."
)
_KEYS = {
    "columns": ("parquet", "arrow", "csv"),
    "exclude": ("parquet", "arrow", "csv"),
    "image_mode": ("imagefolder", "parquet", "arrow"),
}
_TEXT_CONTROLS = b"\t\n\r\f"

Opened = tuple[Container, ProbeSpec]


def open_container(file: BinaryIO, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    """Open a probe file by what it holds.

    Args:
        file: Readable and seekable.
        spec: With any keys left to inference.
        limits: What the file may ask for.

    Returns:
        The arrays; and the spec with the format, and with what the format alone tells of the rest.

    Raises:
        JobError: `probe_unreadable` if it is empty, of another kind, of another format than
            declared, or damaged.
    """
    total = file_size(file)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not total:
        raise unreadable(
            "The probe file is empty (0 bytes); expected a file of one of the formats "
            f"{', '.join(FORMATS)}.",
            hint="Check that the file was written and uploaded completely.",
        )
    found = _recognise(head, total)
    held = members.alone(file, total)
    if found in _ARCHIVES:
        held = _ARCHIVES[found](file, limits)
        found = kind_of(held) or _words_for(held, found)
    if found not in FORMATS:
        raise unreadable(
            f"The probe file is {found}; expected one of the formats {', '.join(FORMATS)}.",
            hint=_HINTS.get(found, _WHAT_TO_SEND),
        )
    if spec.format is not None and spec.format != found:
        raise unreadable(
            f"The probe file is {found}, but its spec says {spec.format!r}.",
            hint=f'Set "format": "{found}" in the spec, or leave it out.',
        )
    _check_keys(spec, found)
    return _OPENERS[found](held, spec.model_copy(update={"format": found}), limits)


def _check_keys(spec: ProbeSpec, found: str) -> None:
    """Refuse keys of the spec that say nothing about a file of this format."""
    for key, formats in _KEYS.items():
        if getattr(spec, key) is not None and found not in formats:
            raise unreadable(
                f"The spec gives {key!r}, which is for {', '.join(formats)}; the file is {found}.",
                hint=f'Leave "{key}" out of the spec.',
            )


def _open_npz(held: Members, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    return NpzFile(held, limits), spec


def _open_safetensors(held: Members, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    return SafetensorsFile(held.files[0].seekable(limits), limits), spec


def _open_parquet(held: Members, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    return _table(ParquetSource(_tables(held, "parquet", limits)), spec, limits)


def _open_arrow(held: Members, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    if len(held.files) > 1:
        held = Members(arrow.dataset_files(held, limits), [])
    return _table(ArrowSource(_tables(held, "arrow", limits)), spec, limits)


def _open_csv(held: Members, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    return settle(CsvTable(_tables(held, "csv", limits), limits), spec, limits)


def _open_images(held: Members, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    images = ImageFolder(held, limits, spec.image_mode)
    return images, images.complete(spec)


def _table(source: Source, spec: ProbeSpec, limits: ProbeLimits) -> Opened:
    table = Table(source, limits, spec.image_mode, lambda name: is_target(name, spec))
    if table.holds_images:
        spec = spec.model_copy(update={"image_mode": table.image_mode})
    return settle(table, spec, limits)


def _tables(held: Members, kind: ProbeFormat, limits: ProbeLimits) -> dict[str, BinaryIO]:
    """Return the files of a kind, sorted by name; a file that is in no archive is one."""
    files = held.visible()
    if len(files) > 1:
        files = [file for file in files if file.suffix in SUFFIXES[kind]]
    return {file.name: file.seekable(limits) for file in files}


_ARCHIVES: Mapping[str, Callable[[BinaryIO, ProbeLimits], Members]] = MappingProxyType(
    {"a zip archive": members.zip_members, "a tar archive": members.tar_members}
)
_OPENERS: Mapping[str, Callable[[Members, ProbeSpec, ProbeLimits], Opened]] = MappingProxyType(
    {
        "npz": _open_npz,
        "safetensors": _open_safetensors,
        "parquet": _open_parquet,
        "arrow": _open_arrow,
        "csv": _open_csv,
        "imagefolder": _open_images,
    }
)


def _words_for(held: Members, archive: str) -> str:
    """Return words for an archive that holds no kind of file that is read."""
    if not held.files:
        return f"{archive} but not an npz, and without tables or images (found no file)"
    names = ", ".join(repr(file.name[:80]) for file in held.files[:5])
    if all(file.suffix == ".npz" for file in held.files):
        return f"an archive of npz files, which are not read within one ({names})"
    return f"{archive}, or several files, with no arrays (.npy), tables or images (found {names})"


def _recognise(head: bytes, total: int) -> str:
    """Return a format's name, or words for whatever else it is."""
    header_length = int.from_bytes(head[:HEADER_LENGTH_BYTES], "little")
    if head[HEADER_LENGTH_BYTES:][:1] == b"{" and header_length <= total - HEADER_LENGTH_BYTES:
        return "safetensors"
    for at, magic, words in _KNOWN:
        if head[at:].startswith(magic):
            return words
    if _is_text(head):
        first, end, _ = head.partition(b"\n")
        is_table = (end or len(head) == _HEAD_BYTES) and any(
            mark in first for mark in csv_table.DELIMITERS.encode()
        )
        return "csv" if is_table and first[:1] not in b"{[<" else "a text file"
    return f"of no known kind (it begins with the bytes {head[:8].hex(' ')})"


def _is_text(head: bytes) -> bool:
    """Return whether this can be the beginning of a text in ASCII, UTF-8 or an older encoding."""
    return not any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head)  # noqa: PLR2004 - the first printable one
