"""The few conversions of an input that people forget, each to be tried before it is suggested."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from service.contract.transform import Transform, TransformDtype
from workers.probes.transform import BatchTransform

_TRIES = 8
"""Conversions tried at most: each is a run of a model that may be slow."""

_LAYOUTS = {
    3: ("NTC->NCT",),
    4: ("NHWC->NCHW", "NCHW->NHWC"),
    5: ("NDHWC->NCDHW", "NCDHW->NDHWC"),
}
"""By the number of axes. Two axes are exchanged the same way in both directions."""

_BYTE_SCALE = 1 / 255
_COLOURS = 3
_DTYPES = tuple(getattr(torch, name) for name in get_args(TransformDtype))


@dataclass(frozen=True, slots=True)
class Correction:
    """A conversion of what the model was given.

    Attributes:
        inputs: The converted inputs.
        transform: The part of it that a probe's transform expresses; empty if none.
        storing: The part that the owner has to do, in words; empty if none.
    """

    inputs: Tensor
    transform: Transform
    storing: str


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """One order of the same values: by a layout, or by storing them differently."""

    inputs: Tensor
    layout: str | None = None
    storing: str = ""


def corrections(
    given: Tensor, dtype: torch.dtype | None, channels: int | None
) -> Iterator[Correction]:
    """Yield the conversions to try, most usual first.

    Args:
        given: What the model cannot take.
        dtype: The dtype its layers take, `None` if unknown.
        channels: The channels its first layer takes, `None` if unknown.
    """
    if given.dtype is torch.bfloat16:  # numpy has none, and so has no probe
        return iter(())
    candidates = (
        _correction(arrangement, conversion)
        for arrangement in _arrangements(given, channels)
        for conversion in _conversions(given, dtype)
        if conversion is not None or arrangement.inputs is not given or arrangement.layout
    )
    return islice(candidates, _TRIES)


def written(transform: Transform) -> str:
    """Return a transform as one writes it into a spec."""
    return f'"transform": {json.dumps(transform.model_dump(mode="json"))}'


def _correction(arrangement: _Arrangement, dtype: torch.dtype | None) -> Correction:
    keys: dict[str, object] = {}
    if arrangement.layout is not None:
        keys["layout"] = arrangement.layout
    stored = arrangement.inputs.cpu().numpy()
    if dtype is not None:
        keys["dtype"] = str(dtype).removeprefix("torch.")
        if stored.dtype == np.uint8 and dtype.is_floating_point and stored.max() > 1:
            keys["scale"] = _BYTE_SCALE
    transform = Transform.model_validate(keys)
    # The probe's own code converts, so that what is suggested is what was tried.
    inputs = BatchTransform(transform, stored.shape, stored.dtype)(stored)
    return Correction(inputs.to(arrangement.inputs.device), transform, arrangement.storing)


def _conversions(given: Tensor, dtype: torch.dtype | None) -> list[torch.dtype | None]:
    """Return the dtypes to try; `None` keeps the one there is."""
    if dtype is None:
        other = torch.int64 if given.dtype is torch.float32 else torch.float32
        return [None, *_conversions(given, other)]
    if dtype is given.dtype or dtype not in _DTYPES:
        return [None]
    if dtype is torch.int64 and given.is_floating_point() and not given.equal(given.round()):
        return [None]  # cutting fractions off would make other inputs of them
    return [dtype]


def _arrangements(given: Tensor, channels: int | None) -> Iterator[_Arrangement]:
    yield _Arrangement(given)
    for layout in _LAYOUTS.get(given.dim(), ()):
        yield _Arrangement(given, layout)
    seen = {given.shape}
    for inputs, how in _reshapings(given, channels):
        if inputs.shape not in seen:
            seen.add(inputs.shape)
            yield _Arrangement(inputs, None, f"{_shape(inputs)}: {how}")


def _reshapings(given: Tensor, channels: int | None) -> Iterator[tuple[Tensor, str]]:
    rows, *sizes = given.shape
    flat = given.flatten(1)
    if len(sizes) > 1:
        yield (
            given.reshape(rows, *[size for size in sizes if size != 1] or [1]),
            "leave out the axes of length 1",
        )
        yield flat, "flatten them as in training, in the model or before they are stored"
    if channels == _COLOURS and len(sizes) > 1 and sizes[0] == 1:
        yield (
            given.expand(rows, _COLOURS, *sizes[1:]),
            "repeat the grey channel, if that was done in training",
        )
    yield given.unsqueeze(1), "add a channel axis"
    yield given.unsqueeze(-1), "add a channel axis at the end"
    if len(sizes) == 1:
        for count in (channels,) if channels else (1, _COLOURS):
            side = math.isqrt(sizes[0] // count)
            if side > 1 and count * side * side == sizes[0]:
                yield given.reshape(rows, count, side, side), "store images as images"


def _shape(inputs: Tensor) -> str:
    return f"(n, {', '.join(map(str, inputs.shape[1:]))})"
