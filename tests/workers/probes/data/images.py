"""Images in folders, as people pack them."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image

from tests.workers.probes.data.archives import tarred, zipped
from tests.workers.probes.data.case import Case
from tests.workers.probes.data.parquet import IMAGES, LABELS, NAMES, encoded

GREY = IMAGES[..., 0]
SORTED = np.argsort(LABELS, kind="stable")
X, Y = IMAGES[SORTED], LABELS[SORTED]
PALETTE = [Image.fromarray(image).quantize(16) for image in IMAGES]


def folders(
    contents: list[bytes],
    names: Mapping[int, str] | None = None,
    *,
    ending: str = "png",
    root: str = "",
) -> dict[str, bytes]:
    """One folder for each class, not in the order of the classes."""
    names = names or dict(enumerate(NAMES))
    return {
        f"{root}{names[label]}/{row:03}.{ending}": content
        for row, (label, content) in reversed(list(enumerate(zip(LABELS, contents, strict=True))))
    }


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _of_kind(kind: str, **options: object) -> tuple[np.ndarray, list[bytes]]:
    """Files, and what Pillow reads from them as torchvision has it."""
    files = [_saved(Image.fromarray(image), kind, **options) for image in IMAGES]
    read = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return np.stack(read)[SORTED], files


def _digits(count: int) -> dict[str, bytes]:
    return {f"{row % count}/{row}.png": encoded(GREY[row % 12]) for row in range(2 * count)}


def _kind_case(kind: str, ending: str, **options: object) -> Case:
    x, files = _of_kind(kind, **options)
    return Case("imagefolder", f"{kind} files", lambda: zipped(folders(files, ending=ending)), x, Y)


def _by_digit(order: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What is read of the numbered folders, in the order of their names as text."""
    rows = sorted(range(24), key=lambda row: (str(row % 12), f"{row}.png"))
    return (
        np.stack([GREY[row % 12][..., None] for row in rows]),
        np.array([order.index(str(row % 12)) for row in rows]),
    )


PNGS = [encoded(image) for image in IMAGES]
COUNTED = [str(number) for number in range(12)]

CASES = [
    Case(
        "imagefolder",
        "a zip",
        lambda: zipped(folders(PNGS)),
        X,
        Y,
        written={"format": "imagefolder", "input": "x", "target": "y", "image_mode": "RGB"},
    ),
    Case("imagefolder", "a tar", lambda: tarred(folders(PNGS)), X, Y),
    Case(
        "imagefolder",
        "in folders around it, uncompressed",
        lambda: zipped(folders(PNGS, root="my data/test/"), zipfile.ZIP_STORED),
        X,
        Y,
    ),
    Case(
        "imagefolder",
        "packed on a Mac, with notes beside the images",
        lambda: zipped(
            {
                **folders(PNGS),
                "__MACOSX/cat/._000.png": b"\0",
                "cat/.DS_Store": b"\0",
                "classes.txt": b"cat\ndog\nemu\n",
            }
        ),
        X,
        Y,
    ),
    Case(
        "imagefolder",
        "grey images keep one channel",
        lambda: zipped(folders([encoded(image) for image in GREY])),
        GREY[SORTED][..., None],
        Y,
        written={"image_mode": "L"},
    ),
    Case(
        "imagefolder",
        "grey images for a model of colours",
        lambda: zipped(folders([encoded(image) for image in GREY])),
        GREY[SORTED][..., None].repeat(3, axis=3),
        Y,
        spec={"image_mode": "RGB"},
    ),
    Case(
        "imagefolder",
        "of several modes, as torchvision's loader converts them",
        lambda: zipped(folders([_saved(PALETTE[0], "PNG"), encoded(GREY[1]), *PNGS[2:]])),
        np.stack(
            [
                np.asarray(PALETTE[0].convert("RGB")),
                np.repeat(GREY[1][..., None], 3, 2),
                *IMAGES[2:],
            ]
        )[SORTED],
        Y,
    ),
    Case(
        "imagefolder",
        "with transparency, which is dropped",
        lambda: zipped(folders([encoded(image, mode="RGBA") for image in IMAGES])),
        X,
        Y,
    ),
    _kind_case("JPEG", "JPG"),
    _kind_case("WEBP", "webp", lossless=True),
    _kind_case("BMP", "bmp"),
    _kind_case("GIF", "gif"),
    _kind_case("PPM", "ppm"),
    _kind_case("TIFF", "tif"),
    Case(
        "imagefolder",
        "in no folders, so without labels",
        lambda: zipped({f"images/{row:03}.png": content for row, content in enumerate(PNGS)}),
        IMAGES,
        None,
        written={"target": None},
    ),
    Case(
        "imagefolder",
        "numbered folders, which text sorts otherwise: as they count",
        lambda: zipped(_digits(12)),
        *_by_digit(COUNTED),
        refused="0, 1, 10, 11, 2, 3, 4",
        hint='"class_names" in the spec to the classes in the order of the outputs: ["0", "1", "2"',
        answer={"class_names": COUNTED},
    ),
    Case(
        "imagefolder",
        "numbered folders, which text sorts otherwise: as ImageFolder has them",
        lambda: zipped(_digits(12)),
        *_by_digit(sorted(COUNTED)),
        refused="0, 1, 10, 11, 2, 3, 4",
        hint='["0", "1", "10"',
        answer={"class_names": sorted(COUNTED)},
    ),
    Case(
        "imagefolder",
        "a class without images",
        lambda: tarred({**folders(PNGS), "cow/": b""}),
        X,
        np.array([0, 2, 3])[Y],
        written={"class_names": ["cat", "cow", "dog", "emu"]},
    ),
    Case(
        "imagefolder",
        "beside a table about them",
        lambda: zipped({**folders(PNGS), "metadata.csv": b"file_name,label\n"}),
        refused="12 of imagefolder ('cat/000.png', 'cat/003.png', 'cat/006.png' …)",
        hint="Leave 'metadata.csv' out, and pack the images in one folder for each class",
    ),
    Case(
        "imagefolder",
        "in one folder, beside a list of labels",
        lambda: zipped({"0.png": PNGS[0], "1.png": PNGS[1], "labels.txt": b"0\n1\n"}),
        refused="2 of imagefolder ('0.png', '1.png') and 1 of another kind ('labels.txt')",
        hint="Leave 'labels.txt' out, and pack the images in one folder for each class",
    ),
    Case(
        "imagefolder",
        "beside an array",
        lambda: zipped({**folders(PNGS), "labels.npy": b""}),
        refused=" and 1 of npz ('labels.npy')",
        hint="Leave 'labels.npy' out",
    ),
    Case(
        "imagefolder",
        "of several sizes",
        lambda: zipped(folders([encoded(IMAGES[0][:5]), *PNGS[1:]])),
        refused="2 sizes: 7×5 ('cat/000.png'), 7×6 ('cat/003.png')",
        hint="Resize and crop",
    ),
    Case(
        "imagefolder",
        "train beside test",
        lambda: zipped({**folders(PNGS, root="train/"), **folders(PNGS, root="test/")}),
        refused="the parts of a dataset, test, train, and no classes",
        hint="Pack what is in 'test' alone, with one folder for each class",
    ),
    Case(
        "imagefolder",
        "one image beside the folders",
        lambda: zipped({**folders(PNGS, root="mine/"), "mine/preview.png": PNGS[0]}),
        refused="'mine/preview.png' is not, as 'mine/cat/000.png' is; expected CLASS/IMAGE",
        hint="Leave 'mine/preview.png' out",
    ),
    Case(
        "imagefolder",
        "some images in folders within",
        lambda: zipped({**folders(PNGS), **{f"cat/old/{k}.png": PNGS[k] for k in range(5)}}),
        refused="'cat/old/0.png', 'cat/old/1.png', 'cat/old/2.png' and 2 more are not, as 'cat/000",
        hint="and 2 more out, or put each into the folder of its class",
    ),
    Case(
        "imagefolder",
        "two folders deep",
        lambda: zipped({**folders(PNGS, root="a/"), **folders(PNGS, root="b/")}),
        refused="and 21 more are not, but in 2 folders; expected CLASS/IMAGE",
        hint="Pack one folder for each class, with its images directly in it",
    ),
    Case(
        "imagefolder",
        "train beside test, without classes",
        lambda: zipped(folders(PNGS, {0: "train", 1: "test", 2: "val"})),
        refused="the parts of a dataset, test, train, val",
        hint="Pack what is in 'test' alone",
    ),
    Case(
        "imagefolder",
        "a damaged image",
        lambda: zipped(folders([PNGS[0][:60], *PNGS[1:]])),
        refused="The image in 'cat/000.png' cannot be decoded",
        hint="Leave this image out",
    ),
    Case(
        "imagefolder",
        "something else with an image's name",
        lambda: zipped(folders([b"<html>", *PNGS[1:]])),
        refused="it begins with the bytes 3c 68 74 6d 6c 3e",
        hint="Leave this image out",
    ),
    Case(
        "imagefolder",
        "of 16 bits",
        lambda: zipped(
            folders([_saved(Image.fromarray(g.astype(np.uint16) * 256), "PNG") for g in GREY])
        ),
        refused="pixels of more than 8 bits (mode I;16)",
        hint="numpy.savez",
    ),
]
