"""Encoded images of one size, decoded with Pillow into one array."""

import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from service.contract.probe_spec import ImageMode
from workers.probes.containers.container import unreadable
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""What is decoded. Everything else that Pillow can read is rare, or reads more than pixels."""

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp"),
)
"""How the names of such files end."""

CHANNELS: Mapping[ImageMode, int] = MappingProxyType({"L": 1, "RGB": 3})
"""Of a decoded image."""

_GREY_MODES = {"1", "L", "LA", "La"}
_EIGHT_BIT_MODES = _GREY_MODES | {"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB"}
_LABEL_MODES = {"1", "L", "P", "I", "I;16", "I;16B"}
_ORIENTATION = 0x0112
_UPRIGHT = 1
_NOTES = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Where Pillow keeps what may say how an image is turned."""

_SIZES_SHOWN = 4


@dataclass(frozen=True)
class Pictures:
    """What a set of images has in common.

    Args:
        count: How many they are.
        width: Of each, in pixels.
        height: Of each, in pixels.
        mode: `L` if all of them are grey, else `RGB`; None if their pixels are labels.
    """

    count: int
    width: int
    height: int
    mode: ImageMode | None

    def described(self, mode: ImageMode) -> tuple[str, tuple[int, ...]]:
        """Return dtype and shape of all of them, decoded to a mode.

        (count, height, width, channels) uint8, and of labels (count, height, width) int32.
        """
        shape = (self.count, self.height, self.width)
        return ("int32", shape) if self.mode is None else ("uint8", (*shape, CHANNELS[mode]))


def look_through(
    images: Iterable[tuple[str, bytes]], count: int, limits: ProbeLimits, *, labels: bool = False
) -> Pictures:
    """Read the headers of all images, and decode none.

    Args:
        images: Each with what to call it in a message.
        count: How many there are.
        limits: Their pixels together are no more than an array may take.
        labels: Whether each pixel is the number of a class, as in a mask.

    Raises:
        JobError: `probe_unreadable` for images that cannot be decoded, or differ in size.
    """
    sizes: dict[tuple[int, int], str] = {}
    all_grey = True
    for name, content in images:
        with _opened(name, content) as image:
            all_grey = all_grey and image.mode in _GREY_MODES
            _check_mode(name, image, labels=labels)
            _check_orientation(name, image)
            sizes.setdefault(image.size, name)
    if len(sizes) > 1:
        raise _of_several_sizes(sizes)
    width, height = next(iter(sizes), (0, 0))
    found = Pictures(count, width, height, None if labels else "L" if all_grey else "RGB")
    _check_bytes(found, limits)
    return found


def common_mode(found: Iterable[Pictures]) -> ImageMode:
    """`L` if every image is grey or made of labels, else `RGB`."""
    return "L" if all(each.mode != "RGB" for each in found) else "RGB"


def decode(
    images: Iterable[tuple[str, bytes]], expected: Pictures, mode: ImageMode
) -> npt.NDArray[np.generic]:
    """Decode images that have been looked through.

    Args:
        images: Each with what to call it in a message.
        expected: What was found.
        mode: What to decode them to.

    Returns:
        As described. Colours are converted as torchvision's loader converts them; labels are the
        numbers that are stored, of a palette the places in it.

    Raises:
        JobError: `probe_unreadable` for an image that is damaged.
    """
    dtype, shape = expected.described(mode)
    decoded = np.empty(shape, dtype)
    for row, (name, content) in enumerate(images):
        with _opened(name, content) as image:
            pixels = image if expected.mode is None else image.convert(mode)
            decoded[row] = np.asarray(pixels).reshape(shape[1:])
    return decoded


@contextmanager
def _opened(name: str, content: bytes) -> Iterator[Image.Image]:
    """Open an image; whatever its decoder raises, meanwhile too, says that it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked before anything is decoded
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                yield image
    except (JobError, MemoryError):
        raise
    except Exception as error:
        # Decoders raise anything on bytes that are not what they claim to be.
        why = str(error).partition("\n")[0] or "it ends too early"
        if isinstance(error, UnidentifiedImageError):
            why = f"it begins with the bytes {content[:8].hex(' ') or 'of an empty file'}"
        raise unreadable(
            f"The image in {name} cannot be decoded ({why[:200]}); expected one of "
            f"{', '.join(FORMATS)}.",
            hint="Leave this image out, or write it again as PNG.",
        ) from error


def _check_mode(name: str, image: Image.Image, *, labels: bool) -> None:
    if labels:
        if image.mode not in _LABEL_MODES:
            raise unreadable(
                f"The image in {name} has colours (mode {image.mode}); as a target it holds the "
                "number of a class in each pixel.",
                hint='Save masks in mode L or P, or set "target" in the spec to another column.',
            )
        return
    if image.mode not in _EIGHT_BIT_MODES:
        raise unreadable(
            f"The image in {name} has pixels of more than 8 bits (mode {image.mode}), which "
            "decoding would cut off.",
            hint="Save such images as an array: numpy.savez(path, x=images, y=labels).",
        )


def _check_orientation(name: str, image: Image.Image) -> None:
    """Refuse what some readers turn and others do not."""
    if image.format != "TIFF" and _NOTES.isdisjoint(image.info):
        return  # looking for a note in a PNG would decode it
    orientation = image.getexif().get(_ORIENTATION, _UPRIGHT)
    if orientation != _UPRIGHT:
        raise unreadable(
            f"The image in {name} is stored turned, with an EXIF orientation of {orientation!r}, "
            "which torchvision's loader leaves as it is and Hugging Face's datasets turn upright: "
            "whether your model saw it turned cannot be told.",
            hint="Save the images as the model sees them, without this note: "
            "PIL.ImageOps.exif_transpose(image).save(path) if it saw them upright, else "
            "image.save(path, exif=b'').",
        )


def _of_several_sizes(sizes: dict[tuple[int, int], str]) -> JobError:
    shown = [
        f"{width}×{height} ({name})" for (width, height), name in list(sizes.items())[:_SIZES_SHOWN]
    ]
    more = f" and {len(sizes) - _SIZES_SHOWN:,} more" if len(sizes) > _SIZES_SHOWN else ""
    return unreadable(
        f"The images have {len(sizes):,} sizes: {', '.join(shown)}{more}; expected one size, as a "
        "batch has.",
        hint="Resize and crop the images as your evaluation does before you pack them; how that is "
        "done changes what a model answers, so it is not done here.",
        detail={"sizes": [list(size) for size in list(sizes)[:_SIZES_SHOWN]]},
    )


def _check_bytes(found: Pictures, limits: ProbeLimits) -> None:
    dtype, shape = found.described(found.mode or "L")
    total = math.prod(shape) * np.dtype(dtype).itemsize
    if total > limits.max_array_bytes:
        raise unreadable(
            f"{found.count:,} images of {found.width:,}×{found.height:,} pixels take {total:,} "
            f"bytes; at most {limits.max_array_bytes:,} bytes are read.",
            hint="Register fewer images, or images of fewer pixels.",
            detail={"bytes": total, "limit": limits.max_array_bytes},
        )
