"""What a linear operation is read as, and what all readings share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.operations import Step
from workers.protocol.errors import JobError


@dataclass(frozen=True, slots=True)
class Head:
    """A linear operation read as z = Φ Wᵀ + b.

    Attributes:
        kind: `linear`, or `conv1x1`, `conv4x4`, … by the size of the kernel.
        features: Φ, [positions..., p].
        weight: W, `(C, p)`.
        bias: What is added, `(C,)` or `(1,)`, or `None`.
        class_axis: The axis of z with the C outputs; `None` if z has none (C = 1).
        shape: The shape of z.
        precision: The dtype the operation works in where that is not the one of its tensors, as
            for quantized ones.
    """

    kind: str
    features: Tensor
    weight: Tensor
    bias: Tensor | None
    class_axis: int | None
    shape: tuple[int, ...]
    precision: torch.dtype | None = None


@dataclass(frozen=True, slots=True)
class HeadRule:
    """How one operation can be a head.

    Attributes:
        factors: Gives the tensors that may carry Φ or be the weight.
        parse: Reads the step, given which factor carries Φ and its value (a copy of it).
        added: Name of the argument that is added to the product, if there is one.
    """

    factors: Callable[[Step], tuple[Tensor, ...]]
    parse: Callable[[Step, int, Tensor], Head]
    added: str | None = None


def along_classes(tensor: Tensor, shape: Sequence[int], class_axis: int | None) -> Tensor | None:
    """Read a tensor that is broadcast to `shape` as one value per class.

    Returns:
        A tensor of 1 or C values; `None` if the values differ along another axis.
    """
    if tensor.dim() > len(shape):
        return None
    padded = (1,) * (len(shape) - tensor.dim()) + tuple(tensor.shape)
    if any(size != 1 for axis, size in enumerate(padded) if axis != class_axis):
        return None
    return tensor.reshape(-1)


def read_bias(step: Step, value: object, class_axis: int | None) -> Tensor | None:
    """Read what is added to a product.

    Raises:
        JobError: `no_linear_head` if it is not one value per class.
    """
    if not isinstance(value, Tensor):
        return None
    bias = along_classes(value, step.outputs[0].shape, class_axis)
    if bias is None:
        raise not_a_head(step, f"it adds a tensor of shape {list(value.shape)}, not one per class")
    return bias


def not_a_head(step: Step, reason: str) -> JobError:
    """Return the refusal of a linear operation that is no plain linear layer."""
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"The output comes from {step.name} (operation {step.index + 1}), which is not a plain "
        f"linear layer: {reason}.",
        stopped_at=step.name,
    )


def arguments(*names: str) -> Callable[[Step], tuple[Tensor, ...]]:
    """Make a getter of a step's arguments by name."""

    def get(step: Step) -> tuple[Tensor, ...]:
        values = tuple(step.argument(name) for name in names)
        found = tuple(value for value in values if isinstance(value, Tensor))
        if len(found) != len(values):
            raise not_a_head(step, "its factors are not tensors")
        return found

    return get
