"""Checks of values and classes before they are summed."""

import math

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.errors import IncompatibleShapesError, NonFiniteError


def samples(
    name: str, values: Tensor, shape: tuple[int, ...], device: torch.device | None = None
) -> Tensor:
    """Return `values` as float64 after checking their shape and that every entry is finite.

    Args:
        name: What the values are, for the message.
        values: One row per sample.
        shape: The expected shape.
        device: Device to move them to; None: they stay where they are.

    Raises:
        IncompatibleShapesError: The shape differs.
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
        values: One row per sample.

    Raises:
        NonFiniteError: The batch holds NaN or infinity.
    """
    # One sum reveals every NaN and infinity at a tenth of the cost of looking at each entry; only
    # if it is not finite, which overflow rarely causes, are the entries checked.
    if math.isfinite(float(values.sum())):
        return
    bad = int((~torch.isfinite(values)).any(1).sum())
    if bad:
        raise NonFiniteError(
            f"The {name} of {bad} of {len(values)} samples in a batch hold NaN or infinity. "
            "Check the scale of the input and the precision of the model."
        )


def stored_classes(stored: np.ndarray, d: int) -> Tensor:
    """Check the classes of a file of moments, which must ascend, and return them as a tensor.

    Args:
        stored: The classes as read.
        d: Number of classes that labels distinguish.

    Raises:
        IncompatibleShapesError: The classes do not ascend, or lie outside 0 to d − 1.
    """
    classes = torch.tensor(stored, dtype=torch.int64)
    in_order = classes.ndim == 1 and bool((classes.diff() > 0).all())
    if not in_order or bool(((classes < 0) | (classes >= d)).any()):
        raise IncompatibleShapesError(f"y_classes must ascend from 0 or more to less than {d}.")
    return classes
