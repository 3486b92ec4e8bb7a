"""Parquet files as pyarrow, pandas and Hugging Face's datasets write them."""

import io
import json
from decimal import Decimal

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.workers.probes.data.case import Case

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(12, 5)).astype(np.float32)
GRID = RNG.normal(size=(12, 2, 3))
IMAGES = RNG.integers(0, 256, (12, 6, 7, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3
MASKS = RNG.integers(0, 3, (12, 6, 7), dtype=np.uint8)
NAMES = ["cat", "dog", "emu"]
WORDS = [NAMES[label] for label in LABELS]
AGES = RNG.integers(20, 60, 12)
ORDER = RNG.permutation(12)
HEIGHTS = RNG.normal(170, 10, 12)


def written(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def columns(**arrays: object) -> bytes:
    return written(pa.table(arrays))


def encoded(image: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, kind)
    return file.getvalue()


def hugging_face(dataset: datasets.Dataset) -> bytes:
    file = io.BytesIO()
    dataset.to_parquet(file)
    return file.getvalue()


def _images(**features: object) -> bytes:
    return hugging_face(
        datasets.Dataset.from_dict(
            {"image": [Image.fromarray(image) for image in IMAGES], "label": LABELS.tolist()},
            features=datasets.Features(
                {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), **features}
            ),
        )
    )


def _two_dimensions() -> bytes:
    return hugging_face(
        datasets.Dataset.from_dict(
            {"signal": GRID.astype(np.float32), "label": LABELS.tolist()},
            features=datasets.Features(
                {
                    "signal": datasets.Array2D((2, 3), "float32"),
                    "label": datasets.ClassLabel(names=NAMES),
                }
            ),
        )
    )


def _pandas_with_an_index() -> bytes:
    frame = pd.DataFrame({"age": AGES, "height": HEIGHTS, "label": WORDS})
    file = io.BytesIO()
    frame.iloc[ORDER].to_parquet(file)
    return file.getvalue()


def _tensors() -> bytes:
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(GRID)
    return written(pa.table({"x": array, "y": LABELS}))


def _palette(mask: np.ndarray) -> bytes:
    image = Image.fromarray(mask, "L").convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _masks(name: str, *, palette: bool) -> bytes:
    encode = _palette if palette else encoded
    return columns(
        image=[encoded(image) for image in IMAGES], **{name: [encode(mask) for mask in MASKS]}
    )


def _without_bytes() -> bytes:
    images = [{"bytes": None, "path": "/home/me/cat.png"}] * 12
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return columns(image=pa.array(images, kind), label=LABELS)


def _with_metadata() -> bytes:
    table = pa.table({"x": FEATURES.tolist(), "y": LABELS})
    info = {"info": {"features": {"y": {"_type": "ClassLabel", "names": NAMES}}}}
    return written(table.replace_schema_metadata({"huggingface": json.dumps(info)}))


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(file, "JPEG", exif=exif)
    return file.getvalue()


SIZES = pa.DictionaryArray.from_arrays(LABELS, ["small", "medium", "large"])
STACKED = np.stack([AGES, HEIGHTS], axis=1)

CASES = [
    Case(
        "parquet",
        "a column of lists",
        lambda: columns(x=FEATURES.tolist(), y=LABELS),
        FEATURES.astype(np.float64),
        LABELS,
        written={"format": "parquet", "input": "x", "target": "y"},
    ),
    Case(
        "parquet",
        "lists of one fixed length, several row groups",
        lambda: written(
            pa.table(
                {
                    "embedding": pa.FixedSizeListArray.from_arrays(pa.array(FEATURES.ravel()), 5),
                    "label": LABELS.astype(np.int8),
                }
            ),
            row_group_size=5,
            compression="zstd",
        ),
        FEATURES,
        LABELS,
        written={"input": "embedding"},
    ),
    Case(
        "parquet",
        "lists of lists",
        lambda: columns(x=GRID.tolist(), y=LABELS),
        GRID,
        LABELS,
    ),
    Case("parquet", "Arrow's tensors", _tensors, GRID, LABELS),
    Case("parquet", "Hugging Face's arrays", _two_dimensions, GRID.astype(np.float32), LABELS),
    Case(
        "parquet", "classes named in metadata", _with_metadata, FEATURES.astype(np.float64), LABELS
    ),
    Case(
        "parquet",
        "tokens with a mask",
        lambda: columns(
            attention_mask=np.ones((12, 5), int).tolist(),
            input_ids=np.arange(60).reshape(12, 5).tolist(),
            label=LABELS,
        ),
        np.arange(60).reshape(12, 5),
        LABELS,
    ),
    Case(
        "parquet_images",
        "as Hugging Face writes them",
        _images,
        IMAGES,
        LABELS,
        written={"input": "image", "target": "label", "image_mode": "RGB"},
    ),
    Case(
        "parquet_images",
        "encoded bytes without a struct",
        lambda: columns(image=[encoded(image) for image in IMAGES], label=LABELS),
        IMAGES,
        LABELS,
    ),
    Case(
        "parquet_images",
        "grey ones keep one channel",
        lambda: columns(image=[encoded(image[..., 0]) for image in IMAGES], label=LABELS),
        IMAGES[..., :1],
        LABELS,
        written={"image_mode": "L"},
    ),
    Case(
        "parquet_images",
        "grey ones for a model of colours",
        lambda: columns(image=[encoded(image[..., 0]) for image in IMAGES], label=LABELS),
        IMAGES[..., :1].repeat(3, axis=3),
        LABELS,
        spec={"image_mode": "RGB"},
    ),
    Case(
        "parquet_images",
        "files that are named and not held",
        _without_bytes,
        refused="names an image's file and does not hold its bytes",
        hint="embedded",
    ),
    Case(
        "parquet_images",
        "stored turned",
        lambda: columns(image=[_turned(6)] * 12, label=LABELS),
        refused="with an EXIF orientation of 6",
        hint="exif_transpose",
    ),
    Case(
        "parquet_images",
        "an orientation that says nothing",
        lambda: columns(image=[_turned(1)] * 12, label=LABELS),
        np.stack([np.asarray(Image.open(io.BytesIO(_turned(1))))] * 12),
        LABELS,
    ),
    Case(
        "masks",
        "grey ones",
        lambda: _masks("label", palette=False),
        IMAGES,
        MASKS,
        written={"target": "label", "image_mode": "RGB"},
    ),
    Case(
        "masks",
        "with a palette for people's eyes",
        lambda: _masks("annotation", palette=True),
        IMAGES,
        MASKS,
        spec={"target": "annotation"},
    ),
    Case(
        "masks",
        "in colours",
        lambda: columns(
            image=[encoded(image) for image in IMAGES], label=[encoded(image) for image in IMAGES]
        ),
        refused="has colours (mode RGB); as a target it holds the number of a class",
        hint="Save masks in mode L or P",
    ),
    Case(
        "columns",
        "numbers side by side",
        lambda: columns(age=AGES, height=HEIGHTS, label=LABELS),
        STACKED,
        LABELS,
        written={"input": "*", "target": "label"},
    ),
    Case(
        "columns",
        "of several types",
        lambda: columns(
            age=pa.array(AGES, pa.int8()),
            member=LABELS > 0,
            price=[Decimal(int(age)) / 4 for age in AGES],
            label=pa.array(LABELS).dictionary_encode(),
        ),
        np.stack([AGES, LABELS > 0, AGES / 4], axis=1),
        LABELS,
    ),
    Case(
        "columns",
        "the only column of repeated names holds the classes",
        lambda: columns(age=AGES, species=pa.array(WORDS).dictionary_encode(), height=HEIGHTS),
        STACKED,
        LABELS,
        written={"target": "species"},
    ),
    Case(
        "columns",
        "classes in an order of the file's own",
        lambda: columns(age=AGES, height=HEIGHTS, size=SIZES),
        STACKED,
        LABELS,
        refused="small, medium, large is the order of the file",
        hint='"class_names" in the spec to the classes in the order of the outputs: ["small", ',
        answer={"class_names": ["small", "medium", "large"]},
    ),
    Case(
        "columns",
        "values to predict",
        lambda: columns(age=AGES, height=HEIGHTS, price=HEIGHTS * 2),
        STACKED,
        HEIGHTS * 2,
        refused="'age', 'height', 'price' could be it, and not one alone has a customary name",
        hint='Set "target": "price"',
        answer={"target": "price"},
    ),
    Case(
        "columns",
        "in another order than the file's",
        lambda: columns(age=AGES, height=HEIGHTS, label=LABELS),
        STACKED[:, ::-1],
        LABELS,
        spec={"input": "*", "columns": ["height", "age"]},
        written={"columns": ["height", "age"]},
    ),
    Case(
        "columns",
        "named as if they were arguments",
        lambda: columns(age=AGES, height=HEIGHTS, label=LABELS),
        STACKED[:, ::-1],
        LABELS,
        spec={"input": ["height", "age"]},
        refused="'height' is a column of one number a row",
        hint='set "input": "*" and "columns": ["height", "age"]',
        answer={"input": "*", "columns": ["height", "age"]},
    ),
    Case(
        "columns",
        "the rows' index of pandas is no feature",
        _pandas_with_an_index,
        STACKED[ORDER],
        LABELS[ORDER],
        written={"exclude": ["__index_level_0__"]},
    ),
    Case(
        "columns",
        "a column that counts the rows",
        lambda: columns(id=np.arange(12), age=AGES, height=HEIGHTS, label=LABELS),
        STACKED,
        LABELS,
        refused="'id' counts the rows, from 0 to 11",
        hint='Set "exclude": ["id"]',
        answer={"exclude": ["id"]},
    ),
    Case(
        "missing_values",
        "a number",
        lambda: columns(age=[None if row == 7 else row for row in range(12)], label=LABELS),
        refused="'age' has no value in row 7",
        hint="drop the rows",
    ),
    Case(
        "missing_values",
        "in a column that is not needed",
        lambda: columns(age=AGES, height=HEIGHTS, note=[None, *range(11)], label=LABELS),
        STACKED,
        LABELS,
        refused="'note' has no value in row 0",
        hint='set "exclude": ["note"] in the spec',
        answer={"exclude": ["note"]},
    ),
    Case(
        "missing_values",
        "inside a list",
        lambda: columns(x=[[1.0, 2.0]] * 11 + [[1.0, None]], y=LABELS),
        refused="'x' has no value in row 11",
        hint="drop the rows",
    ),
    Case(
        "ragged",
        "lists of several lengths",
        lambda: columns(x=[[1.0, 2.0]] * 9 + [[1.0]] * 3, y=LABELS),
        refused="row 9 has 1 on axis 0",
        hint="Pad or cut",
    ),
    Case(
        "ragged",
        "inside of lists",
        lambda: columns(x=[[[1.0, 2.0], [3.0, 4.0]]] * 11 + [[[1.0, 2.0], [3.0]]], y=LABELS),
        refused="row 11 has 1 on axis 1",
        hint="Pad or cut",
    ),
]
