"""What a model archive has to hold, by its format."""

import json
import re
from functools import partial
from typing import BinaryIO, Literal

from service.models.archives.errors import damaged, something_else, unsafe
from service.models.archives.pickles import MAX_PICKLE_BYTES, check_pickle
from service.models.archives.programs import MAX_GRAPH_BYTES, check_code, check_graph
from service.models.archives.zips import LOCAL_MAGIC, Archive, shown

ModelFormat = Literal["torchscript", "torch_export"]

# What a file starts with, and how people call it.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x80\x02", "a Python pickle (torch.save in its old format, or pickle)"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x93NUMPY", "a NumPy .npy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras?)"),
    (b"\x89PNG", "a PNG image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x08", "a protocol buffer (ONNX?)"),
    (b"{", "JSON text"),
)

_MAX_TABLE_BYTES = 32 << 20
_SHORT = 64
_VERSIONS = ("version", ".data/version")

_SCRIPT_ENTRIES = re.compile(
    r"data\.pkl|constants\.pkl|attributes\.pkl|version|byteorder|\.format_version"
    r"|\.storage_alignment|\.data/(version|serialization_id)"
    r"|(data|constants|tensors|traced_inputs)/\d+"
    r"|traced_inputs\.pkl|code/.+\.py(\.debug_pkl)?|extra/.+"
)
_EXPORT_ENTRIES = re.compile(
    r"models/[^/]+\.json|data/(weights|constants)/((weight|tensor)_\d+|[^/]+\.json)"
    r"|data/sample_inputs/[^/]+\.pt|archive_format"
    r"|archive_version|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/(version|serialization_id)|extra/.+"
)
# What torch.save writes.
_SAVED_ENTRIES = re.compile(
    r"data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id"
)
_GRAPHS = "models/"
_SAMPLES = "data/sample_inputs/"
_TABLES = re.compile(r"data/(weights|constants)/[^/]+\.json")
_PACKED_ENTRIES = re.compile(r"(code|extra)/.+")


def check_archive(file: BinaryIO) -> ModelFormat:
    """Check an archive, and say which format it is in.

    Args:
        file: Seekable. Its position is left anywhere. Nothing in it is carried out.

    Raises:
        ArchiveError: It is no model, or not one that an exporter writes; the message says what it
            looks like.
    """
    file.seek(0)
    head = file.read(64)
    if not head.startswith(LOCAL_MAGIC):
        raise something_else(f"it looks like {_describe_head(head)}")
    archive = Archive(file)
    inner = archive.entries
    if "constants.pkl" in inner and "data.pkl" in inner:
        _check_torchscript(archive)
        archive.check_sums()
        return "torchscript"
    if any(name.startswith("models/") for name in inner):
        _check_torch_export(archive)
        archive.check_sums()
        return "torch_export"
    raise something_else(f"it is {_describe_zip(set(inner))}")


def _describe_head(head: bytes) -> str:
    if len(head) > 8 and head[8:9] == b"{":  # noqa: PLR2004 - after the 8-byte header length
        return "a safetensors file: weights without the program that uses them"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return "none of the formats known here"


def _describe_zip(inner: set[str]) -> str:
    if any(name.startswith("data/aotinductor/") for name in inner):
        return "a program compiled by AOTInductor, whose layers cannot be seen"
    if "serialized_exported_program.json" in inner:
        return "a torch.export .pt2 archive of an old kind; save it again with torch 2.8 or newer"
    if "data.pkl" in inner:
        return "a torch.save checkpoint (a state_dict or a pickled module), not a program"
    return "a zip file of something else"


def _check_torchscript(archive: Archive) -> None:
    _check_entries(archive, _SCRIPT_ENTRIES)
    _check_versions(archive)
    if not any(name.startswith("code/") for name in archive.entries):
        raise unsafe("it holds no code")
    # Traced inputs, which some archives have too, are not read when a model is loaded.
    for folder in ("data", "constants"):
        name = f"{folder}.pkl"
        check_pickle(
            archive.read(name, MAX_PICKLE_BYTES), name, partial(_record_bytes, archive, folder)
        )
    check_code(archive)


def _check_torch_export(archive: Archive) -> None:
    _check_entries(archive, _EXPORT_ENTRIES)
    _check_versions(archive)
    for name in archive.entries:
        if name.startswith(_GRAPHS):
            check_graph(archive.read(name, MAX_GRAPH_BYTES), name)
        elif name.startswith(_SAMPLES):
            _check_saved(archive.within(name), name)
        elif _TABLES.fullmatch(name):
            _check_table(archive.read(name, _MAX_TABLE_BYTES), name)


def _check_table(content: bytes, name: str) -> None:
    """Of weights or constants: each is plain numbers, for torch would carry a pickle out."""
    try:
        table = json.loads(content)
        pickled = [key for key, about in table["config"].items() if about.get("use_pickle")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(f"{shown(name)} cannot be read") from error
    if pickled:
        raise unsafe(f"{shown(pickled[0])} is a pickled object, not a plain tensor")


def _check_saved(archive: Archive, name: str) -> None:
    """Of example inputs: tensors, in an archive of their own."""
    _check_entries(archive, _SAVED_ENTRIES)
    _check_versions(archive)
    if "data.pkl" not in archive.entries:
        raise unsafe(f"{shown(name)} holds no tensors")
    content = archive.read("data.pkl", MAX_PICKLE_BYTES)
    check_pickle(content, name, partial(_record_bytes, archive, "data"))


def _check_entries(archive: Archive, expected: re.Pattern[str]) -> None:
    for name, entry in archive.entries.items():
        if not expected.fullmatch(name):
            raise unsafe(f"{shown(name)} is no part of a model")
        if entry.is_packed and not _PACKED_ENTRIES.fullmatch(name):
            raise unsafe(f"{shown(name)} is deflated")


def _check_versions(archive: Archive) -> None:
    versions = [archive.read(name, _SHORT).strip() for name in _VERSIONS if name in archive.entries]
    if len(versions) != 1 or not re.fullmatch(rb"\d{1,2}", versions[0]):
        raise unsafe("it does not say its version once, as a number")
    if "byteorder" in archive.entries and archive.read("byteorder", _SHORT).strip() != b"little":
        raise unsafe("its numbers are not little-endian")


def _record_bytes(archive: Archive, folder: str, key: str) -> int | None:
    """Size of a storage that a pickle refers to; None if there is none."""
    entry = archive.entries.get(f"{folder}/{key}")
    return None if entry is None else entry.size
