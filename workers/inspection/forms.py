"""Forms of example inputs: what one sample looks like, with sizes that may still be open."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SEED = 0


@dataclass(frozen=True, slots=True)
class Form:
    """What one sample of one input looks like.

    Attributes:
        axes: Sizes of its axes; `None` is open, and all open axes of a batch share one size.
        dtype: Type of its values.
        values: Integers are drawn from 0 to below this.
    """

    axes: tuple[int | None, ...]
    dtype: torch.dtype = torch.float32
    values: int = 2

    def shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of a sample whose open axes have a size."""
        return tuple(size if axis is None else axis for axis in self.axes)


def is_open(forms: Sequence[Form]) -> bool:
    """Return whether an axis has no size yet."""
    return any(None in form.axes for form in forms)


def elements(forms: Sequence[Form], size: int) -> int:
    """Return values in one sample of all inputs together."""
    return sum(math.prod(form.shape(size)) for form in forms)


def draw(forms: Sequence[Form], size: int, rows: int) -> tuple[Tensor, ...]:
    """Draw a batch: floats from [0, 1), where logarithms and roots are at home, and integers.

    Args:
        forms: One for each input.
        size: The size of open axes.
        rows: Samples.

    Returns:
        One tensor for each input, [rows, *sample]; the same for the same arguments.
    """
    generator = torch.Generator().manual_seed(_SEED)
    return tuple(_draw(form, (rows, *form.shape(size)), generator) for form in forms)


def _draw(form: Form, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if form.dtype.is_floating_point:
        return torch.rand(shape, generator=generator).to(form.dtype)
    return torch.randint(form.values, shape, generator=generator).to(form.dtype)
