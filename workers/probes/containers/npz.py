"""numpy's arrays: an `.npz`, which is a zip of `.npy` files, or a tar of them; never unpickled."""

from collections.abc import Mapping
from typing import IO

import numpy as np
import numpy.typing as npt

from workers.probes.containers.container import (
    ArrayInfo,
    check_name,
    check_readable,
    size_in_bytes,
    unreadable,
)
from workers.probes.containers.members import BROKEN, Member, Members, common_folder
from workers.protocol.arguments import ProbeLimits

_SAVE_AGAIN = "write the file again with numpy.savez(path, x=inputs, y=labels)"
_SUFFIX = ".npy"


class NpzFile:
    """`.npy` files in an archive, whose headers have been checked.

    Args:
        members: What the archive holds.
        limits: What it may ask for.

    Raises:
        JobError: `probe_unreadable`, saying what was found instead.
    """

    def __init__(self, members: Members, limits: ProbeLimits) -> None:
        self._limits = limits
        self._members: dict[str, Member] = {}
        self._arrays = self._read_directory(members)

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        """The arrays by name, in file order."""
        return self._arrays

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Read one array, in the machine's byte order."""
        check_readable(name, self._arrays[name], self._limits, as_targets=True)
        try:
            with self._members[name].open() as member:
                array: npt.NDArray[np.generic] = np.lib.format.read_array(
                    member, allow_pickle=False
                )
                # The checksum is compared only when the end has been read.
                surplus = member.read(1)
        except BROKEN as error:
            raise self._damaged(name, error) from error
        if surplus:
            raise self._damaged(name, "bytes follow the last element")
        return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)

    def _read_directory(self, members: Members) -> dict[str, ArrayInfo]:
        if len(members.files) > self._limits.max_arrays:
            raise unreadable(
                f"The npz file holds {len(members.files):,} members; at most "
                f"{self._limits.max_arrays:,} are read.",
                hint="Store the inputs as one array and the targets as another.",
            )
        files = [file for file in members.files if file.name.endswith(_SUFFIX)]
        outer = common_folder(file.path for file in files)
        arrays: dict[str, ArrayInfo] = {}
        for file in files:
            name = "/".join(file.path.parts[outer:]).removesuffix(_SUFFIX)
            check_name(name)
            if name in arrays:
                raise unreadable(
                    f"The npz file holds two arrays named {name!r}; expected distinct names.",
                    hint="Give each array a name of its own.",
                )
            self._members[name] = file
            arrays[name] = self._read_header(name, file)
        return arrays

    def _read_header(self, name: str, member: Member) -> ArrayInfo:
        try:
            with member.open() as stream:
                shape, dtype = _npy_header(stream)
                header_bytes = stream.tell()
        except BROKEN as error:
            raise self._damaged(name, error) from error
        nbytes = size_in_bytes(name, shape, dtype.itemsize)
        if dtype.hasobject:
            # Kept in the directory, so that a stray object array does not spoil the others.
            return ArrayInfo("object (pickled, never read)", shape, nbytes)
        if header_bytes + nbytes != member.size:
            raise self._damaged(
                name,
                f"its header declares {nbytes:,} bytes of {dtype.name} {shape}, "
                f"the archive holds {member.size - header_bytes:,}",
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
