"""The forms in which a stored array may be given to a model: its dtype, and the order of its axes.

A form changes no value, so whatever of them a model runs on gives it the same numbers. How these
are scaled is another question, which running does not answer.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import nn

from service.contract.transform import Transform, TransformDtype
from workers.analysis.inputs.scale import largest_value
from workers.extraction.trace.signature import exported_inputs

_IMAGE_CHANNELS = (1, 3, 4)
_IMAGE_AXES = 4
_FLOATS: tuple[TransformDtype, ...] = ("float32", "float64", "float16", "bfloat16")
_IMAGES = ("uint8", "uint16")
_AT_ONCE = 256


def forms(
    stored: npt.NDArray[np.generic], given: Transform | None, floats: tuple[TransformDtype, ...]
) -> list[Transform]:
    """Return the forms to try, likeliest first: what was given with dtype and layout settled.

    Args:
        stored: The array, shape (n, …).
        given: What the probe's spec says is done to it; None if nothing is said.
        floats: Floating dtypes in the order in which the model is likely to take them.
    """
    said = given or Transform()
    keys = said.model_dump(mode="json")
    layouts = [None] if said.layout is not None or given == Transform() else _layouts(stored)
    dtypes = [said.dtype] if said.dtype is not None else _dtypes(stored, said, floats, given)
    found = []
    for layout in layouts:
        for dtype in dtypes:
            settled = {**keys, **({} if layout is None else {"layout": layout})}
            if dtype is not None:
                settled["dtype"] = dtype
            found.append(Transform.model_validate(settled))
    return found


def likely_floats(model: nn.Module, position: int) -> tuple[TransformDtype, ...]:
    """Floating dtypes by how likely a model takes them: those that it is made of come first.

    Args:
        model: The model.
        position: The argument that they are for.
    """
    example = exported_inputs(model).get(position)
    own = [] if example is None else [example.dtype]
    own += [tensor.dtype for tensor in (*model.parameters(), *model.buffers())]
    names = [str(dtype).removeprefix("torch.") for dtype in dict.fromkeys(own)]
    known = [name for name in _FLOATS if name in names]
    known.sort(key=names.index)
    return tuple(dict.fromkeys((*known, *_FLOATS)))


def is_whole(stored: npt.NDArray[np.floating]) -> bool:
    """Return whether an array of floats holds whole numbers only; a fraction ends the search."""
    for start in range(0, len(stored), _AT_ONCE):
        block = stored[start : start + _AT_ONCE]
        if not (np.trunc(block) == block).all():
            return False
    return True


def _dtypes(
    stored: npt.NDArray[np.generic],
    said: Transform,
    floats: tuple[TransformDtype, ...],
    given: Transform | None,
) -> list[TransformDtype | None]:
    """Return dtypes to try; None keeps the stored one."""
    calculates = (said.scale, said.mean, said.std) != (None, None, None)
    if calculates:
        return list(floats)
    name = stored.dtype.name
    kept: list[TransformDtype | None] = [None]
    integer: list[TransformDtype | None] = ["int64"]
    if given == Transform():  # as stored, if the model takes that at all
        return [*kept, *floats] if name.startswith("float") else [*kept, *integer, *floats]
    if name.startswith("float"):
        # Models take single precision as a rule, which numpy does not default to.
        first = [] if name == "float64" else kept
        return [*first, *floats, *_whole(stored)]
    if name == "bool":
        return [*kept, *integer, *floats]
    # What is nothing but 0 and 1 may be a mask, of which nothing is lost as bool.
    masks: list[TransformDtype] = ["bool"] if stored.min() >= 0 and stored.max() <= 1 else []
    if name in _IMAGES or largest_value(stored) is not None:
        # Models calculate with pixels and sound, so how these are scaled is to be looked at.
        return [*floats, *integer, *kept, *masks]
    return [*integer, *floats, *kept, *masks]


def _whole(stored: npt.NDArray[np.generic]) -> Iterator[TransformDtype]:
    """Yield the dtypes of tokens or bytes stored as floats; they lose nothing as integers."""
    if is_whole(cast("npt.NDArray[np.floating]", stored)):
        yield "int64"
        if stored.min() >= 0 and stored.max() <= np.iinfo(np.uint8).max:
            yield "uint8"


def _layouts(stored: npt.NDArray[np.generic]) -> list[str | None]:
    """Return the layouts to try: files hold images with channels last, most models take them first.

    Floats with channels last may be, too; they are first taken as they are.
    """
    shape = stored.shape
    if stored.dtype.kind == "f" and len(shape) == _IMAGE_AXES:
        is_last = shape[-1] in _IMAGE_CHANNELS and shape[1] == shape[2]
        is_image = is_last and shape[1] not in _IMAGE_CHANNELS
        return ["NHWC->NHWC", "NHWC->NCHW"] if is_image else [None]
    is_image = len(shape) == _IMAGE_AXES and (
        stored.dtype.name in _IMAGES or largest_value(stored) is not None
    )
    if not (is_image and shape[-1] in _IMAGE_CHANNELS):
        return [None]
    as_stored = "NCHW->NCHW" if shape[1] in _IMAGE_CHANNELS else "NHWC->NHWC"
    return [as_stored, "NHWC->NCHW"] if as_stored[1] == "C" else ["NHWC->NCHW", as_stored]
