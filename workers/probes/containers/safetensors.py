"""safetensors: a JSON directory and raw little-endian bytes, read one array at a time."""

import json
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from workers.probes.containers.container import (
    ArrayInfo,
    check_name,
    check_readable,
    file_size,
    size_in_bytes,
    unreadable,
)
from workers.protocol.arguments import ProbeLimits

HEADER_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 1 << 20
"""A probe has a handful of arrays; the format itself allows 100 MB."""

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "?",
}
_BFLOAT16 = "bfloat16"
_SAVE_AGAIN = "write the file again with safetensors.numpy.save_file"


class SafetensorsFile:
    """An opened safetensors file whose directory has been checked.

    Args:
        file: Readable and seekable.
        limits: What it may ask for.

    Raises:
        JobError: `probe_unreadable`, saying what was found instead.
    """

    def __init__(self, file: BinaryIO, limits: ProbeLimits) -> None:
        self._file = file
        self._limits = limits
        self._offsets: dict[str, int] = {}
        self._lengths: dict[str, int] = {}
        self._arrays = self._read_directory()

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        """The arrays by name, in file order."""
        return self._arrays

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Read one array, in the machine's byte order."""
        info = self._arrays[name]
        check_readable(name, info, self._limits, as_targets=True)
        is_bfloat16 = info.dtype == _BFLOAT16
        stored = np.dtype(np.uint16 if is_bfloat16 else info.dtype)
        array = np.empty(info.shape, stored.newbyteorder("<"))
        self._file.seek(self._offsets[name])
        view = array.reshape(-1).view(np.uint8).data
        filled = 0
        while filled < len(view):
            count = self._file.readinto(view[filled:])  # type: ignore[attr-defined]  # typing.BinaryIO lacks what every binary file has
            if not count:
                raise _damaged(f"the bytes of {name!r} end after {filled:,} of {len(view):,}")
            filled += count
        if array.dtype == np.bool_ and bool((array.view(np.uint8) > 1).any()):
            raise _damaged(f"{name!r} is BOOL but holds bytes other than 0 and 1")
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        if not is_bfloat16:
            return native
        # A bfloat16 is the upper half of a float32.
        return (native.astype(np.uint32) << 16).view(np.float32)

    def _read_directory(self) -> dict[str, ArrayInfo]:
        total = file_size(self._file)
        length = int.from_bytes(self._file.read(HEADER_LENGTH_BYTES), "little")
        data_start = HEADER_LENGTH_BYTES + length
        if length > min(_MAX_HEADER_BYTES, total - HEADER_LENGTH_BYTES):
            raise _damaged(
                f"its header claims {length:,} bytes; expected at most {_MAX_HEADER_BYTES:,} in a "
                f"file of {total:,}"
            )
        try:
            header = json.loads(self._file.read(length))
        except (ValueError, RecursionError) as error:
            raise _damaged(f"its header is not JSON: {error}") from error
        if not isinstance(header, dict):
            raise _damaged(f"its header is a JSON {type(header).__name__}; expected an object")
        header.pop("__metadata__", None)
        if len(header) > self._limits.max_arrays:
            raise unreadable(
                f"The safetensors file holds {len(header):,} arrays; at most "
                f"{self._limits.max_arrays:,} are read.",
                hint="Store the inputs as one array and the targets as another.",
            )
        arrays = {
            name: self._read_entry(name, entry, data_start, total) for name, entry in header.items()
        }
        self._check_spans(data_start, total)
        return arrays

    def _check_spans(self, data_start: int, total: int) -> None:
        """Check that every byte of the data belongs to one array, as the format has it."""
        position = data_start
        for offset, nbytes in sorted(
            (at, self._lengths[name]) for name, at in self._offsets.items()
        ):
            if offset != position:
                raise _damaged("its arrays overlap, or leave bytes to none of them")
            position += nbytes
        if position != total:
            raise _damaged(f"{total - position:,} bytes at its end belong to no array")

    def _read_entry(self, name: str, entry: object, data_start: int, total: int) -> ArrayInfo:
        check_name(name)
        match entry:
            case {
                "dtype": str(dtype),
                "shape": [*lengths],
                "data_offsets": [int(begin), int(end)],
            } if all(type(length) is int for length in lengths):
                shape = tuple(lengths)
            case _:
                raise _damaged(
                    f"the entry of {name!r} is not {{dtype, shape, data_offsets [begin, end]}}"
                )
        if not 0 <= begin <= end <= total - data_start:
            raise _damaged(
                f"{name!r} is said to lie at bytes {begin:,} to {end:,}, the file holds "
                f"{total - data_start:,} bytes of data"
            )
        self._offsets[name], self._lengths[name] = data_start + begin, end - begin
        stored = np.dtype(_DTYPES.get(dtype, np.void))
        nbytes = size_in_bytes(name, shape, stored.itemsize)
        if dtype not in _DTYPES:
            return ArrayInfo(dtype[:40], shape, end - begin)
        if nbytes != end - begin:
            raise _damaged(
                f"{name!r} is {dtype} {shape}, which takes {nbytes:,} bytes, but is given "
                f"{end - begin:,}"
            )
        if dtype == "BF16":
            return ArrayInfo(_BFLOAT16, shape, 2 * nbytes)  # in memory, as float32
        return ArrayInfo(stored.name, shape, nbytes)


def _damaged(found: str) -> Exception:
    return unreadable(
        f"The safetensors file is damaged: {found}.",
        hint=f"Check that the upload was complete, or {_SAVE_AGAIN}.",
    )
