"""Rules for operations on positions: what is done to the axes of z is done to those of Φ."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from workers.extraction.head.rules.links import linked
from workers.extraction.head.rules.path import Hop
from workers.extraction.head.rules.relation import Relation, not_followed
from workers.extraction.refusals import Refusal, refuse

Rule = Callable[[Relation, Hop], Relation]


def keep(relation: Relation, hop: Hop) -> Relation:
    """Operations that change no value: copies, casts, dropout in evaluation mode."""
    before, after = hop.source.dtype, hop.result.dtype
    if not before.is_floating_point or after.is_floating_point or hop.result.is_quantized:
        return relation
    return linked(relation, "ne" if after is torch.bool else "trunc")


def reshape(relation: Relation, hop: Hop) -> Relation:
    """Operations that only regroup axes, the order of the elements kept."""
    shape, p = tuple(hop.result.shape), relation.features.shape[-1]
    class_axis = _regrouped(relation, shape)
    if class_axis is None and relation.class_axis is not None and _outputs(relation) > 1:
        reason = f"turns {list(relation.shape)} into {list(shape)}, mixing classes with positions"
        raise not_followed(hop, reason)
    positions = [size for axis, size in enumerate(shape) if axis != class_axis]
    features = relation.features.reshape(*positions, p)
    return replace(relation, features=features, shape=shape, class_axis=class_axis)


def _outputs(relation: Relation) -> int:
    return 1 if relation.class_axis is None else relation.shape[relation.class_axis]


def _regrouped(relation: Relation, shape: tuple[int, ...]) -> int | None:
    """The axis of the new shape that runs over the classes: same size, same elements outside it."""
    if relation.class_axis is None:
        return None
    outer = math.prod(relation.shape[: relation.class_axis])
    for axis, size in enumerate(shape):
        if size == _outputs(relation) and math.prod(shape[:axis]) == outer:
            return axis
    return None


def permute(relation: Relation, hop: Hop) -> Relation:
    """Operations that reorder axes."""
    order = _order(hop, len(relation.shape))
    class_axis = relation.class_axis
    kept = [relation.feature_axis(axis) for axis in order if axis != class_axis]
    return replace(
        relation,
        features=relation.features.permute(*kept, -1),
        shape=tuple(hop.result.shape),
        class_axis=None if class_axis is None else order.index(class_axis),
    )


def _order(hop: Hop, dims: int) -> list[int]:
    """For each axis of the result, the axis of the source it comes from."""
    # A tensor whose strides tell its axes apart says where each of them goes.
    probe = torch.empty([2] * dims, device="meta")
    moved = hop.replay(probe)
    return [probe.stride().index(stride) for stride in moved.stride()]


def average(relation: Relation, hop: Hop) -> Relation:
    """The mean over positions: it leaves W and b as they are."""
    return _reduce(relation, hop, torch.mean)


def total(relation: Relation, hop: Hop) -> Relation:
    """The sum over positions: b is summed as well."""
    count = math.prod(relation.shape[axis] for axis in _reduced_axes(relation, hop))
    reduced = _reduce(relation, hop, torch.sum)
    shift = relation.shift
    return replace(reduced, shift=None if shift is None else shift * count)


def keeps_values(hop: Hop) -> bool:
    """Whether an operation that reduces or picks leaves all values there, as it finds one alone."""
    return _reduces_nothing(hop) or _takes_all(hop)


def _reduces_nothing(hop: Hop) -> bool:
    """Whether each value of a reduction is that of one entry: all axes it reduces have length 1."""
    name, shape, dim = hop.step.name, hop.source.shape, hop.step.argument("dim")
    if name in _POOLED_AXES:
        spatial = _POOLED_AXES[name]
        padding = cast("Sequence[int]", hop.step.argument("padding") or ())
        divided = any(padding) or hop.step.argument("divisor_override")
        sizes = (*shape[-spatial:], *hop.result.shape[-spatial:])
        return hop.output == 0 and not divided and set(sizes) == {1}
    if name not in _REDUCTIONS or dim is None or hop.output:
        return False
    dims = cast("Sequence[int]", [dim] if isinstance(dim, int) else dim)
    return bool(dims) and all(shape[axis] == 1 for axis in dims)


def _takes_all(hop: Hop) -> bool:
    """Whether a slice is the whole, as in `u[:, :, None]`."""
    return hop.step.name in _SLICES and hop.result.shape == hop.source.shape


def refuse_reduction(_relation: Relation, hop: Hop) -> Relation:
    """Reductions that may only be followed where they reduce nothing."""
    raise not_followed(hop, "reduces several values to one")


def _reduce(relation: Relation, hop: Hop, reduction: Callable[..., Tensor]) -> Relation:
    axes, keepdim = _reduced_axes(relation, hop), bool(hop.step.argument("keepdim"))
    features = reduction(
        relation.features, dim=[relation.feature_axis(axis) for axis in axes], keepdim=keepdim
    )
    class_axis = relation.class_axis
    if class_axis is not None and not keepdim:
        class_axis -= sum(axis < class_axis for axis in axes)
    return replace(
        relation, features=features, shape=tuple(hop.result.shape), class_axis=class_axis
    )


def _reduced_axes(relation: Relation, hop: Hop) -> list[int]:
    dim = hop.step.argument("dim")
    if dim is None or dim == []:
        raise not_followed(hop, "reduces samples and classes together")
    dims = cast("Sequence[int]", [dim] if isinstance(dim, int) else dim)
    axes = [axis % len(relation.shape) for axis in dims]
    if relation.class_axis in axes:
        raise not_followed(hop, "reduces over the classes")
    return axes


def pool(relation: Relation, hop: Hop) -> Relation:
    """Average pooling over the positions of a feature map `(n, C, ...)`."""
    spatial = int(hop.step.name[-2])  # the name ends in 1d, 2d or 3d
    if relation.class_axis != 1 or len(relation.shape) != spatial + 2:
        raise not_followed(hop, f"pools a tensor of shape {list(relation.shape)} over its classes")
    padding = cast("Sequence[int]", hop.step.argument("padding") or ())
    # Each of these weights positions unevenly, so that the bias would no longer pass unchanged.
    if any(padding) or hop.step.argument("ceil_mode") or hop.step.argument("divisor_override"):
        raise not_followed(hop, "pools with padding or an own divisor")
    pooled = hop.replay(relation.features.movedim(-1, 1))
    return replace(relation, features=pooled.movedim(1, -1), shape=tuple(hop.result.shape))


def maximum(relation: Relation, hop: Hop) -> Relation:
    """Maxima over positions and their like, which no pooled feature explains."""
    spatial = hop.step.argument("kernel_size") or hop.step.argument("output_size")
    dim = hop.step.argument("dim")
    axes = [dim] if isinstance(dim, int) else list(cast("Sequence[int]", dim or ()))
    over_classes = relation.class_axis in {axis % len(relation.shape) for axis in axes}
    if over_classes or not (spatial or axes):
        raise not_followed(hop, "reduces over the classes")
    raise refuse(
        Refusal.NONLINEAR_POOL,
        f"{hop.step.name} (operation {hop.step.index + 1}) takes the outputs of several positions "
        "together in a way that is not linear in any pooled feature.",
        operation=hop.step.name,
    )


_KEEPING = (
    "detach",
    "alias",
    "clone",
    "contiguous",
    "positive",
    "to",
    "_to_copy",
    "type_as",
    "dropout",
    "dropout_",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "resolve_conj",
    "resolve_neg",
    # What is quantized on the way to the output stays the same up to the precision's tolerance.
    "dequantize",
    "quantize_per_tensor",
)
KEEPING = {f"aten::{name}" for name in _KEEPING}
_RESHAPING = (
    "view",
    "_unsafe_view",
    "reshape",
    "flatten",
    "unflatten",
    "squeeze",
    "squeeze_",
    "unsqueeze",
    "unsqueeze_",
    "view_as",
    "reshape_as",
    "_reshape_alias",
    "ravel",
)
_PERMUTING = ("permute", "movedim", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT")
_MAXIMA = (
    "amax",
    "amin",
    "max",
    "min",
    "logsumexp",
    "median",
    *(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)),
)
_POOLS = tuple(f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))
_OTHER_REDUCTIONS = ("prod", "nansum", "nanmean", "nanmedian", "mode", "cumsum", "cumprod")
_REDUCTIONS = {
    f"aten::{name}"
    for name in ("mean", "sum", "amax", "amin", "max", "min", "median", *_OTHER_REDUCTIONS)
}
_SLICES = {"aten::slice", "aten::narrow"}
_POOLED_AXES = {
    f"aten::{kind}_pool{n}d": n
    for kind in ("avg", "adaptive_avg", "max", "adaptive_max")
    for n in (1, 2, 3)
}

# Allowed after the link too: they neither mix positions nor leave any out.
HARMLESS: Mapping[str, Rule] = {
    **dict.fromkeys(KEEPING, keep),
    **{f"aten::{name}": reshape for name in _RESHAPING},
    **{f"aten::{name}": permute for name in _PERMUTING},
}
POOLING: Mapping[str, Rule] = {
    "aten::mean": average,
    "aten::sum": total,
    **{f"aten::{name}": pool for name in _POOLS},
    **{f"aten::{name}": maximum for name in _MAXIMA},
    **{f"aten::{name}": refuse_reduction for name in _OTHER_REDUCTIONS},
}
