"""Small probe files of every format, read once before the first fork.

A child can import nothing and open nothing, and the libraries that decode files import their parts
when they first need them.
"""

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from workers.probes.pictures import FORMATS

_SAMPLES = 4


def probe_files() -> Iterator[bytes]:
    """Files that are read to the end, and damaged ones that are refused."""
    for table in (_table_of_images(), _table_of_numbers()):
        parquet = io.BytesIO()
        pq.write_table(table, parquet)
        yield parquet.getvalue()
        yield parquet.getvalue()[:-20] + bytes(20)


def encoded_images() -> Iterator[tuple[str, bytes]]:
    """One small image in each of the formats that are decoded, by format."""
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    for kind in FORMATS:
        file = io.BytesIO()
        image.save(file, kind)
        yield kind, file.getvalue()


def _table_of_images() -> pa.Table:
    images = [{"bytes": content, "path": None} for _, content in encoded_images()]
    names = pa.array([f"{place % 2}" for place in range(len(images))])
    return pa.table({"image": images, "label": names.dictionary_encode()})


def _table_of_numbers() -> pa.Table:
    return pa.table(
        {
            "a": pa.array(np.arange(_SAMPLES) / 2),
            "b": pa.array([True] * _SAMPLES),
            "c": pa.array(range(_SAMPLES)).cast(pa.decimal128(25, 2)),
            "label": ["x", "y"] * (_SAMPLES // 2),
        }
    )
