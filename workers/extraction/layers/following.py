"""Following the result of each weight layer, in a recorded run, forward to its activation.

A layer's features are its post-activations: what its result has become after normalisation,
residual addition and the nonlinearity. Where no nonlinearity comes before something else takes the
value (a query of an attention, a branch of a concatenation), it is the last value before that.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor
from torch._ops import OpOverload

from workers.extraction.head.rules.links import CURVES
from workers.extraction.head.tap import Site
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape

# Positions in the schema of the two factors. Either of them may be the weight.
_PRODUCTS = {"aten::mm": (0, 1), "aten::matmul": (0, 1), "aten::addmm": (1, 2)}
_CONVOLUTIONS = {
    f"aten::{name}"
    for name in (
        *(f"conv{n}d" for n in (1, 2, 3)),
        *(f"conv_transpose{n}d" for n in (1, 2, 3)),
        "convolution",
        "_convolution",
    )
}
# One operation for a whole layer or block, activation included; the channels come last.
_FUSED = {
    f"aten::{name}"
    for name in (
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "lstm_cell",
        "gru_cell",
        "rnn_tanh_cell",
        "rnn_relu_cell",
        "_transformer_encoder_layer_fwd",
        "_native_multi_head_attention",
    )
}
# Their weights are packed: no argument shows them as a tensor.
_PACKED = {
    f"quantized::{name}{suffix}"
    for name in ("linear", "conv1d", "conv2d", "conv3d")
    for suffix in ("", "_relu", "_dynamic", "_relu_dynamic")
}

_WEIGHTED = {"aten::linear", *_CONVOLUTIONS, *_FUSED, *_PACKED}
_MATRIX = 2


def _operations(*names: str) -> set[str]:
    return {f"aten::{name}{suffix}" for name in names for suffix in ("", "_")}


_NONLINEAR = CURVES.keys() | _operations("rrelu", "glu")
_ARITHMETIC = _operations("add", "sub", "rsub", "mul", "div", "neg")
_NORMS = _operations(
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "native_batch_norm",
    "native_layer_norm",
    "native_group_norm",
    "_native_batch_norm_legit_no_training",
)
_COPIES = _operations(
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "clone",
    "contiguous",
    "to",
    "_to_copy",
    "alias",
)
_RESHAPINGS = _operations(
    "view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"
)
_REORDERINGS = {"aten::permute", "aten::transpose", "aten::t"}
# Windowed pools; their names end in the number of axes they pool.
_POOLS = {f"aten::{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)}

# A gate or a hand-written normalisation reduces a value and then changes that value by the result,
# so a reduction takes nothing away from it.
_REDUCTIONS = {
    *(f"aten::{name}" for name in ("mean", "sum", "var", "std", "var_mean", "amax", "norm")),
    "aten::linalg_vector_norm",
    *(f"aten::adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2, 3)),
}


@dataclass(frozen=True, slots=True)
class Value:
    """What a layer's result has become.

    Attributes:
        layer: The layer's weight operation, by its position in the tape.
        step: The operation that gave the value, likewise.
        tensor: The value in the recorded run.
        channels: The axis of its channels.
        activated: A nonlinearity has been applied.
    """

    layer: int
    step: int
    tensor: Tensor
    channels: int
    activated: bool


def follow_layers(tape: Tape, heads: Sequence[Site]) -> list[Value]:
    """Find the features of every weight layer but the head.

    Args:
        tape: A recorded run.
        heads: Where the last linear layer is: its result is no feature.

    Returns:
        One value for each execution of a weight layer, in order of these executions.
    """
    follower = _Follower()
    places = {(site.func, site.occurrence) for site in heads}
    executions: Counter[OpOverload] = Counter()
    for step in tape.steps:
        is_head = (step.func, executions[step.func]) in places
        executions[step.func] += 1
        channels = _channels(tape, step)
        follower.see(step, None if is_head else channels, weighs=is_head or channels is not None)
    return follower.end()


class _Follower:
    """Goes through a run once and keeps the values that each layer's result lives in."""

    def __init__(self) -> None:
        self._living: dict[int, Value] = {}
        self._found: dict[int, Value] = {}

    def see(self, step: Step, channels: int | None, *, weighs: bool) -> None:
        """Take in the next operation.

        Args:
            step: The operation.
            channels: The axis of the channels of its result, if a layer begins here.
            weighs: It multiplies by a weight, so what goes into it ends.
        """
        if not step.outputs or step.name in _REDUCTIONS:
            return
        carried = [self._living[id(t)] for t in step.tensors() if id(t) in self._living]
        if weighs:
            self._finish(carried)
            if channels is not None:
                activated = step.name in _FUSED or "_relu" in step.name
                self._keep(Value(step.index, step.index, step.outputs[0], channels, activated))
        elif carried:
            goes_on = _continued(step, carried)
            layer = None if goes_on is None else goes_on.layer
            self._finish(value for value in carried if value.layer != layer)
            if goes_on is not None:
                self._keep(goes_on)

    def end(self) -> list[Value]:
        """Return the features found, once the run is over."""
        self._finish(sorted(self._living.values(), key=lambda value: value.step, reverse=True))
        return [self._found[layer] for layer in sorted(self._found)]

    def _keep(self, value: Value) -> None:
        self._living[id(value.tensor)] = value

    def _finish(self, values: Iterable[Value]) -> None:
        """End the layers of these values, the first value of each being its features."""
        for value in values:
            self._found.setdefault(value.layer, value)
        for key in [k for k, value in self._living.items() if value.layer in self._found]:
            del self._living[key]


def _channels(tape: Tape, step: Step) -> int | None:
    """Return the axis of the channels in a weight layer's result; `None` for other steps."""
    name = step.name
    if name in _PRODUCTS:
        return _product_channels(tape, step)
    if name not in _WEIGHTED:
        return None
    source, *others = step.tensors()
    # A recurrent layer's state may depend on the input, a weight may not.
    made_by_input = name not in _FUSED and any(map(tape.depends, others))
    if not tape.depends(source) or made_by_input:
        return None
    if name in _CONVOLUTIONS:
        return source.dim() - cast("Tensor", step.argument("weight")).dim() + 1
    return 1 if "conv" in name else source.dim() - 1


def _product_channels(tape: Tape, step: Step) -> int | None:
    names = step.operation.arguments
    left, right = (cast("Tensor", step.argument(names[k])) for k in _PRODUCTS[step.name])
    last = step.outputs[0].dim() - 1
    if tape.depends(left) and not tape.depends(right) and right.dim() == _MATRIX:
        return last
    # W Φᵀ. With more axes the constant would rather mix positions, such as a graph's adjacency.
    if tape.depends(right) and not tape.depends(left) and left.dim() == right.dim() == _MATRIX:
        return last - 1
    return None


def _continued(step: Step, carried: Sequence[Value]) -> Value | None:
    """Return the value that an operation makes of those that go into it; `None` if it ends them."""
    result, name = step.outputs[0], step.name
    if not result.is_floating_point():
        return None
    # Of two layers that meet, the first that still waits for its nonlinearity goes on.
    waiting = [value for value in carried if not value.activated]
    leading = (waiting or carried)[0]
    own = [value for value in carried if value.layer == leading.layer]
    channels: int | None = None
    if name in _NONLINEAR:
        channels = leading.channels
    elif name in _ARITHMETIC:
        # Past the nonlinearity only its own values join: x · sigmoid(x) is one activation still.
        joins = bool(waiting) or _is_own(step, own)
        same_shape = result.shape == leading.tensor.shape
        channels = leading.channels if joins and same_shape else None
    elif waiting:
        channels = _kept_channels(step, leading)
    if channels is None:
        return None
    activated = name in _NONLINEAR or any(value.activated for value in own)
    return Value(leading.layer, step.index, result, channels, activated)


def _is_own(step: Step, own: Sequence[Value]) -> bool:
    """Return whether a step combines nothing but a layer's own values and numbers."""
    ids = {id(value.tensor) for value in own}
    return all(id(tensor) in ids or tensor.dim() == 0 for tensor in step.tensors())


def _kept_channels(step: Step, value: Value) -> int | None:
    """Return where the channels are after an operation that keeps each value in its channel."""
    name, dims = step.name, value.tensor.dim()
    if name in _NORMS or name in _COPIES:
        return value.channels
    if name in _POOLS:
        pooled = int(name[-2])
        return value.channels if value.channels == dims - pooled - 1 else None
    if name in _REORDERINGS:
        return _order(step, dims).index(value.channels)
    if name in _RESHAPINGS:
        return _regrouped(value.tensor.shape, value.channels, step.outputs[0].shape)
    return None


def _regrouped(shape: Sequence[int], channels: int, new_shape: Sequence[int]) -> int | None:
    """Return the axis of the new shape that has the channels: as many, with as much before them."""
    before = math.prod(shape[:channels])
    for axis, size in enumerate(new_shape):
        if size == shape[channels] and math.prod(new_shape[:axis]) == before:
            return axis
    return None


def _order(step: Step, dims: int) -> list[int]:
    """Return which axis of the source each axis of the result is."""
    if step.name == "aten::permute":
        return [axis % dims for axis in cast("Sequence[int]", step.argument("dims"))]
    order = list(range(dims))
    if step.name == "aten::t":
        return order[::-1]
    first, second = (cast("int", step.argument(name)) % dims for name in ("dim0", "dim1"))
    order[first], order[second] = second, first
    return order
