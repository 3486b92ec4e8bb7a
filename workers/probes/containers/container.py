"""What containers have in common: a directory of named arrays, each read on demand.

A file is hostile until it is read: its directory is checked before anything is allocated, and
nothing but the file descriptor is ever opened.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from service.contract.failures import FailureCode
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

MAX_DIMENSIONS = 16
"""A dozen axes is already odd; numpy itself stops at 64."""

MAX_LENGTH = 2**48
"""Of one axis: more bytes than a machine can address."""

_TEXT = re.compile(r"(str|bytes)\d*")
"""numpy's names of text, with its length in bits."""

MAX_MESSAGE = 1000
MAX_NAME = 200

READABLE_DTYPES = frozenset(
    {
        "float16", "bfloat16", "float32", "float64", "uint8", "uint16", "uint32", "uint64",
        "int8", "int16", "int32", "int64", "bool",
    }
)  # fmt: skip
"""What torch represents. numpy has no bfloat16: a container reads it as float32, which holds it."""


@dataclass(frozen=True)
class ArrayInfo:
    """What a container's directory says of one array.

    Args:
        dtype: numpy's name of the type, or the container's own where numpy has none.
        shape: Samples first.
        nbytes: Size in memory, never yet allocated.
        class_names: What its whole numbers stand for, from 0 on, or the strings it is made of in
            the file's own order; None where the file does not say.
        columns: What of a table it is made of, side by side; nothing for an array as it is stored.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    class_names: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()

    @property
    def is_numeric(self) -> bool:
        """Whether this array holds numbers."""
        return self.dtype in READABLE_DTYPES

    @property
    def is_text(self) -> bool:
        """Whether this array holds strings, which can be labels."""
        return _TEXT.fullmatch(self.dtype) is not None

    @property
    def may_be_targets(self) -> bool:
        """Whether this array can be targets: numbers, or text."""
        return self.is_numeric or self.is_text


class Container(Protocol):
    """A probe file: its directory, and a way to read one array."""

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        """The arrays by name, in file order."""

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Read one array of the directory, in the machine's byte order.

        Raises:
            JobError: `probe_unreadable` if the bytes are not what the directory says.
        """


def unreadable(message: str, *, hint: str, detail: dict[str, JsonValue] | None = None) -> JobError:
    """Return the failure of a probe file that cannot be read as it is.

    The message is cut to a readable length, because names and figures in it come from the file.
    """
    shortened = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"
    return JobError(FailureCode.PROBE_UNREADABLE, shortened, hint=hint, detail=detail)


def file_size(file: BinaryIO) -> int:
    """Return the size of a seekable file in bytes; leave the position at the start."""
    size = file.seek(0, 2)
    file.seek(0)
    return size


def check_name(name: str) -> None:
    """Refuse a name that a spec could not carry or a person could not read.

    Raises:
        JobError: `probe_unreadable`.
    """
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise unreadable(
            f"The probe holds an array named {name[:MAX_NAME]!r} ({len(name):,} characters); "
            f"expected 1 to {MAX_NAME} printable characters.",
            hint="Rename the array, for example to 'x' or 'y'.",
        )


def size_in_bytes(name: str, shape: tuple[int, ...], itemsize: int) -> int:
    """Return the memory an array of this shape takes, in Python's integers that cannot overflow.

    Raises:
        JobError: `probe_unreadable` if the shape is none an array can have.
    """
    if len(shape) > MAX_DIMENSIONS or not all(0 <= length <= MAX_LENGTH for length in shape):
        # The lengths are not repeated: one with a thousand digits cannot even be printed.
        raise unreadable(
            f"The array {name!r} claims a shape of {len(shape):,} axes that no array can have; "
            f"expected at most {MAX_DIMENSIONS}, with lengths from 0 to {MAX_LENGTH:,}.",
            hint="Write the file again with numpy.savez or safetensors.",
        )
    return math.prod(shape) * itemsize


def check_readable(
    name: str, info: ArrayInfo, limits: ProbeLimits, *, as_targets: bool = False
) -> None:
    """Refuse an array of an unusable type or an unbearable size, before it is allocated.

    Args:
        name: The array's name.
        info: What the directory says of it.
        limits: The largest array.
        as_targets: Whether it is to be the targets, which may also be text.

    Raises:
        JobError: `probe_unreadable`.
    """
    if not (info.may_be_targets if as_targets else info.is_numeric):
        text = ", or text (numpy's U or S)" if as_targets else ""
        instead = ' or set "target" to another array' if as_targets else ""
        raise unreadable(
            f"The array {name!r} has dtype {info.dtype}; expected one of "
            f"{', '.join(sorted(READABLE_DTYPES))}{text}.",
            hint=f"Convert {name!r} to one of these types before saving{instead}.",
        )
    check_size(name, info, limits)


def check_size(name: str, info: ArrayInfo, limits: ProbeLimits) -> None:
    """Refuse an array of an unbearable size.

    Raises:
        JobError: `probe_unreadable`.
    """
    if info.nbytes > limits.max_array_bytes:
        raise unreadable(
            f"The array {name!r} takes {info.nbytes:,} bytes {shape_text(info.shape)}; at most "
            f"{limits.max_array_bytes:,} bytes are read.",
            hint="Register fewer samples, or store them in a smaller dtype such as uint8.",
            detail={"bytes": info.nbytes, "limit": limits.max_array_bytes},
        )


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as people write it: `(100, 28, 28)`."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
