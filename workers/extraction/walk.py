"""Walking a tape back from an output to the linear operation it comes from."""

from pydantic import JsonValue
from torch import Tensor

from workers.errors import JobError
from workers.extraction.heads import HEADS
from workers.extraction.operations import Step
from workers.extraction.path import Hop, Path
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.rules import RULES
from workers.extraction.rules.indexing import CHOOSING
from workers.extraction.tape import Tape

_JOINING = {
    f"aten::{name}"
    for name in ("add", "add_", "sub", "sub_", "rsub", "lerp", "cat", "concat", "stack", "hstack")
}


def walk_back(tape: Tape, output: Tensor) -> Path:
    """Follows the one input-dependent thread from an output back to a linear operation.

    Raises:
        JobError: `no_linear_head` or `multiple_heads`, with what stopped the walk.
    """
    hops: list[Hop] = []
    tensor, before = output, len(tape.steps)
    while True:
        step = tape.producer(tensor, before)
        if step is None:
            raise _no_producer(tape, tensor, hops)
        writer = tape.overwritten(tensor, step.index, before)
        if writer is not None:
            raise _stopped(tape, writer, hops, "it fills a part of the output in place")
        if step.name in HEADS:
            return Path(step, tuple(reversed(hops)))
        source = _source(tape, step, hops)
        position = next(k for k, result in enumerate(step.outputs) if result is tensor)
        hops.append(Hop(step, source, position))
        tensor, before = source, step.index


def _source(tape: Tape, step: Step, hops: list[Hop]) -> Tensor:
    """The one input of a step that depends on the model's input."""
    dependent = {id(t): t for t in step.tensors() if tape.depends(t)}
    if step.name in CHOOSING:
        # Positions may be picked by the input, as the last token of a text is.
        dependent = {key: t for key, t in dependent.items() if t is step.argument("self")}
    if len(dependent) > 1:
        if step.name in _JOINING and any(_leads_to_head(tape, t, step) for t in dependent.values()):
            raise _joined(step, len(dependent))
        reason = f"it combines {len(dependent)} tensors that depend on the input"
        raise _stopped(tape, step, hops, reason)
    if not dependent:
        raise _stopped(tape, step, hops, "it does not depend on the model's input")
    if step.name not in RULES:
        raise _stopped(tape, step, hops, "Φ cannot be followed through it")
    source = next(iter(dependent.values()))
    if any(step.argument(name) is not source for name in step.operation.writes):
        raise _stopped(tape, step, hops, "it writes into a buffer")
    return source


def _leads_to_head(tape: Tape, tensor: Tensor, consumer: Step) -> bool:
    """Whether a branch is a linear layer's result, followed up to the next place of joining."""
    before = consumer.index
    while (step := tape.producer(tensor, before)) is not None:
        if step.name in HEADS:
            return True
        dependent = {id(t): t for t in step.tensors() if tape.depends(t)}
        if len(dependent) != 1 or step.name not in RULES:
            return False
        tensor, before = next(iter(dependent.values())), step.index
    return False


def _joined(step: Step, count: int) -> JobError:
    return refuse(
        Refusal.MULTIPLE_HEADS,
        f"The output is {step.name} (operation {step.index + 1}) of {count} tensors that depend on "
        "the input, not the output of one linear layer: a sum or concatenation of heads, or a "
        "residual connection around the last layer.",
        operation=step.name,
    )


def _no_producer(tape: Tape, tensor: Tensor, hops: list[Hop]) -> JobError:
    what = "the model's input" if tape.depends(tensor) else "a parameter or constant"
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"Walking back from the output, the search reached {what} of shape {list(tensor.shape)} "
        f"without meeting a linear layer.{_seen(hops)}",
        path=_names(hops),
        operations=len(tape.steps),
    )


def _stopped(tape: Tape, step: Step, hops: list[Hop], reason: str) -> JobError:
    shapes = ", ".join(str(list(output.shape)) for output in step.outputs[:4])
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"Walking back from the output, the search stopped at {step.name} (operation "
        f"{step.index + 1} of {len(tape.steps)}, result {shapes}) before it met a linear layer: "
        f"{reason}.{_seen(hops)}",
        stopped_at=step.name,
        path=_names(hops),
        operations=len(tape.steps),
    )


def _names(hops: list[Hop]) -> list[JsonValue]:
    return [hop.step.name for hop in hops]


def _seen(hops: list[Hop]) -> str:
    return f" Seen on the way: {' ← '.join(hop.step.name for hop in hops)}." if hops else ""
