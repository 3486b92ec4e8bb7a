"""What an operation that failed on an example input expected in its place."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from workers.extraction.trace.operations import Step
from workers.inspection.forms import Form

_IMAGE_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class Failing:
    """An operation that failed.

    Attributes:
        step: The operation.
        operand: The one tensor it took that depends on the input.
        constants: The other tensors it took.
        given: Shape of the model's input that it comes from, that of the samples included.
    """

    step: Step
    operand: Tensor
    constants: Sequence[Tensor]
    given: Sequence[int]

    def constant(self, dims: int) -> Tensor | None:
        """Return the first constant with so many axes."""
        return next((tensor for tensor in self.constants if tensor.dim() == dims), None)

    def largest(self) -> Tensor | None:
        """Return the constant with most axes."""
        return max(self.constants, key=Tensor.dim, default=None)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an operation expected.

    Attributes:
        got: Size of the operand, along whatever the operation looks at.
        wanted: The size that it must have there.
        forms: Inputs that would have it if nothing stands between, most likely first.
    """

    got: int
    wanted: int
    forms: Sequence[Form]


def _dtype(weight: Tensor) -> torch.dtype:
    """Return what a layer with this weight works on: quantized ones take floats."""
    return weight.dtype if weight.is_floating_point() else torch.float32


_Reader = Callable[[Failing], Expectation | None]


def read_expectation(failing: Failing) -> Expectation | None:
    """Read what an operation expected; `None` if it does not show."""
    reader = WEIGHTED.get(failing.step.name) or _UNWEIGHTED.get(failing.step.name)
    return reader(failing) if reader else None


def forms_of_weight(weight: Tensor) -> list[Form]:
    """Return inputs that a weight could be made for, judged by its shape alone."""
    width = weight.shape[1]
    if weight.dim() == 2:  # noqa: PLR2004 - a matrix
        return [Form((width,), _dtype(weight)), Form((None, width), _dtype(weight))]
    return [Form((width, *_free(weight.dim() - 2)), _dtype(weight))]


def _free(axes: int) -> tuple[int | None, ...]:
    return (None,) * axes


def _features(failing: Failing, wanted: int, dtype: torch.dtype) -> Expectation:
    """Return an operation over the last axis."""
    operand = failing.operand
    forms = [Form((wanted,), dtype), Form((None, wanted), dtype)]
    got = operand.shape[-1] if operand.dim() else 1
    if operand.dim() < len(failing.given):
        is_pooled = got == failing.given[1]
        axes = (wanted, *_free(len(failing.given) - 2))
        forms = [*([Form(axes, dtype)] if is_pooled else _images(wanted, dtype)), *forms]
    return Expectation(got, wanted, forms)


def _images(values: int, dtype: torch.dtype) -> list[Form]:
    """Square images of so many values."""
    sides = [(channels, math.isqrt(values // channels)) for channels in _IMAGE_CHANNELS]
    return [Form((c, side, side), dtype) for c, side in sides if c * side * side == values]


def _linear(failing: Failing) -> Expectation | None:
    weight = failing.constant(2)
    return None if weight is None else _features(failing, weight.shape[1], _dtype(weight))


def _product(failing: Failing) -> Expectation | None:
    weight = failing.constant(2)
    return None if weight is None else _features(failing, weight.shape[0], weight.dtype)


def _recurrence(failing: Failing) -> Expectation | None:
    found = _linear(failing)
    # A sequence rather than a vector.
    return found and Expectation(found.got, found.wanted, found.forms[::-1])


def _convolution(failing: Failing) -> Expectation | None:
    weight, step = failing.largest(), failing.step
    if weight is None or weight.dim() < 3:  # noqa: PLR2004 - channels out and in, and a kernel
        return None
    is_transposed = "transpose" in step.name or bool(step.argument("transposed"))
    groups = cast("int | None", step.argument("groups"))
    channels = weight.shape[0] if is_transposed else weight.shape[1] * (groups or 1)
    positions = _free(weight.dim() - 2)
    shapes = [(channels, *positions), (*positions, channels)]
    if channels == 1:
        shapes.append(positions)
    operand = failing.operand
    got = operand.shape[1] if operand.dim() == weight.dim() else 0
    return Expectation(got, channels, [Form(shape, _dtype(weight)) for shape in shapes])


def _lookup(failing: Failing) -> Expectation | None:
    table = failing.constant(2)
    if table is None:
        return None
    entries = len(table)
    # Integers failed because they are beyond the table's end.
    got = 0 if failing.operand.is_floating_point() else entries + 1
    return Expectation(got, entries, [Form(_free(1), torch.int64, entries)])


def _normalization(failing: Failing) -> Expectation | None:
    scale = failing.constant(1)
    if scale is None:
        return None
    channels = len(scale)
    got = failing.operand.shape[1] if failing.operand.dim() > 1 else 0
    forms = [Form((channels, *_free(axes)), scale.dtype) for axes in range(3)]
    return Expectation(got, channels, forms)


def _layer_norm(failing: Failing) -> Expectation | None:
    sizes = tuple(cast("Sequence[int]", failing.step.argument("normalized_shape")))
    got = math.prod(failing.operand.shape[-len(sizes) :])
    dtype = failing.operand.dtype
    return Expectation(got, math.prod(sizes), [Form(sizes, dtype), Form((None, *sizes), dtype)])


def _reshaping(failing: Failing) -> Expectation | None:
    operand = failing.operand
    sizes = failing.step.argument("size") or failing.step.argument("shape")
    if not isinstance(sizes, (list, tuple)) or any(size < 0 for size in sizes[1:]):
        return None
    wanted = math.prod(sizes[1:])
    forms = [*_images(wanted, operand.dtype), Form((wanted,), operand.dtype)]
    return Expectation(operand[0].numel(), wanted, forms)


def _elementwise(failing: Failing) -> Expectation | None:
    constant, dtype = failing.largest(), failing.operand.dtype
    if constant is None:
        return None
    pairs = zip(reversed(failing.operand.shape), reversed(constant.shape), strict=False)
    for axis, (got, wanted) in enumerate(pairs):
        if wanted not in (got, 1):
            behind = _free(axis)
            before = _free(failing.operand.dim() - 2 - axis)
            forms = [Form((wanted, *behind), dtype), Form((*before, wanted, *behind), dtype)]
            return Expectation(got, wanted, forms)
    return None


def _table(readers: Mapping[_Reader, Sequence[str]]) -> Mapping[str, _Reader]:
    return {
        name if "::" in name else f"aten::{name}": reader
        for reader, names in readers.items()
        for name in names
    }


_CONVOLUTIONS = [f"conv{kind}{n}d" for n in (1, 2, 3) for kind in ("", "_transpose")]

WEIGHTED: Mapping[str, _Reader] = _table(
    {
        _linear: ["linear", "quantized::linear", "quantized::linear_dynamic"],
        _product: ["mm", "matmul", "addmm"],
        _recurrence: ["lstm", "gru", "rnn_tanh", "rnn_relu"],
        _convolution: [*_CONVOLUTIONS, "convolution", "_convolution", "quantized::conv2d"],
        _lookup: ["embedding", "embedding_bag"],
        _normalization: ["batch_norm", "instance_norm", "group_norm"],
        _layer_norm: ["layer_norm"],
    }
)
"""Operations with a weight: after one of them, sizes are the model's and no longer the input's."""

_UNWEIGHTED = _table(
    {
        _reshaping: ["view", "_unsafe_view", "reshape"],
        _elementwise: ["add", "add_", "sub", "mul", "mul_", "div"],
    }
)
