"""Checks of what a model archive must hold, by its format."""

import re
from functools import partial
from typing import BinaryIO, Literal

from service.contract.archives.errors import ArchiveError, something_else, unsafe
from service.contract.archives.kinds import HEAD_BYTES, UNKNOWN, kind_of_head, kind_of_zip
from service.contract.archives.pickles import MAX_PICKLE_BYTES, check_pickle
from service.contract.archives.programs import MAX_GRAPH_BYTES, check_code, check_graph
from service.contract.archives.tables import MAX_TABLE_BYTES, check_table
from service.contract.archives.zips import LOCAL_MAGIC, Archive, shown

ModelFormat = Literal["torchscript", "torch_export"]

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
        file: Seekable. Its position afterwards is undefined. Nothing in it is executed.

    Raises:
        ArchiveError: It is not a model, or not one that an exporter writes; the message says
            what it looks like.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if not head.startswith(LOCAL_MAGIC):
        raise something_else(kind_of_head(head))
    try:
        return _check_zip(Archive(file))
    except ArchiveError as error:
        # Whoever sent a wheel need not read that its names are unusual for a model.
        kind = kind_of_zip(file)
        if kind is None:
            raise
        raise something_else(kind) from error


def _check_zip(archive: Archive) -> ModelFormat:
    if "constants.pkl" in archive.entries and "data.pkl" in archive.entries:
        _check_torchscript(archive)
        archive.check_sums()
        return "torchscript"
    if any(name.startswith(_GRAPHS) for name in archive.entries):
        _check_torch_export(archive)
        archive.check_sums()
        return "torch_export"
    raise something_else(UNKNOWN)


def _check_torchscript(archive: Archive) -> None:
    _check_entries(archive, _SCRIPT_ENTRIES)
    _check_versions(archive)
    if not any(name.startswith("code/") for name in archive.entries):
        raise unsafe("it holds no code")
    # Some archives also hold traced inputs; these are not read when a model is loaded.
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
            folder = name.rpartition("/")[0]
            check_table(
                archive.read(name, MAX_TABLE_BYTES), name, partial(_record_bytes, archive, folder)
            )


def _check_saved(archive: Archive, name: str) -> None:
    """Check example inputs: tensors, in an archive of their own."""
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
    """Return the size of a storage that a pickle refers to; None if there is no such storage."""
    entry = archive.entries.get(f"{folder}/{key}")
    return None if entry is None else entry.size
