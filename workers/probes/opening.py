"""Which kind of file this is, judged by its content."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import BinaryIO

from service.probes.spec import FORMATS, ProbeSpec
from workers.probes.container import Container, Limits, file_size, unreadable
from workers.probes.npz import NpzFile
from workers.probes.safetensors import HEADER_LENGTH_BYTES, SafetensorsFile
from workers.probes.tables.parquet import ParquetSource
from workers.probes.tables.roles import settle
from workers.probes.tables.table import Table

_TAR_MAGIC_AT = 257
_KNOWN = (
    (0, b"\x93NUMPY", "a single numpy array (.npy)"),
    (0, b"\x80\x02", "a Python pickle, which is never read"),
    (0, b"\x80\x03", "a Python pickle, which is never read"),
    (0, b"\x80\x04", "a Python pickle, which is never read"),
    (0, b"\x80\x05", "a Python pickle, which is never read"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (_TAR_MAGIC_AT, b"ustar", "a tar archive"),
)
_WHAT_TO_SEND = (
    "Save the probe with numpy.savez(path, x=inputs, y=labels), "
    "or with safetensors.numpy.save_file."
)

Opened = tuple[Container, ProbeSpec]


def open_container(file: BinaryIO, spec: ProbeSpec, limits: Limits) -> Opened:
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
    head = file.read(512)
    if not total:
        raise unreadable(
            "The probe file is empty (0 bytes); expected a file of one of the formats "
            f"{', '.join(FORMATS)}.",
            hint="Check that the file was written and uploaded completely.",
        )
    found = _recognise(head, total)
    if found not in _OPENERS:
        raise unreadable(
            f"The probe file is {found}; expected one of the formats {', '.join(FORMATS)}.",
            hint=_WHAT_TO_SEND,
        )
    if spec.format is not None and spec.format != found:
        raise unreadable(
            f"The probe file is {found}, but its spec says {spec.format!r}.",
            hint=f'Set "format": "{found}" in the spec, or leave it out.',
        )
    file.seek(0)
    return _OPENERS[found](file, spec.model_copy(update={"format": found}), limits)


def _open_npz(file: BinaryIO, spec: ProbeSpec, limits: Limits) -> Opened:
    return NpzFile(file, limits), spec


def _open_safetensors(file: BinaryIO, spec: ProbeSpec, limits: Limits) -> Opened:
    return SafetensorsFile(file, limits), spec


def _open_parquet(file: BinaryIO, spec: ProbeSpec, limits: Limits) -> Opened:
    table = Table(ParquetSource([("the file", file)]), limits, spec.image_mode)
    if table.holds_images:
        spec = spec.model_copy(update={"image_mode": table.image_mode})
    return settle(table, spec, limits)


_OPENERS: Mapping[str, Callable[[BinaryIO, ProbeSpec, Limits], Opened]] = MappingProxyType(
    {"npz": _open_npz, "safetensors": _open_safetensors, "parquet": _open_parquet}
)


def _recognise(head: bytes, total: int) -> str:
    """A format's name, or words for whatever else it is."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz"
    if head.startswith(b"PAR1"):
        return "parquet"
    header_length = int.from_bytes(head[:HEADER_LENGTH_BYTES], "little")
    if head[HEADER_LENGTH_BYTES:][:1] == b"{" and header_length <= total - HEADER_LENGTH_BYTES:
        return "safetensors"
    for at, magic, words in _KNOWN:
        if head[at:].startswith(magic):
            return words
    if (
        head.isascii()
        and head.decode("ascii").replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    ):
        return "a text file"
    return f"of no known kind (it begins with the bytes {head[:8].hex(' ')})"
