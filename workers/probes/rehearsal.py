"""Small probe files of every format, read once before the first fork.

A child can import nothing and open nothing, and the libraries that decode files import their parts
when they first need them.
"""

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from workers.probes.containers.pictures import FORMATS

_SAMPLES = 4


def probe_files() -> Iterator[bytes]:
    """Yield files that are read to the end, and damaged ones that are refused."""
    for table in (_table_of_images(), _table_of_numbers()):
        for whole in (_parquet(table), _arrow_file(table), _arrow_stream(table)):
            yield whole
            yield whole[:-20] + bytes(20)
    yield b"a,b,label\n1,1.5,x\n2,NA,y\n"
    yield b"a,label\n" + b"1,x\n2,y\n" * _SAMPLES
    images = {f"{place % 2}/{kind}.png": one for place, (kind, one) in enumerate(encoded_images())}
    array = io.BytesIO()
    np.save(array, np.zeros((_SAMPLES, 2)))
    for files in (images, {"0/none.png": b"none"}, {"x.npy": array.getvalue()}):
        yield _zip(files)
        yield _tar(files)


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _arrow_file(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _arrow_stream(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _zip(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def _tar(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def encoded_images() -> Iterator[tuple[str, bytes]]:
    """Yield one small image in each of the formats that are decoded, by format."""
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
