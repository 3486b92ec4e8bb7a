"""Rules for operations that pick positions, or classes, out of z."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from workers.extraction.head.rules.path import Hop
from workers.extraction.head.rules.positions import Rule
from workers.extraction.head.rules.relation import Relation, not_followed


def select(relation: Relation, hop: Hop) -> Relation:
    """One position, or one class, out of an axis, which goes."""
    axis = _axis(relation, hop)
    index = cast("int", hop.step.argument("index"))
    if axis == relation.class_axis:
        chosen = torch.tensor([index % relation.shape[axis]])
        return replace(_choose(relation, chosen), shape=tuple(hop.result.shape), class_axis=None)
    features = relation.features.select(relation.feature_axis(axis), index)
    return _without(relation, hop, axis, features)


def unbind(relation: Relation, hop: Hop) -> Relation:
    """One of the positions, or classes, that an axis was taken apart into."""
    axis = _axis(relation, hop)
    if axis == relation.class_axis:
        chosen = torch.tensor([hop.output])
        return replace(_choose(relation, chosen), shape=tuple(hop.result.shape), class_axis=None)
    features = relation.features.select(relation.feature_axis(axis), hop.output)
    return _without(relation, hop, axis, features)


def part(relation: Relation, hop: Hop) -> Relation:
    """Some of the positions, or classes, of one axis: slices, chunks, chosen indices."""
    axis = _axis(relation, hop)
    # What the operation does to the axis, done to the numbers of its entries.
    along = [1] * len(relation.shape)
    along[axis] = relation.shape[axis]
    numbers = torch.arange(relation.shape[axis]).reshape(along).expand(relation.shape)
    kept = hop.replay(numbers).movedim(axis, -1)
    chosen = kept.reshape(-1, kept.shape[-1])[0]
    shape = tuple(hop.result.shape)
    if axis == relation.class_axis:
        return replace(_choose(relation, chosen), shape=shape)
    features = relation.features.index_select(relation.feature_axis(axis), chosen)
    return replace(relation, features=features, shape=shape)


def index(relation: Relation, hop: Hop) -> Relation:
    """Positions, or classes, by tensors of indices; those may themselves depend on the input."""
    indices = list(cast("Sequence[Tensor | None]", hop.step.argument("indices")))
    indexed = [axis for axis, chosen in enumerate(indices) if chosen is not None]
    tensors = [chosen for chosen in indices if chosen is not None]
    if any(chosen.dtype == torch.bool and chosen.dim() > 1 for chosen in tensors):
        raise not_followed(hop, "picks positions by a mask, so samples have unequal numbers")
    shape = tuple(hop.result.shape)
    if indexed == [relation.class_axis] and tensors[0].dim() == 1:
        chosen = torch.arange(relation.shape[indexed[0]])[tensors[0]]
        return replace(_choose(relation, chosen), shape=shape)
    if relation.class_axis is None or relation.class_axis in indexed:
        raise not_followed(hop, "picks classes and positions together")
    new = _axis_after_indexing(relation.class_axis, indexed, tensors)
    in_place = relation.features.movedim(-1, relation.class_axis)
    picked = hop.replay(in_place)
    return replace(relation, features=picked.movedim(new, -1), shape=shape, class_axis=new)


def gather(relation: Relation, hop: Hop) -> Relation:
    """Positions by an index that is the same for all classes, as for the last token of a text."""
    axis, class_axis = _axis(relation, hop), relation.class_axis
    chosen = cast("Tensor", hop.step.argument("index"))
    if class_axis is None or axis == class_axis or chosen.dim() != len(relation.shape):
        raise not_followed(hop, "picks classes")
    by_class = chosen.movedim(class_axis, -1)
    if by_class.shape[-1] != relation.shape[class_axis] or bool(
        (by_class != by_class[..., :1]).any()
    ):
        raise not_followed(hop, "picks other positions for other classes")
    numbers = by_class[..., :1].expand(*by_class.shape[:-1], relation.features.shape[-1])
    features = relation.features.gather(relation.feature_axis(axis), numbers)
    return replace(relation, features=features, shape=tuple(hop.result.shape))


def flip(relation: Relation, hop: Hop) -> Relation:
    """Positions, or classes, in reverse."""
    shape = relation.shape
    axes = [axis % len(shape) for axis in cast("Sequence[int]", hop.step.argument("dims"))]
    positions = [relation.feature_axis(axis) for axis in axes if axis != relation.class_axis]
    turned = replace(relation, features=relation.features.flip(positions))
    if relation.class_axis not in axes:
        return turned
    return _choose(turned, torch.arange(shape[relation.class_axis]).flip(0))


def _axis_after_indexing(axis: int, indexed: list[int], tensors: list[Tensor]) -> int:
    """Where an axis that is not indexed goes: numpy's rules of advanced indexing."""
    # A mask over one axis stands for a vector of indices.
    as_one = max(chosen.dim() for chosen in tensors)
    before = sum(other < axis for other in indexed)
    adjacent = indexed == list(range(indexed[0], indexed[-1] + 1))
    if adjacent and axis < indexed[0]:
        return axis
    return as_one + axis - before


def _axis(relation: Relation, hop: Hop) -> int:
    return cast("int", hop.step.argument("dim")) % len(relation.shape)


def _without(relation: Relation, hop: Hop, axis: int, features: Tensor) -> Relation:
    class_axis = relation.class_axis
    if class_axis is not None and axis < class_axis:
        class_axis -= 1
    shape = tuple(hop.result.shape)
    return replace(relation, features=features, shape=shape, class_axis=class_axis)


def _choose(relation: Relation, chosen: Tensor) -> Relation:
    """Keep the given classes of those that are left."""
    classes, scale, shift = relation.classes, relation.scale, relation.shift
    return replace(
        relation,
        classes=chosen if classes is None else classes[chosen],
        scale=scale if scale.numel() == 1 else scale[chosen],
        shift=shift if shift is None or shift.numel() == 1 else shift[chosen],
    )


_PARTS = (
    "slice",
    "narrow",
    "index_select",
    "split",
    "split_with_sizes",
    "unsafe_split",
    "chunk",
    "unsafe_chunk",
    "tensor_split",
)

CHOOSING: Mapping[str, Rule] = {
    "aten::select": select,
    "aten::unbind": unbind,
    "aten::index": index,
    "aten::gather": gather,
    "aten::flip": flip,
    **{f"aten::{name}": part for name in _PARTS},
}
