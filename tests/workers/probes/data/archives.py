"""Several files as one probe: in a zip, in a tar, shards of a table."""

import io
import tarfile
import zipfile
from collections.abc import Mapping

import numpy as np

from tests.workers.probes.data import parquet, plain, text
from tests.workers.probes.data.case import Case
from tests.workers.probes.data.parquet import FEATURES, LABELS

X, Y = FEATURES, LABELS


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files: Mapping[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _shard(rows: slice) -> bytes:
    return parquet.columns(x=X[rows].tolist(), y=Y[rows])


SHARDS = {
    # In another order than that of their names.
    "part-2.parquet": _shard(slice(8, 12)),
    "part-0.parquet": _shard(slice(5)),
    "part-1.parquet": _shard(slice(5, 8)),
}
LINES = text.TABLE.splitlines(keepends=True)

CASES = [
    Case(
        "several_files",
        "arrays in a tar",
        lambda: tarred({"y.npy": npy(Y), "x.npy": npy(X)}),
        X,
        Y,
        written={"format": "npz", "input": "x", "target": "y"},
    ),
    Case(
        "several_files",
        "packed from within their folder",
        lambda: tarred({"./": b"", "./y.npy": npy(Y), "./x.npy": npy(X)}),
        X,
        Y,
        written={"input": "x", "target": "y"},
    ),
    Case(
        "several_files",
        "arrays in a folder in a zip, in Fortran's order",
        lambda: zipped({"data/x_test.npy": npy(np.asfortranarray(X)), "data/y_test.npy": npy(Y)}),
        X,
        Y,
        written={"input": "x_test", "target": "y_test"},
    ),
    Case(
        "several_files",
        "shards of parquet, by name",
        lambda: tarred(SHARDS),
        X.astype(np.float64),
        Y,
        written={"format": "parquet"},
    ),
    Case("several_files", "shards in a zip", lambda: zipped(SHARDS), X.astype(np.float64), Y),
    Case(
        "several_files",
        "among what operating systems leave",
        lambda: zipped(
            {
                "probe/.DS_Store": b"\0",
                "__MACOSX/probe/._part-0.parquet": b"\0",
                "probe/README.md": b"# mine",
                "probe/part-0.parquet": _shard(slice(12)),
            }
        ),
        X.astype(np.float64),
        Y,
    ),
    Case(
        "several_files",
        "CSV tables with the same header",
        lambda: tarred(
            {
                "b.csv": (LINES[0] + "".join(LINES[7:])).encode(),
                "a.csv": "".join(LINES[:7]).encode(),
            },
            tarfile.GNU_FORMAT,
        ),
        text.X,
        LABELS,
        written={"format": "csv", "input": "*"},
    ),
    Case(
        "several_files",
        "tables with different columns",
        lambda: tarred({"a.parquet": _shard(slice(5)), "b.parquet": parquet.columns(x=[1.0])}),
        refused="'a.parquet' has the columns 'x' list<element: double>, 'y' int64; 'b.parquet' has",
        hint="the same columns",
    ),
    Case(
        "several_files",
        "tables with different headers",
        lambda: zipped({"a.csv": b"a,label\n1,0\n", "b.csv": b"b,label\n1,0\n"}),
        refused="begin with different headers",
        hint="the same columns",
    ),
    Case(
        "several_files",
        "of several kinds",
        lambda: zipped({"a.csv": b"a,label\n1,0\n", "b.parquet": _shard(slice(5))}),
        refused="1 of csv ('a.csv') and 1 of parquet ('b.parquet')",
        hint="numpy.savez",
    ),
    *(
        Case(
            "several_files",
            f"an array of inputs beside {name}",
            lambda name=name, content=content: tarred({"images.npy": npy(X), name: content}),
            refused=f"('images.npy') and 1 of {kind} ('{name}')",
            hint="numpy.savez(path, x=inputs, y=labels) or as .npy files",
        )
        for name, kind, content in (
            ("labels.csv", "csv", b"label\n0\n"),
            ("labels.parquet", "parquet", parquet.columns(label=Y)),
            ("labels.txt", "another kind", b"0\n1\n"),
            ("y.npz", "another kind", plain.saved(y=Y)),
            ("y.pt", "another kind", b"PK"),
        )
    ),
    Case(
        "several_files",
        "arrays beside a table, in a zip",
        lambda: zipped({"images.npy": npy(X), "labels.csv": b"label\n0\n"}),
        refused="1 of npz ('images.npy') and 1 of csv ('labels.csv')",
        hint="numpy.savez",
    ),
    Case(
        "several_files",
        "a table beside tensors",
        lambda: zipped({"a.csv": b"a,b\n1,0\n", "labels.pt": b"PK"}),
        refused="1 of csv ('a.csv') and 1 of another kind ('labels.pt')",
        hint="leave out what is no part",
    ),
    Case(
        "several_files",
        "several npz files",
        lambda: tarred({"a.npz": plain.saved(x=X), "b.npz": plain.saved(y=Y)}),
        refused="npz files, which are not read within one ('a.npz', 'b.npz')",
        hint="numpy.savez(path, x=inputs, y=labels)",
    ),
    Case(
        "several_files",
        "arrays beside a note",
        lambda: zipped({"x.npy": npy(X), "y.npy": npy(Y), "README.txt": b"mine", "a.md": b"b"}),
        X,
        Y,
    ),
]
