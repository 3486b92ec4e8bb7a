"""Convolutions as linear layers: Φ is the patch of the map that each output sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor
from torch.nn import functional

from workers.extraction.head.kinds.head import Head, HeadRule, arguments, not_a_head
from workers.extraction.trace.operations import Step


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a kernel is applied, each with one entry per spatial axis.

    Attributes:
        kernel: Its size.
        stride: Steps between two positions.
        dilation: Steps between two of its entries.
        padding: Zeros before and after each axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        weight: Tensor,
        stride: Sequence[int],
        padding: Sequence[int] | str,
        dilation: Sequence[int],
    ) -> "Geometry":
        """Read a convolution's arguments: one value may stand for all axes."""
        kernel = tuple(weight.shape[2:])
        axes = len(kernel)
        steps, gaps = _for_each(stride, axes), _for_each(dilation, axes)
        if isinstance(padding, str):
            spans = [
                gap * (size - 1) if padding == "same" else 0
                for size, gap in zip(kernel, gaps, strict=True)
            ]
            around = tuple((span // 2, span - span // 2) for span in spans)
        else:
            around = tuple((width, width) for width in _for_each(padding, axes))
        return cls(kernel, steps, gaps, around)


def _for_each(values: Sequence[int], axes: int) -> tuple[int, ...]:
    return tuple(values) * (axes if len(values) == 1 else 1)


def patches(features: Tensor, geometry: Geometry) -> Tensor:
    """Cut a map into what the kernel sees.

    Args:
        features: [n, channels, ...].
        geometry: Where the kernel is applied.

    Returns:
        [n, ..., p] with p = channels · the kernel's entries, in the order of a flattened weight.
    """
    if any(before or after for before, after in geometry.padding):
        widths = [width for pair in reversed(geometry.padding) for width in pair]
        features = functional.pad(features, widths)
    for axis, (size, stride, gap) in enumerate(
        zip(geometry.kernel, geometry.stride, geometry.dilation, strict=True), start=2
    ):
        features = features.unfold(axis, gap * (size - 1) + 1, stride)[..., ::gap]
    axes = len(geometry.kernel)
    return features.movedim(1, 1 + axes).flatten(1 + axes)


def kind_of(geometry: Geometry) -> str:
    """`conv3x3`, `conv5`, …; pointwise ones are `conv1x1` on any number of axes."""
    if set(geometry.kernel) == {1}:
        return "conv1x1"
    return "conv" + "x".join(map(str, geometry.kernel))


def _convolution(step: Step, operand: int, features: Tensor) -> Head:
    _, weight = RULES[step.name].factors(step)
    obstacles = {
        "its weight depends on the input": operand != 0,
        "it has groups, so no output sees all features": step.argument("groups") != 1,
        "it is transposed": bool(step.argument("transposed")),
        "its input has no batch axis": features.dim() != weight.dim(),
    }
    for reason, met in obstacles.items():
        if met:
            raise not_a_head(step, reason)
    geometry = Geometry.of(
        weight,
        cast("Sequence[int]", step.argument("stride")),
        cast("Sequence[int] | str", step.argument("padding")),
        cast("Sequence[int]", step.argument("dilation")),
    )
    bias = step.argument("bias")
    return Head(
        kind_of(geometry),
        patches(features, geometry),
        weight.flatten(1),
        bias if isinstance(bias, Tensor) else None,
        1,
        tuple(step.outputs[0].shape),
    )


RULES = {
    f"aten::{name}": HeadRule(arguments("input", "weight"), _convolution, "bias")
    for name in ("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
}
