"""One column of an Arrow table: what kind of array it is, and its values as numpy has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from service.contract.failures import FailureCode
from service.contract.probe_spec import MAX_CLASSES_NAMED
from workers.probes.containers.container import MAX_DIMENSIONS, shape_text, unreadable
from workers.protocol.errors import JobError

BROKEN = (pa.ArrowException, OSError, ValueError, TypeError, KeyError)
"""What pyarrow raises on bytes that are not what they claim to be; not for want of memory."""

MAX_STRING = 1000
"""Characters of a label; what is longer is a text, and no class's name."""

_IMAGE_FIELDS = {"bytes", "path"}
_IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")


class Kind(StrEnum):
    """What a column can be read as."""

    NUMBERS = "numbers"
    STRINGS = "strings"
    IMAGES = "images"
    OTHER = "other"


@dataclass(frozen=True)
class Column:
    """What is known of a column before its rows are read.

    Args:
        name: Its name.
        kind: What it can be read as.
        dtype: numpy's name of its values' type; Arrow's own where numpy has none.
        axes: How many axes its rows have: one for each level of lists.
        class_names: What its whole numbers stand for, where the file says so.
        tensor: The shape of a row whose entries are stored as one list.
    """

    name: str
    kind: Kind
    dtype: str
    axes: int
    class_names: tuple[str, ...] | None = None
    tensor: tuple[int, ...] | None = None


def describe(field: pa.Field, feature: Mapping[str, Any], sample: pa.Array | None) -> Column:
    """Tell what a column is from its type.

    Args:
        field: Its name and type.
        feature: What Hugging Face's metadata say of it; empty without.
        sample: Its first row; None for a table without rows.
    """
    value_type, axes = field.type, 0
    if isinstance(value_type, pa.FixedShapeTensorType):
        if value_type.permutation not in (None, list(range(len(value_type.shape)))):
            return Column(field.name, Kind.OTHER, "a permuted tensor", 0)
        kind, dtype = _kind(value_type.value_type, None)
        return Column(field.name, kind, dtype, 1, tensor=tuple(value_type.shape))
    while True:
        if isinstance(value_type, pa.BaseExtensionType):
            value_type = value_type.storage_type
        elif _is_list(value_type) and axes <= MAX_DIMENSIONS:
            value_type, axes = value_type.value_type, axes + 1
        else:
            break
    kind, dtype = _kind(value_type, sample if axes == 0 else None)
    if kind is Kind.OTHER or (kind is not Kind.NUMBERS and axes):
        return Column(field.name, Kind.OTHER, str(field.type)[:80], 0)
    return Column(field.name, kind, dtype, axes, _class_names(feature))


def row_shape(column: Column, sample: pa.Array | None) -> tuple[int, ...]:
    """Return the lengths of the lists in a column's first row; zeros where there is none."""
    shape: list[int] = []
    for _ in range(column.axes):
        sample = None if sample is None else _storage(sample)
        if sample is None or not len(sample) or not sample[0].is_valid:
            return (*shape, *[0] * (column.axes - len(shape)))
        shape.append(len(sample[0]))
        sample = sample[0].values
    return tuple(shape)


def numbers(
    column: Column, array: pa.Array, shape: tuple[int, ...], first_row: int
) -> npt.NDArray[np.generic]:
    """Return the numbers of some rows.

    Args:
        column: Of kind `NUMBERS`.
        array: The rows.
        shape: What each of them must have.
        first_row: Position in the file of the first, for messages.

    Returns:
        Shape (rows, *shape), dtype as the column says.

    Raises:
        JobError: `probe_unreadable` for a row without a value, or of another shape.
    """
    rows, entries = len(array), 1
    for axis, length in enumerate(shape):
        array = _storage(array)
        _refuse_nulls(column, array, entries, first_row)
        if pa.types.is_fixed_size_list(array.type):
            lengths = np.full(len(array), array.type.list_size)
        else:
            lengths = np.diff(array.offsets.to_numpy())
        if (odd := np.flatnonzero(lengths != length)).size:
            raise _ragged(column, shape, axis, int(lengths[odd[0]]), first_row + odd[0] // entries)
        array = array.flatten()
        entries *= length
    array = _storage(array)
    _refuse_nulls(column, array, entries, first_row)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
        _refuse_nulls(column, array, entries, first_row)
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64(), safe=False)
    values: npt.NDArray[np.generic] = array.to_numpy(zero_copy_only=False)
    return values.reshape(rows, *shape)


def strings(column: Column, array: pa.Array, first_row: int) -> npt.NDArray[np.str_]:
    """Return the strings of some rows, shape (rows,).

    Raises:
        JobError: `probe_unreadable` for a row without a value, or with a text.
    """
    _refuse_nulls(column, array, 1, first_row)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
        _refuse_nulls(column, array, 1, first_row)
    texts = array.to_pylist()
    for row, text in enumerate(texts):
        if len(text) > MAX_STRING:
            raise unreadable(
                f"Row {first_row + row} of the column {column.name!r} holds {len(text):,} "
                f"characters; labels have at most {MAX_STRING:,}.",
                hint='Set "target" in the spec to the column with the labels.',
                detail={"array": column.name, "row": first_row + row},
            )
    return np.array(texts, dtype=np.str_)


def dictionary(sample: pa.Array | None) -> tuple[str, ...] | None:
    """Return the strings that a column's rows are picked from, in file order; None without."""
    if sample is None or not pa.types.is_dictionary(sample.type):
        return None
    if len(sample.dictionary) > MAX_CLASSES_NAMED or sample.dictionary.null_count:
        return None
    return tuple(sample.dictionary.to_pylist())


def image_bytes(column: Column, array: pa.Array, first_row: int) -> list[bytes]:
    """Return the encoded images of some rows.

    Raises:
        JobError: `probe_unreadable` for a row without an image.
    """
    _refuse_nulls(column, array, 1, first_row)
    if pa.types.is_struct(array.type):
        array = array.field("bytes")
        if array.null_count:
            row = first_row + _first_null(array)
            raise unreadable(
                f"Row {row} of the column {column.name!r} names an image's file and does not hold "
                "its bytes; the probe must hold all of its images.",
                hint="Write the dataset with its images embedded, as dataset.save_to_disk(folder) "
                "does, and pack that folder: tar cf probe.tar folder.",
                detail={"array": column.name, "row": row},
            )
    contents: list[bytes] = array.to_pylist()
    return contents


def _storage(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _kind(value_type: pa.DataType, sample: pa.Array | None) -> tuple[Kind, str]:
    if pa.types.is_dictionary(value_type):
        value_type = value_type.value_type
    if _is_number(value_type):
        return Kind.NUMBERS, np.dtype(value_type.to_pandas_dtype()).name
    if pa.types.is_decimal(value_type):
        return Kind.NUMBERS, "float64"
    if _is_string(value_type):
        return Kind.STRINGS, "str"
    if _is_image(value_type, sample):
        return Kind.IMAGES, "uint8"
    return Kind.OTHER, str(value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _is_image(kind: pa.DataType, sample: pa.Array | None) -> bool:
    if pa.types.is_struct(kind):
        return {field.name for field in kind} == _IMAGE_FIELDS
    if sample is None or not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return False
    return (sample[0].as_py() or b"").startswith(_IMAGE_MAGIC)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _class_names(feature: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names in a `ClassLabel`, however many lists are around it."""
    for _ in range(MAX_DIMENSIONS):
        match feature:
            case {"_type": "ClassLabel", "names": [*names]} if all(
                isinstance(name, str) for name in names
            ):
                return tuple(names)
            case {"feature": Mapping() as inner}:
                feature = inner
            case _:
                return None
    return None


def _first_null(array: pa.Array) -> int:
    return int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])


def _refuse_nulls(column: Column, array: pa.Array, entries: int, first_row: int) -> None:
    if array.null_count:
        row = first_row + _first_null(array) // entries
        raise MissingValueError(column.name, row)


class MissingValueError(JobError):
    """A table has no value where one is needed.

    Args:
        name: The column.
        row: The first row without one, counted from 0 without the header.
    """

    def __init__(self, name: str, row: int) -> None:
        super().__init__(
            FailureCode.PROBE_UNREADABLE,
            f"The column {name!r} has no value in row {row}; expected one in every row.",
            hint="Fill or drop the rows that miss a value before you write the file.",
            detail={"array": name, "row": row},
        )
        self.name = name


def _ragged(column: Column, shape: tuple[int, ...], axis: int, length: int, row: int) -> JobError:
    return unreadable(
        f"The lists in the column {column.name!r} differ in length: the first row has shape "
        f"{shape_text(shape)}, row {row} has {length} on axis {axis}; expected one shape.",
        hint="Pad or cut the lists to one length, with a mask in a column of its own where the "
        "model takes one.",
        detail={"array": column.name, "row": int(row)},
    )
