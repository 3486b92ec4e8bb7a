"""Whether whole numbers are given to a model as they are stored, or divided by their largest value.

Bytes may be pixels, which most models take as values from 0 to 1; but also indicators, counts or
codes, and some models divide pixels themselves. A model runs on either and says nothing, so the
scale is proved by what the values or the model show, or asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from service.contract.transform import Transform
from workers.extraction.fit.first_steps import first_steps
from workers.extraction.fit.value_range import norm_ratio
from workers.extraction.trace.consistency import same
from workers.extraction.trace.execution import Batch, Output, copied, execute
from workers.extraction.trace.tape import Tape

_BYTE = 255
_WIDE = 65535
_SOUND = {"int16": 2**15, "int32": 2**31}
_FEWEST_SAMPLES = 64
_FEWEST_PIXELS = 64
_MATRIX_AXES = 2
_SAMPLED = 256
_NORMAL_MEAN = 4.0
_NORMAL_SPREAD = (0.05, 10.0)
"""Of inputs that were normalised with statistics of other data, or with 0.5 for want of any."""

_SAME_ANSWERS = 1e-5


@dataclass(frozen=True, slots=True)
class Scale:
    """What is known of an array's scale.

    Attributes:
        divisor: What the values are divided by; 1 for as they are; None if two readings remain.
        why: What shows it, in words; what was looked at, where it is not known.
    """

    divisor: int | None
    why: str


def said_scale(
    stored: npt.NDArray[np.generic],
    given: Transform | None,
    settled: Transform,
    authority: str,
) -> Scale | None:
    """Return the scale as spec and values tell it, without a model.

    Args:
        stored: The array.
        given: What the probe's spec says is done to it.
        settled: The form in which the model runs on it.
        authority: In words, why things are as the spec has them.

    Returns:
        None if the model is to be looked at.
    """
    if given is not None and (given.scale is not None or given == Transform()):
        return Scale(1, authority)
    if given is not None and (given.mean is not None or given.std is not None):
        return _normalised(stored, given) or Scale(1, authority)
    is_float = settled.dtype is not None and "float" in settled.dtype
    return None if is_float and largest_value(stored) else Scale(1, _indicators(stored))


def largest_value(stored: npt.NDArray[np.generic]) -> int | None:
    """Return the largest value there can be, of what models often take divided by it.

    Bytes, and whole numbers that could be pixels: 255. Wide pixels: 65535. Sound: 2¹⁵ or 2³¹.

    Returns:
        None for everything else, such as indicators, counts in tables, and floats.
    """
    if not np.issubdtype(stored.dtype, np.integer):
        return None
    least, largest = int(stored.min()), int(stored.max())
    if least < 0:
        is_sound = max(stored.shape[1:], default=0) >= _FEWEST_SAMPLES
        return _SOUND.get(stored.dtype.name) if is_sound else None
    if stored.dtype != np.uint8 and stored.ndim <= _MATRIX_AXES and not _are_flat(stored):
        return None  # a table
    if largest <= 1:
        return None
    return _BYTE if largest <= _BYTE else _WIDE


def _are_flat(stored: npt.NDArray[np.generic]) -> bool:
    """Return whether a table has as many columns as an image has pixels, most above half a byte."""
    if stored.ndim < _MATRIX_AXES or stored.shape[1] < _FEWEST_PIXELS:
        return False
    highest = stored.max(axis=0)
    varying = highest[highest > stored.min(axis=0)]
    return int(stored.max()) <= _BYTE and 2 * int((varying >= _BYTE // 2).sum()) >= len(varying)


def _indicators(stored: npt.NDArray[np.generic]) -> str:
    is_binary = stored.dtype == np.uint8 and int(stored.max()) <= 1
    return "it holds nothing but 0 and 1, so these are no pixels" if is_binary else ""


def _normalised(stored: npt.NDArray[np.generic], given: Transform) -> Scale | None:
    """Return the scale with which mean and standard deviation normalise the values, if one does."""
    unit = largest_value(stored)
    if unit is None:
        return None
    plain, divided = (_is_normal(stored, given, divisor) for divisor in (1, unit))
    if plain == divided:
        return Scale(None, "Neither is normalised well by the mean and std of the spec.")
    if plain:
        return Scale(1, "the mean and std of the spec normalise the values as they are stored")
    return Scale(
        unit,
        f"the mean and std of the spec normalise the values divided by {unit}, and not whole "
        f"numbers up to {stored.max()}",
    )


def _is_normal(stored: npt.NDArray[np.generic], given: Transform, divisor: int) -> bool:
    """Return whether values come out about 0, and about 1 apart, as normalised inputs do."""
    sample = stored[:: max(1, len(stored) // _SAMPLED)].astype(np.float64) / divisor
    mean, std = (float(np.mean(v)) for v in (given.mean or [0.0], given.std or [1.0]))
    return are_normalised((float(sample.mean()) - mean) / std, float(sample.std()) / std)


def are_normalised(mean: float, spread: float) -> bool:
    """Return whether values of this mean and standard deviation may have been normalised."""
    least, most = _NORMAL_SPREAD
    return abs(mean) <= _NORMAL_MEAN and least <= spread <= most


@torch.inference_mode()
def shown_scale(
    model: nn.Module, plain: Batch, place: int, stored: npt.NDArray[np.generic]
) -> Scale:
    """Return the scale of one input as the model shows it.

    Args:
        model: The model.
        plain: A batch that it runs on, with this input as it is stored, in floats.
        place: Where in the batch this input is.
        stored: The whole array.
    """
    unit = largest_value(stored) or 1
    divided = tuple(t / unit if k == place else t for k, t in enumerate(plain))
    as_stored, as_units = _recorded(model, plain), _recorded(model, divided)
    shown = dict(_by_first_steps(as_stored, place, unit))
    if len(plain) == 1:  # else the norm may see another input
        shown |= _by_batch_norm(model, as_stored, as_units, unit)
    if len(set(shown.values())) == 1:
        return Scale(next(iter(shown.values())), " and ".join(shown))
    if shown:
        return Scale(None, f"What it shows contradicts itself: {'; '.join(shown)}.")
    if same_answers(as_stored.outputs, as_units.outputs):
        return Scale(unit, "the model gives the same answers either way")
    return Scale(
        None,
        "Neither what it does to its input first (dividing, normalising, looking up) nor a batch "
        "norm that remembers its inputs in training shows it.",
    )


_Shown = dict[str, int]
"""What divisor something shows, by what it is in words."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A recorded run."""

    given: Batch
    tape: Tape
    outputs: Sequence[Output]


def _recorded(model: nn.Module, batch: Batch) -> _Run:
    copies = copied(batch)
    tape = Tape(copies)
    return _Run(copies, tape, execute(model, copies, tape))


def _by_first_steps(as_stored: _Run, place: int, unit: int) -> _Shown:
    steps = first_steps(as_stored.tape, as_stored.given[place])
    did = f"x · {steps.factor:.4g} {steps.offset:+.4g}"
    match steps.takes_bytes(unit):
        case True if steps.are_codes:
            return {"the model uses it as whole numbers (codes)": 1}
        case True:
            return {f"the model scales it itself ({did})": 1}
        case False:
            return {f"the model normalises it as values from 0 to 1 ({did})": unit}
        case None:
            return {}


def _by_batch_norm(model: nn.Module, as_stored: _Run, as_units: _Run, unit: int) -> _Shown:
    stored, divided = norm_ratio(model, as_stored.tape), norm_ratio(model, as_units.tape)
    if stored is None or divided is None or stored.is_same == divided.is_same:
        return {}
    same, other = (stored, divided) if stored.is_same else (divided, stored)
    how = "as stored" if stored.is_same else f"divided by {unit}"
    why = (
        f"{how}, the model's first batch norm sees values {same.factor:.3g} times as spread as in "
        f"training with their mean {same.distance:.2g} deviations off, and {other.factor:.3g} "
        "times as spread otherwise"
    )
    return {why: 1 if stored.is_same else unit}


def same_answers(one: Sequence[Output], other: Sequence[Output]) -> bool:
    """Return whether two runs gave the same, up to rounding."""
    return len(one) == len(other) and all(
        same(a.tensor, b.tensor, _SAME_ANSWERS) for a, b in zip(one, other, strict=True)
    )
