"""Rules that fold affine operations after the head into W and b."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from workers.extraction.head.kinds import along_classes
from workers.extraction.head.rules.path import Hop
from workers.extraction.head.rules.relation import Relation, not_followed


def _then(relation: Relation, scale: Tensor | float, shift: Tensor | float | None) -> Relation:
    """Follow z with scale · z + shift, per class."""
    moved = None if relation.shift is None else relation.shift * scale
    if shift is not None:
        moved = (0 if moved is None else moved) + torch.as_tensor(shift, dtype=torch.float64)
        moved = moved.reshape(-1)
    return replace(relation, scale=relation.scale * scale, shift=moved)


def _constant(relation: Relation, hop: Hop) -> tuple[Tensor | float, bool]:
    """The other operand of a binary operation, and whether z is the first one."""
    first, second = hop.step.argument("self"), hop.step.argument("other")
    leads = first is hop.source
    other = second if leads else first
    if other is hop.source:
        raise not_followed(hop, "takes the outputs twice")
    if tuple(hop.result.shape) != relation.shape:
        raise not_followed(hop, f"spreads the outputs to the shape {list(hop.result.shape)}")
    if isinstance(other, (int, float)):
        return float(other), leads
    if not isinstance(other, Tensor):
        raise not_followed(hop, f"combines the outputs with {type(other).__name__}")
    value = along_classes(other, relation.shape, relation.class_axis)
    if value is None:
        raise not_followed(hop, f"uses values of shape {list(other.shape)}, not one per class")
    return value.detach().double(), leads


def add(relation: Relation, hop: Hop) -> Relation:
    """Self + alpha · other."""
    value, leads = _constant(relation, hop)
    alpha = cast("float", hop.step.argument("alpha"))
    return _then(relation, 1.0, value * alpha) if leads else _then(relation, alpha, value)


def subtract(relation: Relation, hop: Hop) -> Relation:
    """Self - alpha · other."""
    value, leads = _constant(relation, hop)
    alpha = cast("float", hop.step.argument("alpha"))
    return _then(relation, 1.0, value * -alpha) if leads else _then(relation, -alpha, value)


def subtract_from(relation: Relation, hop: Hop) -> Relation:
    """Other - alpha · self (`rsub`)."""
    value, leads = _constant(relation, hop)
    alpha = cast("float", hop.step.argument("alpha"))
    return _then(relation, -alpha, value) if leads else _then(relation, 1.0, value * -alpha)


def multiply(relation: Relation, hop: Hop) -> Relation:
    """Self · other."""
    value, _ = _constant(relation, hop)
    return _then(relation, value, None)


def divide(relation: Relation, hop: Hop) -> Relation:
    """Self / other, z the numerator and nothing rounded."""
    value, leads = _constant(relation, hop)
    if not leads:
        raise not_followed(hop, "divides by the outputs")
    if hop.step.argument("rounding_mode") is not None:
        raise not_followed(hop, "rounds the outputs")
    return _then(relation, 1.0 / value, None)


def negate(relation: Relation, _hop: Hop) -> Relation:
    """Minus self."""
    return _then(relation, -1.0, None)


def batch_norm(relation: Relation, hop: Hop) -> Relation:
    """Batch norm in evaluation mode: (z - mean) / √(var + eps) · weight + bias."""
    if relation.class_axis != 1 or hop.step.argument("training"):
        raise not_followed(hop, "normalises something else than the outputs")
    mean, variance, weight, bias = (
        _per_class(hop, name) for name in ("running_mean", "running_var", "weight", "bias")
    )
    if mean is None or variance is None:
        raise not_followed(hop, "has no running statistics")
    eps = cast("float", hop.step.argument("eps"))
    scale = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    return _then(relation, scale, (0.0 if bias is None else bias) - mean * scale)


def _per_class(hop: Hop, name: str) -> Tensor | None:
    value = hop.step.argument(name)
    return value.detach().double() if isinstance(value, Tensor) else None


_RULES = {
    ("add", "add_"): add,
    ("sub", "sub_", "subtract"): subtract,
    ("rsub",): subtract_from,
    ("mul", "mul_", "multiply"): multiply,
    ("div", "div_", "divide", "true_divide"): divide,
    ("neg", "neg_", "negative"): negate,
    ("batch_norm", "_native_batch_norm_legit_no_training"): batch_norm,
}

AFFINE: Mapping[str, Callable[[Relation, Hop], Relation]] = {
    f"aten::{name}": rule for names, rule in _RULES.items() for name in names
}
