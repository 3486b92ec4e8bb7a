"""Parquet files: one, or several that are parts of one table."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from workers.probes.container import file_size, unreadable
from workers.probes.tables.columns import BROKEN
from workers.probes.tables.table import damaged

_TAIL_BYTES = 8
_MAX_FOOTER_BYTES = 64 << 20
"""The directory of columns and row groups; it is decoded at once."""


class ParquetSource:
    """The rows of parquet files, one after the other.

    Args:
        files: By name, in order; each readable and seekable.

    Raises:
        JobError: `probe_unreadable` if one is damaged, or has other columns than the first.
    """

    def __init__(self, files: Sequence[tuple[str, BinaryIO]]) -> None:
        self._files = [_open(file) for _, file in files]
        self.schema: pa.Schema = self._files[0].schema_arrow
        for (name, _), file in zip(files, self._files, strict=True):
            check_same_columns(self.schema, files[0][0], file.schema_arrow, name)
        self.rows = sum(file.metadata.num_rows for file in self._files)

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns from the first row on, about so many rows at once."""
        for file in self._files:
            for batch in file.iter_batches(batch_size=rows, columns=list(names), use_threads=False):
                yield batch.select(list(names))


def check_same_columns(first: pa.Schema, first_name: str, other: pa.Schema, name: str) -> None:
    """Refuse files that are no parts of one table.

    Raises:
        JobError: `probe_unreadable`, naming both files.
    """
    if not first.equals(other):
        shown = [
            ", ".join(f"{field.name[:40]!r} {str(field.type)[:40]}" for field in list(schema)[:8])
            for schema in (first, other)
        ]
        raise unreadable(
            f"The files are no parts of one table: {first_name!r} has the columns {shown[0]}, "
            f"{name!r} has {shown[1]}.",
            hint="Upload files with the same columns of the same types, or one of them alone.",
        )


def _open(file: BinaryIO) -> pq.ParquetFile:
    size = file_size(file)
    file.seek(max(0, size - _TAIL_BYTES))
    footer = int.from_bytes(file.read(4), "little")
    file.seek(0)
    if footer > _MAX_FOOTER_BYTES:
        raise damaged(ValueError(f"its footer claims {footer:,} bytes"))
    try:
        return pq.ParquetFile(file, pre_buffer=False, memory_map=False)
    except BROKEN as error:
        raise damaged(error) from error
