"""Rules for operations that make one z of several, each z_i = Φ_i W_iᵀ + b_i.

What is made is one linear layer in two cases: the same layer gave all of them, at other positions
(then Φ is what is joined), or all of them see the same Φ (then W is). That the layers, or the Φ,
are the same is asked of their values, on every batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from workers.extraction.head.rules.path import Join
from workers.extraction.head.rules.relation import Relation
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.operations import Step
from workers.protocol.errors import JobError

Joiner = Callable[[Sequence[Relation], Join], Relation]


def concatenate(relations: Sequence[Relation], join: Join) -> Relation:
    """Parts along an axis that they have: positions of one layer, or outputs of several."""
    return _along(relations, join, cast("int", join.step.argument("dim")))


def concatenate_rows(relations: Sequence[Relation], join: Join) -> Relation:
    """`vstack`: along the first axis, which a vector is given."""
    single = len(relations[0].shape) == 1
    return _stacked(relations, join, 0) if single else _along(relations, join, 0)


def concatenate_columns(relations: Sequence[Relation], join: Join) -> Relation:
    """`hstack`: along the second axis, or the only one."""
    return _along(relations, join, min(1, len(relations[0].shape) - 1))


def stack(relations: Sequence[Relation], join: Join) -> Relation:
    """Parts along a new axis."""
    return _stacked(relations, join, cast("int", join.step.argument("dim")))


def total(relations: Sequence[Relation], join: Join) -> Relation:
    """A sum or difference of layers on the same Φ: W is the sum of theirs."""
    first, second = relations
    alpha = float(cast("float", join.step.argument("alpha")))
    if join.sources[0] is not join.step.argument("self"):
        first, second = second, first
    signs = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}
    ours, theirs = signs[join.step.name.removeprefix("aten::").removesuffix("_")]
    if first.shape != second.shape or first.class_axis != second.class_axis:
        raise _different(join, "their shapes differ")
    if not _same(first.features, second.features):
        raise _different(join, "they see different features")
    matrix = ours * first.weight() + theirs * second.weight()
    terms = [(ours, first.bias()), (theirs, second.bias())]
    shifts = [factor * bias for factor, bias in terms if bias is not None]
    return _with_weight(first, matrix, sum(shifts[1:], shifts[0]) if shifts else None)


def _along(relations: Sequence[Relation], join: Join, dim: int) -> Relation:
    first = relations[0]
    axis = dim % len(first.shape)
    if any(one.class_axis != first.class_axis for one in relations):
        raise _different(join, "their outputs lie on different axes")
    features = [one.features for one in relations]
    shape = tuple(join.result.shape)
    if axis != first.class_axis:
        if not _one_layer(relations):
            raise _different(join, "it sets the outputs of different layers one after the other")
        joined = torch.cat(features, first.feature_axis(axis))
        return replace(first, features=joined, shape=shape)
    if all(_same(one, other) for one, other in pairwise(features)):
        return replace(_union(relations), shape=shape)
    if first.shape[axis] == 1 and _one_layer(relations):
        # One output at each of several positions; its own axis is where they lie.
        return replace(first, features=torch.stack(features, axis), shape=shape, class_axis=None)
    raise _different(join, "they see different features")


def _stacked(relations: Sequence[Relation], join: Join, dim: int) -> Relation:
    first = relations[0]
    axis = dim % (len(first.shape) + 1)
    if any(one.class_axis != first.class_axis for one in relations):
        raise _different(join, "their outputs lie on different axes")
    features = [one.features for one in relations]
    shape = tuple(join.result.shape)
    if _one_layer(relations):
        before = first.class_axis is None or axis <= first.class_axis
        class_axis = first.class_axis
        if class_axis is not None and before:
            class_axis += 1
        joined = torch.stack(features, axis if before else axis - 1)
        return replace(first, features=joined, shape=shape, class_axis=class_axis)
    if first.class_axis is None and all(_same(one, other) for one, other in pairwise(features)):
        return replace(_union(relations), shape=shape, class_axis=axis)
    raise _different(join, "they are different layers")


def _union(relations: Sequence[Relation]) -> Relation:
    """All outputs of layers on the same Φ, as those of one layer."""
    weights = [one.weight() for one in relations]
    shifts = [one.bias() for one in relations]
    if all(shift is None for shift in shifts):
        shift = None
    else:
        pairs = zip(weights, shifts, strict=True)
        shift = torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in pairs])
    return _with_weight(relations[0], torch.cat(weights), shift)


def _with_weight(relation: Relation, matrix: Tensor, shift: Tensor | None) -> Relation:
    one = torch.ones(1, dtype=torch.float64)
    return replace(relation, matrix=matrix, classes=None, scale=one, shift=shift)


def _one_layer(relations: Sequence[Relation]) -> bool:
    """Whether all have the same W and b."""
    first = relations[0]
    return all(
        _same(first.matrix, one.matrix)
        and _same(first.classes, one.classes)
        and _same(first.scale, one.scale)
        and _same(first.shift, one.shift)
        for one in relations[1:]
    )


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors hold the same values; NaN counts as one."""
    if one is None or other is None:
        return one is other
    if one is other or torch.equal(one, other):
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _different(join: Join, reason: str) -> JobError:
    return not_one_layer(join.step, len(join.branches), reason)


def not_one_layer(step: Step, count: int, reason: str = "") -> JobError:
    """The refusal of what is made of several tensors, and not by one linear layer."""
    return refuse(
        Refusal.MULTIPLE_HEADS,
        f"The output is {step.name} (operation {step.index + 1}) of {count} tensors that depend on "
        "the input, not the output of one linear layer: a sum or concatenation of heads, or a "
        f"residual connection around the last layer{f'; {reason}' if reason else ''}.",
        operation=step.name,
    )


ADDING = {f"aten::{name}" for name in ("add", "add_", "sub", "sub_", "rsub")}
JOINING: Mapping[str, Joiner] = {
    **{f"aten::{name}": concatenate for name in ("cat", "concat", "concatenate")},
    "aten::vstack": concatenate_rows,
    "aten::hstack": concatenate_columns,
    "aten::stack": stack,
    **dict.fromkeys(ADDING, total),
}
"""Operations that may bring several heads together."""
