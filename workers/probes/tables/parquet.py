"""Parquet files: one, or several that are parts of one table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from workers.probes.containers.container import file_size
from workers.probes.tables.columns import BROKEN
from workers.probes.tables.table import common_schema, damaged

_TAIL_BYTES = 8
_MAX_FOOTER_BYTES = 64 << 20
"""The directory of columns and row groups; it is decoded at once."""


class ParquetSource:
    """The rows of parquet files, one after the other.

    Args:
        files: In order; each readable and seekable.

    Raises:
        JobError: `probe_unreadable` if one is damaged, or has other columns than the first.
    """

    def __init__(self, files: Mapping[str, BinaryIO]) -> None:
        opened = {name: _open(file) for name, file in files.items()}
        self.schema = common_schema({name: file.schema_arrow for name, file in opened.items()})
        self._files = list(opened.values())
        self.rows = sum(file.metadata.num_rows for file in self._files)

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield some columns from the first row on, about so many rows at once."""
        for file in self._files:
            for batch in file.iter_batches(batch_size=rows, columns=list(names), use_threads=False):
                yield batch.select(list(names))


def _open(file: BinaryIO) -> pq.ParquetFile:
    size = file_size(file)
    file.seek(max(0, size - _TAIL_BYTES))
    footer = int.from_bytes(file.read(4), "little")
    file.seek(0)
    if footer > _MAX_FOOTER_BYTES:
        raise damaged(ValueError(f"its footer claims {footer:,} bytes"))
    try:
        return pq.ParquetFile(
            file, pre_buffer=False, memory_map=False, page_checksum_verification=True
        )
    except BROKEN as error:
        raise damaged(error) from error
