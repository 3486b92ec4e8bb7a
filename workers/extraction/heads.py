"""Reading a linear operation as z = Φ Wᵀ + b.

`HEADS` is the table of the operations that can be a head: which operands may carry Φ, and the
parser that reads how weight, bias and result are laid out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from workers.errors import JobError
from workers.extraction.operations import Step
from workers.extraction.refusals import Refusal, refuse


@dataclass(frozen=True, slots=True)
class Head:
    """A linear operation read as z = Φ Wᵀ + b.

    Attributes:
        kind: `linear` or `conv1x1`.
        features: Φ, [positions..., p].
        weight: W, [C, p].
        bias: What is added, [C] or [1], or `None`.
        class_axis: The axis of z with the C outputs; `None` if z has none (C = 1).
        shape: The shape of z.
    """

    kind: str
    features: Tensor
    weight: Tensor
    bias: Tensor | None
    class_axis: int | None
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operands:
    """Positions in the schema of the factors and of the added term.

    Attributes:
        factors: The two factors of the product.
        bias: The added term, `None` if there is none.
    """

    factors: tuple[int, int]
    bias: int | None = None


Parser = Callable[[Step, int, Tensor], Head]
"""Takes the step, the position of its operand Φ, and Φ itself (a copy of the operand)."""


def find_operand(step: Step, depends: Callable[[Tensor], bool]) -> int:
    """Finds which argument of a head carries Φ: the one factor that depends on the input.

    Raises:
        JobError: `no_linear_head` unless exactly one factor depends on the input;
            `multiple_heads` if the added term does, too.
    """
    operands, _ = HEADS[step.name]
    factors = [_tensor(step, position) for position in operands.factors]
    bias = None if operands.bias is None else _argument(step, operands.bias)
    dependent = [
        position for position, t in zip(operands.factors, factors, strict=True) if depends(t)
    ]
    if len(dependent) != 1:
        which = "both of its factors depend" if dependent else "none of its factors depends"
        raise not_a_head(step, f"{which} on the input")
    if isinstance(bias, Tensor) and depends(bias):
        raise refuse(
            Refusal.MULTIPLE_HEADS,
            f"{step.name} (operation {step.index + 1}) adds its product to another tensor that "
            "depends on the input, so the output is not that of one linear layer.",
            operation=step.name,
        )
    return dependent[0]


def parse_head(step: Step, operand: int, features: Tensor) -> Head:
    """Reads a head.

    Args:
        step: The linear operation.
        operand: Position of the argument that carries Φ, from `find_operand`.
        features: That argument, or a copy of it.

    Raises:
        JobError: `no_linear_head` if it is none of the spellings of a plain linear layer.
    """
    _, parser = HEADS[step.name]
    return parser(step, operand, features)


def along_classes(tensor: Tensor, shape: Sequence[int], class_axis: int | None) -> Tensor | None:
    """Reads a tensor that is broadcast to `shape` as one value per class.

    Returns:
        A tensor of 1 or C values; `None` if the values differ along another axis.
    """
    if tensor.dim() > len(shape):
        return None
    padded = (1,) * (len(shape) - tensor.dim()) + tuple(tensor.shape)
    if any(size != 1 for axis, size in enumerate(padded) if axis != class_axis):
        return None
    return tensor.reshape(-1)


def not_a_head(step: Step, reason: str) -> JobError:
    """The refusal of a linear operation that is no plain linear layer."""
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"The output comes from {step.name} (operation {step.index + 1}), which is not a plain "
        f"linear layer: {reason}.",
        stopped_at=step.name,
    )


def _argument(step: Step, position: int) -> object:
    return step.argument(step.operation.arguments[position])


def _tensor(step: Step, position: int) -> Tensor:
    value = _argument(step, position)
    if not isinstance(value, Tensor):
        raise not_a_head(step, f"its argument {position} is no tensor")
    return value


def _bias(step: Step, value: object, class_axis: int | None) -> Tensor | None:
    if not isinstance(value, Tensor):
        return None
    bias = along_classes(value, step.outputs[0].shape, class_axis)
    if bias is None:
        raise not_a_head(step, f"it adds a tensor of shape {list(value.shape)}, not one per class")
    return bias


def _linear(step: Step, operand: int, features: Tensor) -> Head:
    weight = _tensor(step, 1)
    if operand != 0 or weight.dim() != 2:  # noqa: PLR2004  (a matrix)
        raise not_a_head(step, "its weight depends on the input or is no matrix")
    shape = tuple(step.outputs[0].shape)
    class_axis = len(shape) - 1
    bias = _bias(step, step.argument("bias"), class_axis)
    return Head("linear", features, weight, bias, class_axis, shape)


def _product(step: Step, operand: int, features: Tensor) -> Head:
    operands, _ = HEADS[step.name]
    left, right = operands.factors
    constant = _tensor(step, right if operand == left else left)
    shape = tuple(step.outputs[0].shape)
    class_axis: int | None
    if operand == left and constant.dim() == 1:
        weight, class_axis = constant[None], None
    elif operand == left and constant.dim() == 2:  # noqa: PLR2004  (a matrix)
        weight, class_axis = constant.t(), len(shape) - 1
    elif operand == right and constant.dim() == 2 and features.dim() > 1:  # noqa: PLR2004  (a matrix)
        weight, class_axis = constant, len(shape) - 2
        features = features.transpose(-1, -2)
    else:
        raise not_a_head(
            step, f"factors of shapes {list(features.shape)} and {list(constant.shape)}"
        )
    if operands.bias is None:
        return Head("linear", features, weight, None, class_axis, shape)
    # addmm and addmv compute beta * added + alpha * product.
    alpha, beta = (cast("float", step.argument(name)) for name in ("alpha", "beta"))
    bias = _bias(step, _argument(step, operands.bias), class_axis) if beta else None
    return Head(
        "linear",
        features,
        weight if alpha == 1 else weight * alpha,
        bias if bias is None else bias * beta,
        class_axis,
        shape,
    )


def _pointwise_convolution(step: Step, operand: int, features: Tensor) -> Head:
    weight = _tensor(step, 1)
    kernel = tuple(weight.shape[2:])
    padding = step.argument("padding")
    # Padding by name leaves a 1×1 kernel nothing to pad.
    padded = not isinstance(padding, str) and any(cast("Sequence[int]", padding))
    obstacles = {
        "its weight depends on the input": operand != 0,
        f"its kernel is {'×'.join(map(str, kernel))}, not 1×1": any(k != 1 for k in kernel),
        "it pads its input": padded,
        "it has groups": step.argument("groups") != 1,
        "it is transposed": bool(step.argument("transposed")),
        "its input has no batch axis": features.dim() != weight.dim(),
    }
    for reason, met in obstacles.items():
        if met:
            raise not_a_head(step, reason)
    strides = cast("Sequence[int]", step.argument("stride"))
    strides = tuple(strides) * (len(kernel) if len(strides) == 1 else 1)
    kept = features[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]
    shape = tuple(step.outputs[0].shape)
    bias = step.argument("bias")
    return Head(
        "conv1x1",
        kept.movedim(1, -1),
        weight.flatten(1),
        bias if isinstance(bias, Tensor) else None,
        1,
        shape,
    )


_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution", "_convolution")

HEADS: Mapping[str, tuple[Operands, Parser]] = {
    "aten::linear": (Operands((0, 1), 2), _linear),
    "aten::mm": (Operands((0, 1)), _product),
    "aten::matmul": (Operands((0, 1)), _product),
    "aten::mv": (Operands((0, 1)), _product),
    "aten::addmm": (Operands((1, 2), 0), _product),
    "aten::addmv": (Operands((1, 2), 0), _product),
    **{f"aten::{name}": (Operands((0, 1), 2), _pointwise_convolution) for name in _CONVOLUTIONS},
}
