"""Quantized layers: Φ and W as the layer sees them, converted back to floating point."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from workers.extraction.head.kinds.convolutions import Geometry, kind_of, patches
from workers.extraction.head.kinds.head import Head, HeadRule, arguments, not_a_head
from workers.extraction.trace.operations import Step

_ops = cast("Any", torch.ops.quantized)


def _unpack(unpack: Callable[[object], tuple[Tensor, Tensor | None]], step: Step) -> Any:
    names = step.operation.arguments
    weight, bias = unpack(step.argument(names[1]))
    return weight.dequantize() if weight.is_quantized else weight, bias


def _linear(step: Step, _operand: int, features: Tensor) -> Head:
    half = step.name.endswith("_fp16")
    weight, bias = _unpack(_ops.linear_unpack_fp16 if half else _ops.linear_unpack, step)
    shape = tuple(step.outputs[0].shape)
    precision = torch.float16 if half else torch.qint8
    return Head("linear", _dense(features), weight, bias, len(shape) - 1, shape, precision)


def _convolution(step: Step, _operand: int, features: Tensor) -> Head:
    weight, bias = _unpack(getattr(_ops, f"{step.name.rpartition('::')[2]}_unpack"), step)
    packed = cast("Any", step.argument(step.operation.arguments[1]))
    if packed.groups() != 1:
        raise not_a_head(step, "it has groups, so no output sees all features")
    geometry = Geometry.of(
        weight,
        *(
            cast("Sequence[int]", read())
            for read in (packed.stride, packed.padding, packed.dilation)
        ),
    )
    seen = patches(_dense(features), geometry)
    shape = tuple(step.outputs[0].shape)
    return Head(kind_of(geometry), seen, weight.flatten(1), bias, 1, shape, torch.qint8)


def _dense(features: Tensor) -> Tensor:
    return features.dequantize() if features.is_quantized else features


RULES = {
    "quantized::linear": HeadRule(arguments("X"), _linear),
    "quantized::linear_dynamic": HeadRule(arguments("X"), _linear),
    "quantized::linear_dynamic_fp16": HeadRule(arguments("X"), _linear),
    "quantized::conv2d": HeadRule(arguments("qx"), _convolution),
}
