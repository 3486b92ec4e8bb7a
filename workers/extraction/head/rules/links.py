"""Links: the functions f = link(u) that may follow the last linear layer's outputs u."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from workers.extraction.head.kinds import along_classes
from workers.extraction.head.rules.path import Hop
from workers.extraction.head.rules.relation import Relation, not_followed

OVER_CLASSES: Mapping[str, str] = {
    "aten::softmax": "softmax",
    "aten::_softmax": "softmax",
    "aten::log_softmax": "log_softmax",
    "aten::_log_softmax": "log_softmax",
}

_CURVES = (
    "sigmoid",
    "log_sigmoid",
    "tanh",
    "relu",
    "relu6",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardshrink",
    "softshrink",
    "threshold",
    "softplus",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "logit",
    "abs",
    "pow",
    "square",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "erfinv",
    "clamp",
    "clamp_min",
    "clamp_max",
)
_CUTS = (
    "nan_to_num",
    "round",
    "floor",
    "ceil",
    "trunc",
    "frac",
    "sign",
    "heaviside",
    "gt",
    "ge",
    "lt",
    "le",
    "logical_not",
    "bitwise_not",
    "where",
    "maximum",
    "minimum",
)
_OTHER_SPELLINGS = {
    "special_expit": "sigmoid",
    "special_logit": "logit",
    "special_erf": "erf",
    "log_sigmoid_forward": "log_sigmoid",
    "_prelu_kernel": "prelu",
    "absolute": "abs",
    "clip": "clamp",
    "arctan": "atan",
    "fix": "trunc",
    "sgn": "sign",
}


def _named(names: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    return {f"aten::{name}{suffix}": function for name, function in names for suffix in ("", "_")}


CURVES: Mapping[str, str] = _named((name, name) for name in _CURVES)
"""Functions that may also be the activation of a hidden layer."""

ELEMENTWISE: Mapping[str, str] = {
    **CURVES,
    **_named((name, name) for name in _CUTS),
    **_named(_OTHER_SPELLINGS.items()),
}
"""Functions of each output by itself."""


def over_classes(relation: Relation, hop: Hop) -> Relation:
    """A softmax: it must run over the classes."""
    axis = cast("int", hop.step.argument("dim")) % len(relation.shape)
    if axis != relation.class_axis:
        raise not_followed(hop, f"runs over axis {axis}, which is not that of the classes")
    return linked(relation, OVER_CLASSES[hop.step.name])


def elementwise(relation: Relation, hop: Hop) -> Relation:
    """A function of each output by itself."""
    if tuple(hop.result.shape) != relation.shape:
        raise not_followed(hop, f"spreads the outputs to the shape {list(hop.result.shape)}")
    for value in hop.step.tensors():
        own = value is not hop.source
        if own and along_classes(value, relation.shape, relation.class_axis) is None:
            raise not_followed(hop, f"uses values of shape {list(value.shape)}, not one per class")
    return linked(relation, ELEMENTWISE[hop.step.name])


def linked(relation: Relation, *names: str) -> Relation:
    """Append functions to the link."""
    return replace(relation, links=(*relation.links, *names))
