"""What a model takes, read off the operation that refused its input.

An operation that fails inside a run holds both sides of the mismatch: the model's weight, and what
the model had made of its input until then.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from workers.extraction.refusals import printable
from workers.extraction.trace.execution import Batch, copied, describe_batch, dtype_name, execute
from workers.extraction.trace.operations import Step
from workers.extraction.trace.signature import exported_inputs, read_arguments
from workers.extraction.trace.tape import Tape, storage_key
from workers.protocol.errors import JobError

_NAME_LIMIT = 80
_LIMIT = 1000
_SIZES_SHOWN = 16
_CHANNEL_AXIS = 1


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a layer takes, beside what it was given.

    Attributes:
        sentence: Both, in words.
        figures: What is expected, for programs: the name as `layer`, and whichever of `channels`,
            `features`, `axis`, `axes`, `below`, `shape` and `dtype` are fixed.
        dtype: The dtype the layer takes, `None` if it fixes none.
        channels: The channels it takes on axis 1, `None` unless it counts them.
        advice: What to do where no conversion of the inputs helps.
    """

    sentence: str
    figures: dict[str, JsonValue]
    dtype: torch.dtype | None
    channels: int | None = None
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    """One layer's demand, before it is put into words.

    Attributes:
        weight: The model's side.
        operand: What the layer was given.
        demands: The demand in words.
        given: The matching property of the operand in words; empty if its shape says enough.
        figures: The demand for programs.
        dtype: As in `Expectation`.
        advice: As in `Expectation`.
    """

    weight: Tensor | None
    operand: Tensor
    demands: str
    given: str
    figures: dict[str, JsonValue] = field(default_factory=dict)
    dtype: torch.dtype | None = None
    advice: str | None = None


def find_expectation(model: nn.Module, batch: Batch) -> Expectation | None:
    """Run a model that refuses a batch once more, and read off what it refused.

    Returns:
        `None` if nothing could be read off.
    """
    copies = copied(batch)
    witness = Tape(copies)
    with suppress(JobError):  # it is known to fail; the witness learns where
        execute(model, copies, witness)
    step = witness.failed
    if step is None:
        return _declared_input(model) or _first_parameter(model)
    reading = _read(step, witness.depends)
    if reading is None:
        return None
    is_first = not any(earlier.name in _LAYERS for earlier in witness.steps)
    name = _name(reading.weight, model) or step.name
    return _in_words(reading, name, is_first=is_first)


def _in_words(reading: _Reading, name: str, *, is_first: bool) -> Expectation:
    operand, dtype = reading.operand, reading.dtype
    noun = "operation" if reading.weight is None else "first layer" if is_first else "layer"
    given = f"{reading.given}, in " if reading.given else ""
    figures: dict[str, JsonValue] = {"layer": name, **reading.figures}
    if dtype is not None:
        figures["dtype"] = _plain(dtype)
    channels = reading.figures.get("channels") if is_first else None
    advice = reading.advice
    if advice is None and not is_first and dtype in {None, operand.dtype}:
        advice = (
            "The layers before it took the inputs, so compare the height and width of the images, "
            "or the length of the sequences, with those the model was trained on."
        )
    found = f"{given}{describe_batch((operand,))}"
    return Expectation(
        sentence=printable(f"Its {noun} {name} {reading.demands}; it was given {found}.", _LIMIT),
        figures=figures,
        dtype=dtype,
        channels=channels if isinstance(channels, int) else None,
        advice=advice,
    )


def _declared_input(model: nn.Module) -> Expectation | None:
    """Return the example that an exported program was made with; its free axes are written n."""
    inputs = exported_inputs(model)
    if not inputs:
        return None
    position, example = next(iter(inputs.items()))
    name, dtype = read_arguments(model)[position].name, _plain(example.dtype)
    shape: Sequence[int | torch.SymInt] = example.shape
    sizes = [size if isinstance(size, int) else "n" for size in shape]
    channels = sizes[_CHANNEL_AXIS] if len(sizes) > _CHANNEL_AXIS + 1 else None
    return Expectation(
        sentence=f"It takes {name} of shape [{', '.join(map(str, sizes))}] ({dtype}).",
        figures={"input": name, "shape": list(sizes), "dtype": dtype},
        dtype=example.dtype,
        channels=channels if isinstance(channels, int) else None,
    )


def _first_parameter(model: nn.Module) -> Expectation | None:
    """Return the little that is known where the model's own code refused the input."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            shown = printable(name, _NAME_LIMIT)
            return Expectation(
                sentence=f"Its first parameter {shown} has {describe_batch((parameter,))}.",
                figures={
                    "layer": shown,
                    "shape": list(parameter.shape),
                    "dtype": dtype_name(parameter),
                },
                dtype=parameter.dtype,
            )
    return None


def _name(weight: Tensor | None, model: nn.Module) -> str | None:
    if weight is None:
        return None
    key = storage_key(weight)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if storage_key(tensor) == key:
            return printable(name, _NAME_LIMIT)
    return None


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _read(step: Step, depends: Callable[[Tensor], bool]) -> _Reading | None:
    reader = _LAYERS.get(step.name) or _RESHAPINGS.get(step.name) or _any_operation
    try:
        return reader(step, depends)
    except (IndexError, RuntimeError, TypeError, ValueError):
        return None  # the arguments of an operation that fails may be of any kind and shape


def _convolution(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    weight, operand, groups = (step.argument(name) for name in ("weight", "input", "groups"))
    if not isinstance(weight, Tensor) or not isinstance(operand, Tensor):
        return None
    transposed = step.name.startswith("aten::conv_transpose") or step.argument("transposed")
    per_group = weight.size(0 if transposed else 1)
    channels = per_group if transposed or not isinstance(groups, int) else per_group * groups
    return _channels(weight, operand, channels, axes=weight.dim())


def _channels(
    weight: Tensor, operand: Tensor, channels: int, *, axes: int | None = None
) -> _Reading:
    of_axes = "" if axes is None else f" of {axes}"
    figures: dict[str, JsonValue] = {"channels": channels, "axis": _CHANNEL_AXIS}
    if axes is not None:
        figures["axes"] = axes
    fits = operand.dim() > _CHANNEL_AXIS and axes in {None, operand.dim()}
    return _Reading(
        weight,
        operand,
        demands=f"takes {_count(channels, 'channel')} on axis {_CHANNEL_AXIS}{of_axes}, as "
        f"{_plain(weight.dtype)}",
        given=str(operand.size(_CHANNEL_AXIS)) if fits else _count(operand.dim(), "axis"),
        figures=figures,
        dtype=weight.dtype,
    )


def _features(weight: Tensor, operand: Tensor, features: int, axis: int = -1) -> _Reading:
    where = "its last axis" if axis == -1 else f"axis {axis}"
    return _Reading(
        weight,
        operand,
        demands=f"takes {_count(features, 'feature')} on {where}, as {_plain(weight.dtype)}",
        given=str(operand.size(axis)) if operand.dim() >= -axis else "none",
        figures={"features": features, "axis": axis},
        dtype=weight.dtype,
    )


def _linear(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    weight, operand = step.argument("weight"), step.argument("input")
    if not isinstance(weight, Tensor) or not isinstance(operand, Tensor):
        return None
    return _features(weight, operand, weight.size(-1))


def _product(step: Step, depends: Callable[[Tensor], bool]) -> _Reading | None:
    factors = step.tensors()[-2:]
    if len(factors) != 2 or depends(factors[0]) == depends(factors[1]):  # noqa: PLR2004 - a product
        return None
    left, right = factors
    if depends(left):
        return _features(right, left, right.size(-2 if right.dim() > 1 else -1))
    return _features(left, right, left.size(-1), -2)


def _recurrent(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    operand, weights = step.argument("input"), step.argument("params")
    if not isinstance(operand, Tensor) or not isinstance(weights, (list, tuple)) or not weights:
        return None
    return _features(weights[0], operand, weights[0].size(1))


def _embedding(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    weight, indices = step.argument("weight"), step.argument("indices")
    if not isinstance(weight, Tensor) or not isinstance(indices, Tensor) or not indices.numel():
        return None
    below = weight.size(0)
    least, largest = indices.min().item(), indices.max().item()
    outside = not indices.is_floating_point() and not 0 <= least <= largest < below
    return _Reading(
        weight,
        indices,
        demands=f"takes whole numbers from 0 to {below - 1} (tokens), as int64",
        given=f"values from {least} to {largest}",
        figures={"below": below},
        dtype=torch.int64,
        advice=(
            "Make the tokens with the vocabulary the model was trained with, in sequences no "
            "longer than it knows."
            if outside
            else None
        ),
    )


def _layer_norm(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    weight, operand = step.argument("weight"), step.argument("input")
    if not isinstance(weight, Tensor) or not isinstance(operand, Tensor) or weight.dim() != 1:
        return None
    return _features(weight, operand, weight.size(0))


def _channel_norm(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    operand, running = step.argument("input"), step.argument("running_mean")
    weight = running if isinstance(running, Tensor) else step.argument("weight")
    if not isinstance(weight, Tensor) or not isinstance(operand, Tensor):
        return None
    return _channels(weight, operand, weight.size(0))


def _reshape(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    operand, shape = step.argument("self"), step.argument("shape") or step.argument("size")
    if not isinstance(operand, Tensor) or not isinstance(shape, (list, tuple)):
        return None
    sizes: list[JsonValue] = [int(size) for size in shape[:_SIZES_SHOWN]]
    return _Reading(
        None,
        operand,
        demands=f"makes shape {sizes} of its input",
        given="",
        figures={"shape": sizes},
    )


def _permute(step: Step, _: Callable[[Tensor], bool]) -> _Reading | None:
    operand, dims = step.argument("self"), step.argument("dims")
    if not isinstance(operand, Tensor) or not isinstance(dims, (list, tuple)):
        return None
    return _Reading(
        None,
        operand,
        demands=f"takes {len(dims)} axes",
        given=_count(operand.dim(), "axis"),
        figures={"axes": len(dims)},
    )


def _any_operation(step: Step, depends: Callable[[Tensor], bool]) -> _Reading | None:
    """Read an operation of no known kind: the model's own tensor beside the input's."""
    tensors = step.tensors()
    given = next((t for t in tensors if depends(t)), None)
    own = next((t for t in tensors if not depends(t) and t.dim()), None)
    if given is None or own is None:
        return None
    return _Reading(
        None,
        given,
        demands=f"joins its input with the model's own {describe_batch((own,))}",
        given="",
        figures={"shape": list(own.shape[:_SIZES_SHOWN])},
        dtype=own.dtype if own.is_floating_point() else None,
    )


def _count(number: int, noun: str) -> str:
    plural = "axes" if noun == "axis" else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


_Reader = Callable[[Step, Callable[[Tensor], bool]], _Reading | None]

_RESHAPINGS: Mapping[str, _Reader] = {
    "aten::reshape": _reshape,
    "aten::view": _reshape,
    "aten::permute": _permute,
}

_LAYERS: Mapping[str, _Reader] = {
    "aten::conv1d": _convolution,
    "aten::conv2d": _convolution,
    "aten::conv3d": _convolution,
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::conv_transpose1d": _convolution,
    "aten::conv_transpose2d": _convolution,
    "aten::conv_transpose3d": _convolution,
    "aten::linear": _linear,
    "aten::addmm": _product,
    "aten::mm": _product,
    "aten::matmul": _product,
    "aten::bmm": _product,
    "aten::lstm": _recurrent,
    "aten::gru": _recurrent,
    "aten::rnn_tanh": _recurrent,
    "aten::rnn_relu": _recurrent,
    "aten::embedding": _embedding,
    "aten::embedding_bag": _embedding,
    "aten::layer_norm": _layer_norm,
    "aten::batch_norm": _channel_norm,
    "aten::group_norm": _channel_norm,
}
