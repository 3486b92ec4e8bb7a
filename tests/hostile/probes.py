"""Probe files that lie about what they hold, or hold what would be run by a careless reader."""

import io
import json
import math
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support import npz

ROWS = 40
X = np.random.default_rng(0).random((ROWS, 64), dtype=np.float32)
Y = np.arange(ROWS) % 10


class _Shell:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/owned",)


def _members(**contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        warnings.simplefilter("ignore", UserWarning)
        for name, content in contents.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def _array(header: str, data: bytes = b"") -> bytes:
    padded = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def _claiming(shape: str, data: bytes = bytes(400)) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    return _members(x=_array(header, data))


def _objects() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([_Shell()] * ROWS, dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _pickle_as_array() -> bytes:
    return _members(x=pickle.dumps(_Shell()))


def _program_as_header() -> bytes:
    return _members(x=_array("{'descr': __import__('os').system('id'), 'shape': (40, 64)}"))


def _bomb() -> bytes:
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (40, 50000000)}"
    return _members(x=_array(header, bytes(200 << 20)))


def _twice() -> bytes:
    buffer = io.BytesIO(npz(x=X, y=Y))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as file:
        warnings.simplefilter("ignore", UserWarning)
        file.writestr("x.npy", b"something else")
    return buffer.getvalue()


def _tensors(header: object, data: bytes = bytes(400)) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def _tensor(start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": [10, 10], "data_offsets": [start, end]}


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", store_schema=False)
    return file.getvalue()


def _footer(content: bytes) -> bytes:
    return b"PAR1" + content + struct.pack("<I", len(content)) + b"PAR1"


def _nested_columns() -> bytes:
    kind: pa.DataType = pa.int8()
    for _ in range(300):
        kind = pa.struct([("a", kind)])
    return _parquet(pa.table({"x": pa.array([None], kind)}))


def _list_without_end() -> bytes:
    values = pa.repeat(pa.scalar(False), 100_000_000)
    return _parquet(pa.table({"x": pa.LargeListArray.from_arrays([0, len(values)], values)}))


def _endless_names() -> bytes:
    names = pa.DictionaryArray.from_arrays(np.zeros(1_000_000, np.int8), ["long" * 100])
    return _parquet(pa.table({"x": np.zeros(1_000_000), "y": names}))


def _program_as_type() -> bytes:
    """A type that older readers of Arrow's files unpickled."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(_Shell()),
    }
    field = pa.field("x", pa.list_(pa.float32()), metadata=metadata)
    table = pa.table([pa.array([[1.0], [math.nan]], pa.list_(pa.float32()))], pa.schema([field]))
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


HOSTILE_PROBES: dict[str, Callable[[], bytes]] = {
    "no file of arrays": lambda: b"hello" * 100,
    "a truncated file": lambda: npz(x=X, y=Y)[:2000],
    "objects that run a program": _objects,
    "a pickle in place of an array": _pickle_as_array,
    "a program in place of a header": _program_as_header,
    "an array of terabytes": lambda: _claiming("(1000000, 1000000)"),
    "an array of negative size": lambda: _claiming("(-40, 64)"),
    "an array of more than there is": lambda: _claiming("(40, 64)"),
    "an array of too many dimensions": lambda: _claiming(str((1,) * 100)),
    "a bomb": _bomb,
    "the same name twice": _twice,
    "numbers that are none": lambda: npz(x=np.full_like(X, np.nan), y=Y),
    "a header without end": lambda: struct.pack("<Q", 1 << 60) + b"{}",
    "a tensor outside of the file": lambda: _tensors({"x": _tensor(0, 1 << 40)}),
    "tensors that overlap": lambda: _tensors({"x": _tensor(0, 400), "y": _tensor(0, 400)}),
    "a tensor before the file": lambda: _tensors({"x": _tensor(-400, 0)}),
    "a footer of gigabytes": lambda: b"PAR1" + bytes(400) + b"\xff\xff\xff\x7fPAR1",
    "a footer of noise": lambda: _footer(np.random.default_rng(0).bytes(4000)),
    "a footer of the same byte": lambda: _footer(b"\x1c" * 60_000_000),
    "columns in columns in columns": _nested_columns,
    "a list without end": _list_without_end,
    "names without end": _endless_names,
    "a program as a column's type": _program_as_type,
}
