"""Links: the functions f = link(u) that may follow the last linear layer's outputs u."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from workers.extraction.path import Hop
from workers.extraction.relation import Relation, not_followed

OVER_CLASSES: Mapping[str, str] = {
    "aten::softmax": "softmax",
    "aten::_softmax": "softmax",
    "aten::log_softmax": "log_softmax",
    "aten::_log_softmax": "log_softmax",
}

_ELEMENTWISE = (
    "sigmoid",
    "log_sigmoid",
    "tanh",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "softplus",
    "exp",
    "expm1",
    "log",
    "log1p",
    "abs",
    "pow",
    "square",
    "sqrt",
    "sinh",
    "erf",
    "clamp",
    "clamp_min",
    "clamp_max",
)
ELEMENTWISE: Mapping[str, str] = {
    f"aten::{name}{suffix}": name for name in _ELEMENTWISE for suffix in ("", "_")
}


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
    return linked(relation, ELEMENTWISE[hop.step.name])


def linked(relation: Relation, name: str) -> Relation:
    """Appends a function to the link."""
    return replace(relation, links=(*relation.links, name))
