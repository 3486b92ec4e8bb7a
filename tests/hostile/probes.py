"""Probe files that lie about what they hold, or hold what would be run by a careless reader."""

import io
import json
import math
import os
import pickle
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
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
    values = pa.repeat(pa.scalar(False), 50_000_000)
    ends = [0, len(values) - 1, len(values)]
    return _parquet(pa.table({"x": pa.LargeListArray.from_arrays(ends, values)}))


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


def _arrow_damaged(at: float) -> bytes:
    """A stream whose lists claim to end somewhere else."""
    table = pa.table({"x": [[1.0, 2.0]] * ROWS, "y": Y})
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    content = bytearray(file.getvalue())
    place = bytes(content).index(np.arange(0, 2 * ROWS + 1, 2, dtype=np.int32).tobytes())
    content[place + int(4 * ROWS * at) // 4 * 4 + 3] = 0x7F
    return bytes(content)


def _arrow_bomb() -> bytes:
    table = pa.table({"x": pa.array([np.zeros(100_000_000, np.int8)], pa.list_(pa.int8()))})
    file = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return file.getvalue().replace(
        (100_000_000).to_bytes(8, "little"), (1 << 50).to_bytes(8, "little")
    )


def _zip(*files: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        warnings.simplefilter("ignore", UserWarning)
        for name, content in files:
            file.writestr(name, content)
    return buffer.getvalue()


def _zip_link() -> bytes:
    entry = zipfile.ZipInfo("cat/1.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return _zip((entry, b"/etc/passwd"))


def _tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size = kind, link, len(content)
        file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _many_files() -> bytes:
    """A directory of more files than anyone packs, all of them empty."""
    header = _tar("cat/1.png", content=b"")[:512]
    return header * 65_600


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _folder(image: bytes, ending: str = "png") -> bytes:
    return _zip((f"cat/1.{ending}", image), (f"dog/1.{ending}", image))


def _text_bomb() -> bytes:
    return _folder(_png(4, 4, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 << 20)))))


def _webp(width: int, height: int) -> bytes:
    """An animation that says how large it is."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    frame = b"ANMF" + struct.pack("<I", 24) + bytes(24)
    body = b"WEBP" + extended + b"ANIM" + struct.pack("<I", 6) + bytes(6) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif_screen() -> bytes:
    return b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def _tiff_loop() -> bytes:
    """A directory that says it has 65,535 entries, and is its own successor."""
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65_535) + bytes(4000)


def _nested_json() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in (("data.arrow", b"\xff" * 8), ("state.json", b"[" * 1_000_000)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


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
    "lists that end elsewhere": lambda: _arrow_damaged(0.5),
    "lists that end far beyond": lambda: _arrow_damaged(1.0),
    "a buffer that claims to unpack to petabytes": _arrow_bomb,
    "a stream of one byte": lambda: b"\xff" * 100_000,
    "a stream that claims gigabytes": lambda: b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(1000),
    "a state without end": _nested_json,
    "a zip that leads out": lambda: _zip(("../../etc/cron.d/1.png", b"x")),
    "a zip that begins at the root": lambda: _zip(("/etc/1.png", b"x")),
    "a zip with a link": _zip_link,
    "a zip that unpacks to gigabytes": lambda: _zip(("cat/1.png", bytes(300 << 20))),
    "a tar that leads out": lambda: _tar("cat/../../1.png"),
    "a tar with a link": lambda: _tar("cat/1.png", tarfile.SYMTYPE, "/etc/passwd", b""),
    "a tar with a hard link": lambda: _tar("cat/1.png", tarfile.LNKTYPE, "/etc/passwd", b""),
    "a tar with a device": lambda: _tar("cat/1.png", tarfile.CHRTYPE, "", b""),
    "a tar that is cut off": lambda: _tar("cat/1.png", content=bytes(10_000))[:2000],
    "a tar of too many files": _many_files,
    "an image of a billion pixels": lambda: _folder(_png(40_000, 30_000)),
    "an image of too many pixels to count": lambda: _folder(_png(2**31 - 1, 2**31 - 1)),
    "an image with a text of megabytes": _text_bomb,
    "an animation of a billion pixels": lambda: _folder(_webp(1 << 24, 1 << 24), "webp"),
    "a screen of billions of pixels": lambda: _folder(_gif_screen(), "gif"),
    "a directory without end": lambda: _folder(_tiff_loop(), "tif"),
    "a table of one endless cell": lambda: b"a,label\n" + b"1" * 5_000_000 + b",2\n",
    "a table of one endless quote": lambda: b'a,label\n"' + b"1,2\n" * 500_000,
    "a table of too many columns": lambda: (
        ",".join(f"a{i}" for i in range(100_000)).encode() + b"\n1"
    ),
    "a table of delimiters": lambda: b"a,label\n" + b"," * 5_000_000,
    "a table with zeros": lambda: b"a,label\n1,\0\n\0\0,2\n",
}
