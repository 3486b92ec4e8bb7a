"""Linear layers and matrix products, in all their spellings."""

import re
from typing import cast

from torch import Tensor

from workers.extraction.head.kinds.head import Head, HeadRule, arguments, not_a_head, read_bias
from workers.extraction.trace.operations import Step

_VECTOR, _MATRIX, _BATCH = 1, 2, 3
_EQUATION = re.compile(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)")


def _linear(step: Step, operand: int, features: Tensor) -> Head:
    _, weight = _LINEAR.factors(step)
    if operand != 0 or weight.dim() != _MATRIX:
        raise not_a_head(step, "its weight depends on the input or is no matrix")
    shape = tuple(step.outputs[0].shape)
    class_axis = len(shape) - 1
    bias = read_bias(step, step.argument("bias"), class_axis)
    return Head("linear", features, weight, bias, class_axis, shape)


def _product(step: Step, operand: int, features: Tensor) -> Head:
    rule = RULES[step.name]
    constant = _one_matrix(step, rule.factors(step)[1 - operand])
    shape = tuple(step.outputs[0].shape)
    class_axis: int | None
    if operand == 0 and constant.dim() == _VECTOR:
        weight, class_axis = constant[None], None
    elif operand == 0 and constant.dim() == _MATRIX:
        weight, class_axis = constant.t(), len(shape) - 1
    elif operand == 1 and constant.dim() == _MATRIX and features.dim() > 1:
        weight, class_axis = constant, len(shape) - 2
        features = features.transpose(-1, -2)
    else:
        raise not_a_head(
            step, f"factors of shapes {list(features.shape)} and {list(constant.shape)}"
        )
    if rule.added is None:
        return Head("linear", features, weight, None, class_axis, shape)
    # These compute beta * added + alpha * product.
    alpha, beta = (cast("float", step.argument(name)) for name in ("alpha", "beta"))
    bias = read_bias(step, step.argument(rule.added), class_axis) if beta else None
    return Head(
        "linear",
        features,
        weight if alpha == 1 else weight * alpha,
        bias if bias is None else bias * beta,
        class_axis,
        shape,
    )


def _one_matrix(step: Step, constant: Tensor) -> Tensor:
    """Return the matrix in a batch of equal ones (a broadcast weight), others as they are."""
    if constant.dim() < _BATCH:
        return constant
    matrices = constant.flatten(0, -3)
    if not bool((matrices == matrices[:1]).all()):
        raise not_a_head(step, "it multiplies by another matrix for each entry of the batch")
    return matrices[0]


def _inner(step: Step, operand: int, features: Tensor) -> Head:
    """Read a product over the last axis of both factors."""
    constant = RULES[step.name].factors(step)[1 - operand]
    return _contracted(step, operand, features, constant)


def _tensordot(step: Step, operand: int, features: Tensor) -> Head:
    """Read a product over one axis of each factor; more of them are no plain linear layer."""
    axes = [cast("list[int]", step.argument(name)) for name in ("dims_self", "dims_other")]
    if any(len(summed) != 1 for summed in axes):
        raise not_a_head(step, "it sums over several axes")
    constant = RULES[step.name].factors(step)[1 - operand]
    ours, theirs = axes[operand][0], axes[1 - operand][0]
    return _contracted(step, operand, features.movedim(ours, -1), constant.movedim(theirs, -1))


def _contracted(step: Step, operand: int, features: Tensor, constant: Tensor) -> Head:
    """Return a product over the last axes: the first factor's other axes, then the second's."""
    shape = tuple(step.outputs[0].shape)
    if constant.dim() == _VECTOR:
        return Head("linear", features, constant[None], None, None, shape)
    if constant.dim() != _MATRIX:
        raise not_a_head(step, f"its weight has shape {list(constant.shape)}")
    class_axis = len(shape) - 1 if operand == 0 else 0
    return Head("linear", features, constant, None, class_axis, shape)


def _einsum_factors(step: Step) -> tuple[Tensor, ...]:
    tensors = cast("list[Tensor]", step.argument("tensors"))
    if len(tensors) != 2:  # noqa: PLR2004 - Φ and W
        raise not_a_head(step, f"it multiplies {len(tensors)} tensors")
    return tuple(tensors)


def _einsum(step: Step, operand: int, features: Tensor) -> Head:
    """Read e.g. `nij,kij->nk`: axes in both factors are summed, the weight's own is the classes.

    Raises:
        JobError: `no_linear_head` unless each index has one of these roles.
    """
    equation = str(step.argument("equation")).replace(" ", "")
    match = _EQUATION.fullmatch(equation)
    if match is None:
        raise not_a_head(step, f"{equation!r} cannot be read as one")
    ours, theirs, result = match[1 + operand], match[2 - operand], match[3]
    summed = [axis for axis in ours if axis in theirs]
    classes = [axis for axis in theirs if axis not in ours]
    positions = [axis for axis in ours if axis not in theirs]
    if (
        len(classes) != 1
        or not summed
        or set(summed) & set(result)
        or sorted(result) != sorted([*positions, *classes])
        or any(len(set(axes)) != len(axes) for axes in (ours, theirs))
    ):
        raise not_a_head(step, f"{equation!r} is not one weight for every position")
    constant = _einsum_factors(step)[1 - operand]
    weight = constant.permute([theirs.index(axis) for axis in [*classes, *summed]]).flatten(1)
    places = [axis for axis in result if axis in positions]
    kept = features.permute([ours.index(axis) for axis in [*places, *summed]])
    return Head(
        "linear",
        kept.flatten(-len(summed)),
        weight,
        None,
        result.index(classes[0]),
        tuple(step.outputs[0].shape),
    )


_LINEAR = HeadRule(arguments("input", "weight"), _linear, "bias")

RULES = {
    "aten::linear": _LINEAR,
    "aten::mm": HeadRule(arguments("self", "mat2"), _product),
    "aten::matmul": HeadRule(arguments("self", "other"), _product),
    "aten::bmm": HeadRule(arguments("self", "mat2"), _product),
    "aten::mv": HeadRule(arguments("self", "vec"), _product),
    "aten::addmm": HeadRule(arguments("mat1", "mat2"), _product, "self"),
    "aten::addmv": HeadRule(arguments("mat", "vec"), _product, "self"),
    "aten::baddbmm": HeadRule(arguments("batch1", "batch2"), _product, "self"),
    "aten::inner": HeadRule(arguments("self", "other"), _inner),
    "aten::tensordot": HeadRule(arguments("self", "other"), _tensordot),
    "aten::einsum": HeadRule(_einsum_factors, _einsum),
}
