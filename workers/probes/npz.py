"""numpy's `.npz`: a zip of `.npy` members, read without ever unpickling."""

import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, BinaryIO

import numpy as np
import numpy.typing as npt

from workers.probes.container import (
    ArrayInfo,
    Limits,
    check_name,
    check_readable,
    size_in_bytes,
    unreadable,
)

_SAVE_AGAIN = "write the file again with numpy.savez(path, x=inputs, y=labels)"
_SUFFIX = ".npy"
_BROKEN = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""What numpy and zipfile raise on bytes that are not what they claim to be.

A member that says it is encrypted is a RuntimeError, an unknown compression one derived from it.
"""


class NpzFile:
    """An opened npz file whose directory has been checked.

    Args:
        file: Readable and seekable.
        limits: What it may ask for.

    Raises:
        JobError: `probe_unreadable`, saying what was found instead.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._limits = limits
        try:
            # A directory of millions of members is bounded by the child's memory limit.
            self._zip = zipfile.ZipFile(file)
        except _BROKEN as error:
            raise unreadable(
                f"The npz file is damaged: {error}; expected a complete zip archive.",
                hint=f"Check that the upload was complete, or {_SAVE_AGAIN}.",
            ) from error
        self._arrays = self._read_directory()

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        """The arrays by name, in file order."""
        return self._arrays

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Read one array, in the machine's byte order."""
        check_readable(name, self._arrays[name], self._limits, as_targets=True)
        try:
            with self._zip.open(name + _SUFFIX) as member:
                array: npt.NDArray[np.generic] = np.lib.format.read_array(
                    member, allow_pickle=False
                )
                # The checksum is compared only when the end has been read.
                surplus = member.read(1)
        except _BROKEN as error:
            raise self._damaged(name, error) from error
        if surplus:
            raise self._damaged(name, "bytes follow the last element")
        return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)

    def _read_directory(self) -> dict[str, ArrayInfo]:
        members = self._zip.infolist()
        if len(members) > self._limits.max_arrays:
            raise unreadable(
                f"The npz file holds {len(members):,} members; at most "
                f"{self._limits.max_arrays:,} are read.",
                hint="Store the inputs as one array and the targets as another.",
            )
        arrays: dict[str, ArrayInfo] = {}
        for member in members:
            if not member.filename.endswith(_SUFFIX):
                continue
            name = member.filename.removesuffix(_SUFFIX)
            check_name(name)
            if name in arrays:
                raise unreadable(
                    f"The npz file holds two arrays named {name!r}; expected distinct names.",
                    hint="Give each array a name of its own.",
                )
            arrays[name] = self._read_header(name, member)
        if not arrays:
            names = ", ".join(repr(member.filename[:80]) for member in members[:5])
            raise unreadable(
                "The file is a zip archive but not an npz: expected members ending in .npy, "
                f"found {names or 'none'}.",
                hint=f"If this is a model, upload it as a model; for a probe, {_SAVE_AGAIN}.",
            )
        return arrays

    def _read_header(self, name: str, member: zipfile.ZipInfo) -> ArrayInfo:
        try:
            with self._zip.open(member) as stream:
                shape, dtype = _npy_header(stream)
                header_bytes = stream.tell()
        except _BROKEN as error:
            raise self._damaged(name, error) from error
        nbytes = size_in_bytes(name, shape, dtype.itemsize)
        if dtype.hasobject:
            # Kept in the directory, so that a stray object array does not spoil the others.
            return ArrayInfo("object (pickled, never read)", shape, nbytes)
        if header_bytes + nbytes != member.file_size:
            raise self._damaged(
                name,
                f"its header declares {nbytes:,} bytes of {dtype.name} {shape}, "
                f"the archive holds {member.file_size - header_bytes:,}",
            )
        return ArrayInfo(dtype.name, shape, nbytes)

    def _damaged(self, name: str, found: object) -> Exception:
        return unreadable(
            f"The array {name!r} of the npz file is damaged: {str(found)[:300]}.",
            hint=f"Check that the upload was complete, or {_SAVE_AGAIN}.",
        )


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        # 3.0 exists only for structured types with unicode field names.
        raise ValueError(f"its .npy version is {version}; expected (1, 0) or (2, 0)")
    shape, _, dtype = readers[version](stream)
    return shape, dtype
