"""Declaration of figures: range, rounding of the interval, and dependence on the tail.

Groups of figures are dataclasses. A field declared by `figure` gets a 95 % interval from the folds
without any further code in the numerics. The functions that compute a group do so for many sets of
samples at once (all samples, and all but each fold): they return `Values`, and `filled` builds the
group of one set from them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

Values = Mapping[str, Tensor]
"""Figures by name, float64: one number for each set of samples `(...,)`, NaN where undefined.

Vectors with one number for each eigenfunction have one more axis, `(..., rank)`.
"""

Group = TypeVar("Group")
_KEY = "figure"


@dataclass(frozen=True)
class Sizes:
    """Sizes that bound figures that are counts.

    Attributes:
        features: Number of features, p.
        directions: Number of independent directions that the features could use, m.
        targets: Number of targets, d.
        outputs: Number of outputs, C.
    """

    features: int
    directions: int
    targets: int
    outputs: int


Bounds = Callable[[Sizes], tuple[float, float]]


def share(_: Sizes) -> tuple[float, float]:
    """Bound a figure by 0 and 1."""
    return 0.0, 1.0


def at_most_one(_: Sizes) -> tuple[float, float]:
    """Bound a figure by 1 from above; below chance it is negative."""
    return -math.inf, 1.0


def positive(_: Sizes) -> tuple[float, float]:
    """Bound a figure by 0 from below."""
    return 0.0, math.inf


def effective(sizes: Sizes) -> tuple[float, float]:
    """Bound a figure by 1 and the number of features."""
    return 1.0, float(sizes.features)


def counted_features(sizes: Sizes) -> tuple[float, float]:
    """Bound a count by 0 and the number of features."""
    return 0.0, float(sizes.features)


def counted_directions(sizes: Sizes) -> tuple[float, float]:
    """Bound a count by 1 and the number of directions that the features could use."""
    return 1.0, float(max(sizes.directions, 1))


def counted_targets(sizes: Sizes) -> tuple[float, float]:
    """Bound a count by 0 and the number of target functions."""
    return 0.0, float(sizes.targets)


def counted_outputs(sizes: Sizes) -> tuple[float, float]:
    """Bound a count by 0 and the number of outputs."""
    return 0.0, float(sizes.outputs)


@dataclass(frozen=True)
class Figure:
    """Rules for the interval of a figure.

    Attributes:
        bounds: The range that the interval is clipped to.
        rounding: `outwards` for counts: the bounds are rounded to whole numbers, since leaving out
            a fold seldom changes a count. `upwards` for counts that are a smooth figure rounded up:
            their `Values` hold that smooth figure.
        of_tail: Whether the weakest eigenfunctions determine the figure. With fewer samples than
            features, these are not known at all.
    """

    bounds: Bounds
    rounding: Literal["none", "outwards", "upwards"] = "none"
    of_tail: bool = False


def figure(
    bounds: Bounds,
    *,
    rounding: Literal["none", "outwards", "upwards"] = "none",
    of_tail: bool = False,
    default: Any = MISSING,
) -> Any:
    """Declare a field of a dataclass as a figure with an interval; arguments as for `Figure`."""
    return field(default=default, metadata={_KEY: Figure(bounds, rounding, of_tail)})


def figures_of(group: type) -> Mapping[str, Figure]:
    """Return the declared figures of a group by name."""
    return {each.name: each.metadata[_KEY] for each in fields(group) if _KEY in each.metadata}


def filled(group: type[Group], values: Values, **others: object) -> Group:
    """Build the group of one set of samples.

    Args:
        group: A dataclass with figures.
        values: Values of one set: numbers `()` and vectors `(rank,)`. A field that is missing keeps
            its default.
        **others: Fields that are not figures.
    """
    declared = figures_of(group)
    figures = {name: _plain(value, declared.get(name)) for name, value in values.items()}
    return group(**figures, **others)


def _plain(value: Tensor, declared: Figure | None) -> float | int | np.ndarray | None:
    """Convert to a number, None for NaN, or a vector; counts become whole numbers."""
    if value.ndim:
        vector: np.ndarray = value.cpu().numpy()
        return vector
    number = value.item()
    if math.isnan(number):
        return None
    if declared is None or declared.rounding == "none":
        return number if value.is_floating_point() else int(number)
    return math.ceil(number)


def undefined(values: Tensor, where: Tensor) -> Tensor:
    """Return the values, with NaN where they are undefined."""
    return torch.where(where, torch.nan, values)
