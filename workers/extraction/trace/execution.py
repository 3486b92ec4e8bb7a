"""Running a model one did not write: reproducible, on copies, its errors told to its owner."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.jit import (  # type: ignore[attr-defined]  # public, missing in its __all__
    optimized_execution,
)
from torch.utils._python_dispatch import TorchDispatchMode

from service.contract.failures import FailureCode
from workers.extraction.refusals import Refusal, gist, inherent, printable, refuse
from workers.protocol.errors import JobError, is_out_of_memory

Batch = tuple[Tensor, ...]
"""What the model is called with; the first axis of each tensor runs over the samples."""

_DEVICES = ("cpu", "cuda")
_OUTPUTS_READ = 64
_DEPTH_READ = 4


@dataclass(frozen=True, slots=True)
class Output:
    """A float tensor among a model's results.

    Attributes:
        label: Where it is in a tuple, list or dictionary, such as `0` or `head.logits`; empty for
            the only result.
        position: Position in the outermost tuple, list or dictionary, from 0.
        tensor: The tensor.
    """

    label: str
    position: int
    tensor: Tensor


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook bare
    """A dispatch mode that sees every operation of a model, and keeps what it raises.

    Attributes:
        error: What an operation raised; once the error has left the mode, its text is lost.
    """

    error: Exception | None = None

    def forget(self) -> None:
        """Drop what was seen of a batch that the model could not run, before it is run again."""
        self.error = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is ever compiled. The default wraps every call in a guard against that, which
        # costs 20 µs an operation and imports the whole compiler at the first one.
        return False


def execute(model: nn.Module, batch: Batch, *watches: Watch) -> list[Output]:
    """Run a model once.

    Args:
        model: The model, in evaluation mode.
        batch: Its inputs; it may change them, so give it copies.
        *watches: See every operation, the last one first.

    Returns:
        Its float outputs.

    Raises:
        JobError: `input_mismatch` if the model raises an error, `out_of_memory` if there is too
            little memory, `unsupported_model` (`bad_output`) if it returns no usable float tensor.
    """
    # The executor would rewrite the graph after some runs. Unoptimised, every run performs the
    # same operations: those in the archive. Without a fusing compiler this costs no time.
    with optimized_execution(False), ExitStack() as watching:
        for watch in watches:
            watching.enter_context(watch)
        try:
            result = model(*batch)
        except Exception as raised:  # a model may raise anything
            error = next((w.error for w in watches if w.error is not None), raised)
            if is_out_of_memory(error):
                raise _out_of_memory(batch) from raised
            said = gist(error)
            reason = inherent(said)
            if reason is not None:
                raise refuse(reason, f"The model cannot run: {said}") from raised
            raise _cannot_take(batch, said) from raised
    return _float_outputs(result)


def beside(batch: Batch) -> AbstractContextManager[object]:
    """Let tensors that are made within lie where the batch does."""
    device = batch[0].device
    # On the CPU they do so anyway, and the mode that sees to it costs time.
    return nullcontext() if device.type == "cpu" else device


def copied(batch: Batch) -> Batch:
    """Return copies that a model may change in place."""
    return tuple(tensor.clone() for tensor in batch)


def resized(batch: Batch, rows: int) -> Batch:
    """Return the first `rows` samples, begun again from the first one where there are fewer."""
    if rows <= len(batch[0]):
        return tuple(tensor[:rows] for tensor in batch)
    index = torch.arange(rows) % len(batch[0])
    return tuple(tensor[index] for tensor in batch)


def _out_of_memory(batch: Batch) -> JobError:
    return JobError(
        FailureCode.OUT_OF_MEMORY,
        f"The model ran out of memory on a batch of {describe_batch(batch)}.",
        hint="Use a smaller batch size, or a worker with more memory.",
    )


def _cannot_take(batch: Batch, said: str) -> JobError:
    return JobError(
        FailureCode.INPUT_MISMATCH,
        f"The model could not run on a batch of {describe_batch(batch)}: {said}",
        hint=(
            "Compare the shape and dtype with what the model was trained on. Often the channel "
            "axis is elsewhere (transform.layout, such as NHWC->NCHW), the images are not "
            "flattened as they were, or integers were not converted (transform.dtype and "
            "transform.scale)."
        ),
        detail={
            "inputs": [{"shape": list(t.shape), "dtype": dtype_name(t)} for t in batch],
            "model_error": said,
        },
    )


def describe_batch(batch: Batch) -> str:
    """Return shapes and dtypes in words."""
    return ", ".join(f"shape {list(t.shape)} ({dtype_name(t)})" for t in batch)


def dtype_name(tensor: Tensor) -> str:
    """Return the dtype as API and numpy spell it."""
    return str(tensor.dtype).removeprefix("torch.")


def _float_outputs(result: object) -> list[Output]:
    outputs = list(_collect(result, "", 0))
    if not outputs:
        raise refuse(
            Refusal.BAD_OUTPUT,
            f"The model returned {_describe_result(result)}; expected a float tensor with one row "
            "per sample.",
        )
    return outputs


def _collect(result: object, label: str, depth: int) -> Iterator[Output]:
    if isinstance(result, Tensor):
        plain = result.layout is torch.strided and result.device.type in _DEVICES
        if plain and result.is_floating_point() and result.numel():
            yield Output(label, 0, result)
    elif isinstance(result, (Mapping, Sequence)) and not isinstance(result, str):
        if depth == _DEPTH_READ or len(result) > _OUTPUTS_READ:
            raise refuse(
                Refusal.BAD_OUTPUT,
                f"The model returned a collection of {len(result)} items, {depth + 1} levels deep; "
                f"at most {_OUTPUTS_READ} items and {_DEPTH_READ} levels are read.",
            )
        items = result.items() if isinstance(result, Mapping) else _named(result)
        for position, (key, value) in enumerate(items):
            inner = printable(str(key), 40)
            for output in _collect(value, f"{label}.{inner}" if label else inner, depth + 1):
                yield replace(output, position=position)


def _named(result: Sequence[object]) -> Iterable[tuple[object, object]]:
    """Return items by number, or by field name if it has names for them."""
    names = getattr(result, "_fields", range(len(result)))
    return zip(names, result, strict=True)


def _describe_result(result: object) -> str:
    if isinstance(result, Tensor):
        sparse = "" if result.layout is torch.strided else "sparse "
        return f"a {sparse}tensor of dtype {dtype_name(result)} and shape {list(result.shape)}"
    if result is None:
        return "nothing"
    if isinstance(result, (Mapping, Sequence)) and not isinstance(result, str):
        return f"a {type(result).__name__} without float tensors"
    return "a text" if isinstance(result, str) else "a number, or another object that is no tensor"
