"""The features of every layer, from the run that gives Φ.

`find_layers` records runs on a few samples and fixes where each layer's features appear. A
`LayerTap` then watches the model's runs, checks that they perform the recorded operations, and
pools each layer's features at the moment they appear: the model may overwrite them later.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from workers.extraction.extractor import Extractor
from workers.extraction.layers.following import follow_layers
from workers.extraction.refusals import Refusal, printable, refuse
from workers.extraction.trace.execution import Batch, Watch, copied, execute, resized
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape, storage_key
from workers.protocol.errors import JobError

_RECORDED_ROWS = 16
# Eager factories such as torch.zeros detach their result if anybody else holds it, as the tape
# does and the tap does not.
_BY_CHANCE = torch.ops.aten.detach.default

_NAME_LIMIT = 200
"""Characters of a layer's name: five of them fit into a warning."""


@dataclass(frozen=True, slots=True)
class LayerExecution:
    """One execution of a weight layer, and where its features appear.

    Attributes:
        name: Its parameter's module, such as `layer1.0.conv2`, or its operation and which of them
            it is, such as `aten::conv2d #3`. A further execution is marked likewise: `fc #2`.
        kind: The operation, such as `conv2d`.
        p: Number of features: channels.
        step: The operation that gives them, by its position in `FoundLayers.operations`.
        samples: The axis of the samples.
        channels: The axis of the channels.
        dims: How many axes there are.
    """

    name: str
    kind: str
    p: int
    step: int
    samples: int
    channels: int
    dims: int

    def pool(self, tensor: Tensor) -> Tensor:
        """Return means over all but samples and channels, `(n, p)`; always a copy."""
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        others = [axis for axis in range(self.dims) if axis not in (self.samples, self.channels)]
        # Half precisions have too few digits for a mean over many positions.
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        dtype = torch.float32 if half else tensor.dtype
        pooled = tensor.mean(others, dtype=dtype) if others else tensor.clone()
        return pooled if self.samples < self.channels else pooled.T


@dataclass(frozen=True, slots=True)
class FoundLayers:
    """What one model's runs consist of.

    Attributes:
        found: The layers in the order in which their features appear; the last linear layer is
            none of them.
        operations: The operations of a run.
        warnings: What a reader of the figures must know, each as `code: sentence`.
    """

    found: tuple[LayerExecution, ...]
    operations: tuple[OpOverload, ...]
    warnings: tuple[str, ...]


class LayerTap(Watch):  # type: ignore[no-untyped-call]  # torch leaves its hook bare
    """Pools the features of layers while a model runs, once or several times.

    Args:
        layers: The layers wanted, of those found.
        operations: The operations of a run.
    """

    def __init__(self, layers: Sequence[LayerExecution], operations: Sequence[OpOverload]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._layers = layers
        self._operations = operations
        self._wanted = {layer.step: k for k, layer in enumerate(layers)}
        self._pooled: list[list[Tensor]] = [[] for _ in layers]
        self._position = 0
        self._difference: str | None = None

    def __enter__(self) -> Self:
        self._position = 0
        super().__enter__()  # type: ignore[no-untyped-call]  # as above
        return self

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        try:
            result = func(*args, **kwargs) if kwargs else func(*args)
            self._see(func, result)
        except Exception as error:
            self.error = error
            raise
        return result

    def _see(self, func: OpOverload, result: object) -> None:
        if func is _BY_CHANCE:
            return
        position = self._position
        self._position += 1
        if position >= len(self._operations) or func is not self._operations[position]:
            self._note(f"ran {func} as operation {position + 1}")
        elif position in self._wanted and self._difference is None:
            self._take(self._wanted[position], result)

    def forget(self) -> None:
        """Drop what was seen since the last time that features were handed over."""
        super().forget()
        self._pooled = [[] for _ in self._layers]
        self._difference = None

    def take(self, rows: int) -> list[Tensor]:
        """Hand over what was seen since the last time, which must be one batch.

        Args:
            rows: Samples of the batch. Runs may have held more, to fill up the last one.

        Returns:
            For each layer its features `(rows, p)`, in float32 or float64.

        Raises:
            JobError: `unsupported_model` (`layers_differ`) if a run was not like the recorded ones.
        """
        pooled, self._pooled = self._pooled, [[] for _ in self._layers]
        if self._difference is not None:
            raise _differ(f"On one batch it {self._difference}.")
        if self._position != len(self._operations):
            raise _differ(f"On one batch it stopped after {self._position} operations.")
        joined = [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in pooled]
        for layer, features in zip(self._layers, joined, strict=True):
            if len(features) < rows:
                raise _differ(f"Layer {layer.name} gave {len(features)} rows for {rows} samples.")
        return [features[:rows] for features in joined]

    def _take(self, index: int, result: object) -> None:
        layer = self._layers[index]
        tensor = result[0] if isinstance(result, (tuple, list)) else result
        if (
            isinstance(tensor, Tensor)
            and tensor.dim() == layer.dims
            and tensor.shape[layer.channels] == layer.p
        ):
            self._pooled[index].append(layer.pool(tensor))
        else:
            self._note(f"gave layer {layer.name} another shape")

    def _note(self, difference: str) -> None:
        # An error raised here would lose its text on the way through the interpreter.
        self._difference = self._difference or difference


@torch.inference_mode()
def find_layers(model: nn.Module, extractor: Extractor, batch: Batch) -> FoundLayers:
    """Find every weight layer whose features have a value for each sample and channel.

    Args:
        model: The model.
        extractor: What `discover` found in it.
        batch: A first batch.

    Raises:
        JobError: As `execute`; `unsupported_model` (`layers_differ`) if the operations that run
            depend on the batch size.
    """
    rows = extractor.baked_rows or min(_RECORDED_ROWS, len(batch[0]))
    tape = _record(model, resized(batch, rows))
    # In a smaller run the axis of the samples is the one that is shorter.
    fewer = max(rows // 2, 1) if extractor.baked_rows is None else rows
    smaller = _record(model, resized(batch, fewer)) if fewer < rows else tape
    operations = tuple(step.func for step in tape.steps)
    if operations != tuple(step.func for step in smaller.steps):
        raise _differ(f"For {fewer} samples it runs other operations than for {rows}.")
    found: list[LayerExecution] = []
    left_out: list[str] = []
    values = follow_layers(tape, extractor.heads)
    names = _names(model, [tape.steps[value.layer] for value in values])
    for value, name in sorted(zip(values, names, strict=True), key=lambda pair: pair[0].step):
        shape = tuple(value.tensor.shape)
        small_shape = tuple(smaller.steps[value.step].outputs[0].shape)
        samples = _sample_axis(shape, small_shape, rows, fewer)
        if samples is None or samples == value.channels:
            left_out.append(f"{name} (shape {list(shape)})")
            continue
        kind = tape.steps[value.layer].name.rpartition("::")[2].lstrip("_")
        p = shape[value.channels]
        found.append(LayerExecution(name, kind, p, value.step, samples, value.channels, len(shape)))
    return FoundLayers(tuple(found), operations, _warnings(left_out, rows))


class _Recording(Tape):  # type: ignore[no-untyped-call]  # as for the tap
    def record(
        self,
        func: OpOverload,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        result: object,
    ) -> None:
        if func is not _BY_CHANCE:
            super().record(func, args, kwargs, result)


def _record(model: nn.Module, batch: Batch) -> Tape:
    copies = copied(batch)
    tape = _Recording(copies)
    execute(model, copies, tape)
    return tape


def _sample_axis(
    shape: tuple[int, ...], smaller: tuple[int, ...], rows: int, fewer: int
) -> int | None:
    """Return the one axis whose size is the number of samples in both runs."""
    sizes = zip(shape, smaller, strict=True) if len(shape) == len(smaller) else ()
    axes = [axis for axis, size in enumerate(sizes) if size == (rows, fewer)]
    if rows == fewer:  # nothing tells axes of equal size apart, so only the usual place counts
        axes = [axis for axis in axes if axis == 0]
    return axes[0] if len(axes) == 1 else None


def _names(model: nn.Module, steps: Sequence[Step]) -> Iterator[str]:
    """Name layers by their parameters, or by their operations, each name once."""
    owners = {
        storage_key(tensor): name
        for name, tensor in itertools.chain(model.named_buffers(), model.named_parameters())
    }
    executed: Counter[str] = Counter()
    for step in steps:
        # A weight computed at run time has no name, but its bias may have.
        tensors = sorted(step.tensors(), key=lambda tensor: tensor.dim(), reverse=True)
        owner = next((owners[key] for key in map(storage_key, tensors) if key in owners), None)
        name = step.name if owner is None else _module(owner)
        executed[name] += 1
        again = owner is None or executed[name] > 1
        shown = printable(name, _NAME_LIMIT)
        yield f"{shown} #{executed[name]}" if again else shown


def _module(parameter: str) -> str:
    """Return the module that a weight or bias belongs to; other parameters stand for themselves."""
    module, _, last = parameter.rpartition(".")
    return module if module and last.startswith(("weight", "bias")) else parameter


def _warnings(left_out: Sequence[str], rows: int) -> tuple[str, ...]:
    if not left_out:
        return ()
    warning = (
        f"layers_left_out: there are no figures for layers without an axis that runs over the "
        f"{rows} samples of a batch alone: {some(left_out)}."
    )
    return (warning,)


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _differ(what: str) -> JobError:
    return refuse(
        Refusal.LAYERS_DIFFER,
        f"The figures of all layers need a model that runs the same operations on every batch. "
        f"{what}",
    )
