"""Which kind of file this is, judged by its content."""

from typing import BinaryIO

from service.probes.spec import FORMATS, ProbeFormat
from workers.probes.container import Container, Limits, file_size, unreadable
from workers.probes.npz import NpzFile
from workers.probes.safetensors import HEADER_LENGTH_BYTES, SafetensorsFile

_TAR_MAGIC_AT = 257
_KNOWN = (
    (0, b"\x93NUMPY", "a single numpy array (.npy)"),
    (0, b"\x80\x02", "a Python pickle, which is never read"),
    (0, b"\x80\x03", "a Python pickle, which is never read"),
    (0, b"\x80\x04", "a Python pickle, which is never read"),
    (0, b"\x80\x05", "a Python pickle, which is never read"),
    (0, b"PAR1", "a Parquet file"),
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


def open_container(
    file: BinaryIO, declared: ProbeFormat | None, limits: Limits
) -> tuple[ProbeFormat, Container]:
    """Open a probe file by what it holds.

    Args:
        file: Readable and seekable.
        declared: The format its spec names, if it names one.
        limits: What the file may ask for.

    Raises:
        JobError: `probe_unreadable` if it is empty, of another kind, of another format than
            declared, or damaged.
    """
    total = file_size(file)
    head = file.read(512)
    if not total:
        raise unreadable(
            "The probe file is empty (0 bytes); expected an npz or safetensors file.",
            hint="Check that the file was written and uploaded completely.",
        )
    found = _recognise(head, total)
    if found not in FORMATS:
        raise unreadable(
            f"The probe file is {found}; expected an npz or safetensors file.", hint=_WHAT_TO_SEND
        )
    if declared is not None and declared != found:
        raise unreadable(
            f"The probe file is {found}, but its spec says {declared!r}.",
            hint=f'Set "format": "{found}" in the spec, or leave it out.',
        )
    if found == "npz":
        return "npz", NpzFile(file, limits)
    return "safetensors", SafetensorsFile(file, limits)


def _recognise(head: bytes, total: int) -> str:
    """A format's name, or words for whatever else it is."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz"
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
