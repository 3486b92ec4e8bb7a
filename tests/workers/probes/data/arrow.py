"""Arrow files and streams, and what Hugging Face's datasets save."""

import io
import tarfile
import tempfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.feather
from PIL import Image

from tests.workers.probes.data.archives import tarred
from tests.workers.probes.data.case import Case
from tests.workers.probes.data.parquet import (
    AGES,
    FEATURES,
    GRID,
    HEIGHTS,
    IMAGES,
    LABELS,
    NAMES,
    STACKED,
    WORDS,
)

TABLE = pa.table({"x": FEATURES.tolist(), "y": LABELS})


def streamed(table: pa.Table, rows: int = 5) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return file.getvalue()


def filed(table: pa.Table, rows: int = 5) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return file.getvalue()


def _feather() -> bytes:
    file = io.BytesIO()
    pyarrow.feather.write_feather(TABLE, file, compression="lz4")
    return file.getvalue()


def pictures() -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"image": [Image.fromarray(image) for image in IMAGES], "label": LABELS.tolist()},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
        ),
    )


def arrays() -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"signal": GRID, "label": LABELS.tolist()},
        features=datasets.Features(
            {
                "signal": datasets.Array2D((2, 3), "float64"),
                "label": datasets.ClassLabel(names=NAMES),
            }
        ),
    )


def saved(dataset: datasets.Dataset | datasets.DatasetDict, **options: object) -> bytes:
    """A folder that `save_to_disk` has written, packed with tar."""
    file = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        dataset.save_to_disk(f"{folder}/mine", **options)
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(f"{folder}/mine", "mine")
    return file.getvalue()


def _torn() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        arrays().save_to_disk(folder, num_shards=2)
        (Path(folder) / "data-00001-of-00002.arrow").unlink()
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return tarred(files)


def _with_a_cache() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        arrays().save_to_disk(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return tarred(
        {"mine/cache-0123456789.arrow": streamed(TABLE)}
        | {f"mine/{name}": content for name, content in files.items()}
    )


CASES = [
    Case(
        "arrow",
        "a stream",
        lambda: streamed(TABLE),
        FEATURES.astype(np.float64),
        LABELS,
        written={"format": "arrow", "input": "x", "target": "y"},
    ),
    Case("arrow", "a file", lambda: filed(TABLE), FEATURES.astype(np.float64), LABELS),
    Case("arrow", "Feather, compressed", _feather, FEATURES.astype(np.float64), LABELS),
    Case(
        "arrow",
        "columns of numbers, names in a dictionary",
        lambda: streamed(
            pa.table(
                {
                    "age": AGES,
                    "height": HEIGHTS,
                    "species": pa.array(WORDS).dictionary_encode(),
                }
            )
        ),
        STACKED,
        LABELS,
        written={"input": "*", "target": "species"},
    ),
    Case(
        "saved_datasets",
        "images",
        lambda: saved(pictures()),
        IMAGES,
        LABELS,
        written={"format": "arrow", "input": "image", "target": "label", "class_names": NAMES},
    ),
    Case(
        "saved_datasets",
        "arrays in three shards",
        lambda: saved(arrays(), num_shards=3),
        GRID,
        LABELS,
    ),
    Case(
        "saved_datasets",
        "rows that were chosen and shuffled",
        lambda: saved(arrays().select([7, 3, 1, 5])),
        GRID[[7, 3, 1, 5]],
        LABELS[[7, 3, 1, 5]],
    ),
    Case("saved_datasets", "beside a cache, which is no part of it", _with_a_cache, GRID, LABELS),
    Case(
        "saved_datasets",
        "columns of numbers",
        lambda: saved(
            datasets.Dataset.from_dict({"age": AGES, "height": HEIGHTS, "label": LABELS})
        ),
        STACKED,
        LABELS,
    ),
    Case(
        "saved_datasets",
        "several parts",
        lambda: saved(datasets.DatasetDict(train=arrays(), test=arrays())),
        refused="holds several datasets: 'test', 'train'",
        hint='dataset_dict["test"].save_to_disk',
    ),
    Case(
        "saved_datasets",
        "a missing shard",
        _torn,
        refused="'data-00001-of-00002.arrow' is missing",
        hint="the whole folder",
    ),
]
