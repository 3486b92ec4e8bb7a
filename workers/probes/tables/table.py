"""A table in Arrow's memory layout, read a few rows at a time, as a container of arrays."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from service.contract.probe_spec import ImageMode
from workers.probes.containers import pictures
from workers.probes.containers.container import (
    ArrayInfo,
    check_name,
    check_readable,
    check_size,
    size_in_bytes,
    unreadable,
)
from workers.probes.tables import columns
from workers.probes.tables.columns import Column, Kind
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

_BATCH_BYTES = 8 << 20
_MOST_ROWS_AT_ONCE = 65_536
_IMAGES_AT_ONCE = 64
_NUMBER_BYTES = 8
_SHOWN = 8
_RECURSION = (ValueError, RecursionError)


class Source(Protocol):
    """Where a table's rows come from."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, and what the writer noted beside them."""

    @property
    def rows(self) -> int:
        """How many there are."""

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield some columns from the first row on, about so many rows at once.

        Raises:
            Exception: One of `columns.BROKEN` if the bytes are not what they claim to be.
        """


class Table:
    """A container whose arrays are the columns of a table.

    Args:
        source: Where the rows come from.
        limits: What it may ask for.
        image_mode: What images are decoded to; None to go by what they are.
        is_target: Whether a column of this name holds targets: its images are labels of pixels.

    Raises:
        JobError: `probe_unreadable`, saying what was found instead.
    """

    def __init__(
        self,
        source: Source,
        limits: ProbeLimits,
        image_mode: ImageMode | None,
        is_target: Callable[[str], bool],
    ) -> None:
        self._source = source
        self._limits = limits
        self._check_names()
        self._first = self._first_row()
        self._columns = self._read_schema()
        self._pictures: dict[str, pictures.Pictures] = {}
        for column in self._columns.values():
            if column.kind is Kind.IMAGES:
                self._pictures[column.name] = pictures.look_through(
                    self._images(column), len(self), limits, labels=is_target(column.name)
                )
        # One mode for all, so that what is written into the spec reads every column as it was.
        self.image_mode = image_mode or pictures.common_mode(self._pictures.values())
        self._arrays = {name: self._describe(column) for name, column in self._columns.items()}

    def __len__(self) -> int:
        return self._source.rows

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        """The columns by name, in file order."""
        return self._arrays

    @property
    def holds_images(self) -> bool:
        """Whether any of its columns does."""
        return bool(self._pictures)

    @property
    def index_columns(self) -> list[str]:
        """Columns that pandas wrote to number or name the rows."""
        found = _metadata(self._source.schema, b"pandas").get("index_columns")
        names = found if isinstance(found, list) else []
        return [name for name in names if isinstance(name, str) and name in self._columns]

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of some columns that miss a value in a row."""
        found: set[str] = set()
        for _, batch in self._batches(names, len(self) * len(names) * _NUMBER_BYTES):
            found.update(name for name in names if batch.column(name).null_count)
        return [name for name in names if name in found]

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Read one column."""
        column, info = self._columns[name], self._arrays[name]
        if column.kind is Kind.STRINGS:
            return self._read_strings(column)
        check_readable(name, info, self._limits)
        if column.kind is Kind.IMAGES:
            return pictures.decode(self._images(column), self._pictures[name], self.image_mode)
        shape = columns.row_shape(column, self._first.get(name))
        read = np.empty((len(self), *shape), info.dtype)
        for at, batch in self._batches([name], info.nbytes):
            values = columns.numbers(column, batch.column(0), shape, at)
            read[at : at + len(values)] = values
        return read.reshape(info.shape)

    def stack(self, names: Sequence[str], rows: int | None = None) -> npt.NDArray[np.generic]:
        """Read columns of one number a row side by side, shape (rows, columns)."""
        dtype = np.result_type(*(self._arrays[name].dtype for name in names))
        wanted = len(self) if rows is None else min(rows, len(self))
        read = np.empty((wanted, len(names)), dtype)
        for at, batch in self._batches(names, len(self) * len(names) * dtype.itemsize):
            if at >= wanted:
                break
            for place, name in enumerate(names):
                column = batch.column(name).slice(0, wanted - at)
                values = columns.numbers(self._columns[name], column, (), at)
                read[at : at + len(values), place] = values
        return read

    def _check_names(self) -> None:
        names = self._source.schema.names
        if len(names) > self._limits.max_columns:
            raise too_many_columns(len(names), self._limits)
        seen = set()
        for name in names:
            check_name(name)
            if name in seen:
                raise unreadable(
                    f"The table has two columns named {name!r}; expected distinct names.",
                    hint="Give each column a name of its own.",
                )
            seen.add(name)

    def _first_row(self) -> dict[str, pa.Array]:
        """Return the first row of every column; empty for a table without rows."""
        names = self._source.schema.names
        for _, batch in self._batches(names, 0, most=1):
            if len(batch):
                return {name: batch.column(name).slice(0, 1) for name in names}
        return {}

    def _read_schema(self) -> dict[str, Column]:
        schema = self._source.schema
        info = _metadata(schema, b"huggingface").get("info")
        features = info.get("features") if isinstance(info, dict) else None
        features = features if isinstance(features, dict) else {}
        return {
            field.name: columns.describe(
                field,
                feature if isinstance(feature := features.get(field.name), dict) else {},
                self._first.get(field.name),
            )
            for field in schema
        }

    def _describe(self, column: Column) -> ArrayInfo:
        if column.kind is Kind.IMAGES:
            dtype, shape = self._pictures[column.name].described(self.image_mode)
        else:
            dtype = column.dtype
            row = column.tensor or columns.row_shape(column, self._first.get(column.name))
            shape = (len(self), *row)
        if column.kind is Kind.OTHER:
            return ArrayInfo(column.dtype, shape, 0)
        if column.kind is Kind.STRINGS:
            names = columns.dictionary(self._first.get(column.name))
            return ArrayInfo(column.dtype, shape, 0, names)
        nbytes = size_in_bytes(column.name, shape, np.dtype(dtype).itemsize)
        return ArrayInfo(dtype, shape, nbytes, column.class_names)

    def _read_strings(self, column: Column) -> npt.NDArray[np.generic]:
        parts = [np.empty(0, np.str_)]
        longest = 0
        for at, batch in self._batches([column.name], 0):
            parts.append(columns.strings(column, batch.column(0), at))
            longest = max(longest, parts[-1].itemsize)
            info = ArrayInfo(column.dtype, (len(self),), longest * len(self))
            check_size(column.name, info, self._limits)
        return np.concatenate(parts)

    def _images(self, column: Column) -> Iterator[tuple[str, bytes]]:
        for at, batch in self._batches([column.name], 0, most=_IMAGES_AT_ONCE):
            contents = columns.image_bytes(column, batch.column(0), at)
            yield from (
                (f"row {at + row} of the column {column.name!r}", content)
                for row, content in enumerate(contents)
            )

    def _batches(
        self, names: Sequence[str], total: int, most: int = _MOST_ROWS_AT_ONCE
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield rows of some columns, each time with the position of the first.

        Args:
            names: The columns.
            total: What all their rows take, about, in bytes.
            most: Rows at once.
        """
        per_row = max(1, total // max(1, len(self)))
        at = 0
        try:
            for batch in self._source.batches(names, max(1, min(most, _BATCH_BYTES // per_row))):
                if at + len(batch) > len(self) or batch.schema.names != list(names):
                    raise ValueError("its rows are not those that its directory lists")
                yield at, batch
                at += len(batch)
            if at != len(self):
                raise ValueError(f"{at:,} rows were found where {len(self):,} are listed")
        except columns.BROKEN as error:
            raise damaged(error) from error


def common_schema(schemas: Mapping[str, pa.Schema]) -> pa.Schema:
    """Return the columns of several files, which have to be the same ones.

    Args:
        schemas: Of each file, by its name.

    Raises:
        JobError: `probe_unreadable` if the files are no parts of one table.
    """
    (first_name, first), *others = schemas.items()
    for name, schema in others:
        if not schema.equals(first):
            raise unreadable(
                f"The files are no parts of one table: {first_name!r} has the columns "
                f"{_shown(first)}; {name!r} has {_shown(schema)}.",
                hint="Upload files with the same columns of the same types, or one of them alone.",
            )
    return first


def _shown(schema: pa.Schema) -> str:
    fields = [f"{field.name[:40]!r} {str(field.type)[:40]}" for field in list(schema)[:_SHOWN]]
    return ", ".join(fields) + (" …" if len(schema) > _SHOWN else "")


def damaged(error: Exception) -> JobError:
    """Return the failure of a table whose bytes are not what they claim to be."""
    first_line = str(error).strip().partition("\n")[0]
    return unreadable(
        f"The table is damaged, or written in a way that is not read: {first_line[:300]}.",
        hint="Check that the upload was complete, or write the file again with "
        "pyarrow.parquet.write_table(table, path).",
    )


def too_many_columns(found: int, limits: ProbeLimits) -> JobError:
    """Return the failure of a table that is too wide."""
    return unreadable(
        f"The table has {found:,} columns; at most {limits.max_columns:,} are read.",
        hint="Store the inputs as one column of lists, or as an array in an npz file.",
    )


def _metadata(schema: pa.Schema, key: bytes) -> dict[str, Any]:
    try:
        found = json.loads((schema.metadata or {}).get(key, b"{}"))
    except _RECURSION:
        return {}
    return found if isinstance(found, dict) else {}
