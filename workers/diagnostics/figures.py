"""How a figure is declared: its range, how its interval is rounded, and what decides it.

Groups of figures are dataclasses. A field that is declared by `figure` gets a 95 % interval from
the folds, and nothing else has to be said about it anywhere in the numerics. The functions that
compute a group do so for many sets of samples at once, all of them and those without a fold: they
return `Values`, and `filled` makes the group of one set from them.
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

Vectors of one number for each eigenfunction have one axis more, `(..., rank)`.
"""

Group = TypeVar("Group")
_KEY = "figure"


@dataclass(frozen=True)
class Sizes:
    """What bounds figures that count.

    Attributes:
        features: p.
        directions: m, the independent directions that the features could use.
        targets: d.
        outputs: C.
    """

    features: int
    directions: int
    targets: int
    outputs: int


Bounds = Callable[[Sizes], tuple[float, float]]


def share(_: Sizes) -> tuple[float, float]:
    """From 0 to 1."""
    return 0.0, 1.0


def at_most_one(_: Sizes) -> tuple[float, float]:
    """Up to 1, and negative where it is worse than chance."""
    return -math.inf, 1.0


def positive(_: Sizes) -> tuple[float, float]:
    """From 0 on."""
    return 0.0, math.inf


def effective(sizes: Sizes) -> tuple[float, float]:
    """From 1 to the number of features."""
    return 1.0, float(sizes.features)


def counted_features(sizes: Sizes) -> tuple[float, float]:
    """From 0 to the number of features."""
    return 0.0, float(sizes.features)


def counted_directions(sizes: Sizes) -> tuple[float, float]:
    """From 1 to the number of directions that the features could use."""
    return 1.0, float(max(sizes.directions, 1))


def counted_targets(sizes: Sizes) -> tuple[float, float]:
    """From 0 to the number of target functions."""
    return 0.0, float(sizes.targets)


def counted_outputs(sizes: Sizes) -> tuple[float, float]:
    """From 0 to the number of outputs."""
    return 0.0, float(sizes.outputs)


@dataclass(frozen=True)
class Figure:
    """What the interval of a figure depends on.

    Attributes:
        bounds: The range that the interval is clipped to.
        rounding: `outwards` of counts: leaving out a fold seldom moves a whole number. `upwards` of
            counts that are a smooth figure rounded up: their `Values` are that smooth figure.
        of_tail: Whether the weakest eigenfunctions decide it, which are not known at all of fewer
            samples than features.
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
    """Declare a field of a dataclass as a figure with an interval; arguments as of `Figure`."""
    return field(default=default, metadata={_KEY: Figure(bounds, rounding, of_tail)})


def figures_of(group: type) -> Mapping[str, Figure]:
    """The declared figures of a group, by name."""
    return {each.name: each.metadata[_KEY] for each in fields(group) if _KEY in each.metadata}


def filled(group: type[Group], values: Values, **others: object) -> Group:
    """The group of one set of samples.

    Args:
        group: A dataclass with figures.
        values: Of one set: numbers `()` and vectors `(rank,)`. A field that is missing keeps its
            default.
        **others: Fields that are no figures.
    """
    declared = figures_of(group)
    figures = {name: _plain(value, declared.get(name)) for name, value in values.items()}
    return group(**figures, **others)


def _plain(value: Tensor, declared: Figure | None) -> float | int | np.ndarray | None:
    """A number, None for NaN, or a vector; counts as whole numbers."""
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
    """The values, NaN where they are undefined."""
    return torch.where(where, torch.nan, values)
