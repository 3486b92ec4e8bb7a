"""What values and classes must be to become sums."""

import math

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.errors import IncompatibleShapesError, NonFiniteError


def samples(
    name: str, values: Tensor, shape: tuple[int, ...], device: torch.device | None = None
) -> Tensor:
    """`values` as float64, once the shape is as expected and every entry finite.

    Args:
        name: What the values are, for the message.
        values: One row a sample.
        shape: The expected one.
        device: Where they are wanted; None: where they are.

    Raises:
        IncompatibleShapesError: The shape is another one.
        NonFiniteError: An entry is not finite.
    """
    if tuple(values.shape) != shape:
        raise IncompatibleShapesError(
            f"The {name} of a batch have shape {tuple(values.shape)}, expected {shape}."
        )
    check_finite(name, values)
    return values.detach().to(device, torch.float64)


def check_finite(name: str, values: Tensor) -> None:
    """Refuse a batch that holds NaN or infinity.

    Args:
        name: What the values are, for the message.
        values: One row a sample.

    Raises:
        NonFiniteError: It does.
    """
    # One sum finds every NaN and infinity at a tenth of the cost, and rarely overflows.
    if math.isfinite(float(values.sum())):
        return
    bad = int((~torch.isfinite(values)).any(1).sum())
    if bad:
        raise NonFiniteError(
            f"The {name} of {bad} of {len(values)} samples in a batch hold NaN or infinity. "
            "Check the scale of the input and the precision of the model."
        )


def stored_classes(stored: np.ndarray, d: int) -> Tensor:
    """The classes of a file of moments, which must ascend.

    Args:
        stored: As they were read.
        d: How many classes labels tell apart.

    Raises:
        IncompatibleShapesError: They do not ascend, or are no such classes.
    """
    classes = torch.tensor(stored, dtype=torch.int64)
    in_order = classes.ndim == 1 and bool((classes.diff() > 0).all())
    if not in_order or bool(((classes < 0) | (classes >= d)).any()):
        raise IncompatibleShapesError(f"y_classes must ascend from 0 or more to less than {d}.")
    return classes
