"""Walking a tape back from an output to the linear operations it comes from."""

from collections.abc import Callable, Sequence
from typing import cast

from pydantic import JsonValue
from torch import Tensor

from workers.extraction.head.kinds import HEADS
from workers.extraction.head.rules import JOINING, RULES
from workers.extraction.head.rules.indexing import CHOOSING
from workers.extraction.head.rules.joining import not_one_layer
from workers.extraction.head.rules.path import Hop, Join, Path
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape
from workers.protocol.errors import JobError

_COMBINING = JOINING.keys() | {"aten::lerp", "aten::dstack"}

_MOST_HOPS = 20_000
"""Operations walked for one output. Branches that share their beginnings are walked anew for each
of them, so a small model could ask for any number."""

_DEEPEST = 40
"""Joins within joins. Networks have as many where each layer adds to the one before."""


def walk_back(
    tape: Tape,
    output: Tensor,
    *,
    before: int | None = None,
    ends: Callable[[Step], bool] = lambda _: True,
) -> Path:
    """Follow what depends on the input from an output back to linear operations.

    Args:
        tape: A recorded run.
        output: Where to begin.
        before: Take `output` for what it was before this step; `None` for what it became.
        ends: Which linear operations end the walk; it goes on through the others.

    Raises:
        JobError: `no_linear_head` or `multiple_heads`, with what stopped the walk.
    """
    last = len(tape.steps) if before is None else before
    return _Walk(tape, ends).follow(output, last, 0)


class _Walk:
    """One walk, which may branch."""

    def __init__(self, tape: Tape, ends: Callable[[Step], bool]) -> None:
        self._tape = tape
        self._ends = ends
        self._left = _MOST_HOPS

    def follow(self, tensor: Tensor, before: int, depth: int) -> Path:
        """Follow one branch."""
        tape, hops = self._tape, list[Hop]()
        while True:
            self._left -= 1
            step = tape.producer(tensor, before)
            if step is None:
                raise _no_producer(tape, tensor, hops)
            writer = tape.overwritten(tensor, step.index, before)
            if writer is not None:
                raise _stopped(tape, writer, hops, "it fills a part of the output in place")
            if step.name in HEADS and self._ends(step):
                return Path(step, tuple(reversed(hops)))
            sources = _dependent(tape, step)
            if _joins(step, sources):
                return Path(self._join(step, sources, hops, depth), tuple(reversed(hops)))
            source = _source(tape, step, sources, hops)
            position = next(k for k, result in enumerate(step.outputs) if result is tensor)
            hops.append(Hop(step, source, position))
            tensor, before = source, step.index

    def _join(self, step: Step, sources: list[Tensor], hops: list[Hop], depth: int) -> Join:
        branches: list[Path] = []
        # A concatenation may take the same tensor twice.
        parts = list(cast("Sequence[Tensor]", step.argument("tensors") or sources))
        try:
            for source in parts:
                if depth == _DEEPEST or self._left <= 0:
                    raise not_one_layer(step, len(sources), "there are too many to follow")
                branches.append(self.follow(source, step.index, depth + 1))
        except JobError as error:
            if any(_leads_to_head(self._tape, source, step) for source in sources):
                raise not_one_layer(step, len(sources)) from error
            reason = f"it combines {len(sources)} tensors that depend on the input"
            raise _stopped(self._tape, step, hops, reason) from error
        return Join(step, tuple(parts), tuple(branches))


def _dependent(tape: Tape, step: Step) -> list[Tensor]:
    """Return the inputs of a step that depend on the model's input, each once."""
    dependent = {id(t): t for t in step.tensors() if tape.depends(t)}
    if step.name in CHOOSING:
        # Positions may be picked by the input, as the last token of a text is.
        dependent = {key: t for key, t in dependent.items() if t is step.argument("self")}
    return list(dependent.values())


def _joins(step: Step, sources: list[Tensor]) -> bool:
    """Return whether a step makes one tensor of nothing but several that depend on the input."""
    if step.name not in JOINING:
        return False
    parts = step.argument("tensors")
    if parts is None:
        return len(sources) > 1
    return {id(part) for part in cast("Sequence[Tensor]", parts)} == {id(t) for t in sources}


def _source(tape: Tape, step: Step, sources: list[Tensor], hops: list[Hop]) -> Tensor:
    """Return the one input of a step that depends on the model's input."""
    if len(sources) > 1:
        if step.name in _COMBINING and any(_leads_to_head(tape, t, step) for t in sources):
            raise not_one_layer(step, len(sources))
        reason = f"it combines {len(sources)} tensors that depend on the input"
        raise _stopped(tape, step, hops, reason)
    if not sources:
        raise _stopped(tape, step, hops, "it does not depend on the model's input")
    if step.name not in RULES and step.name not in HEADS:
        raise _stopped(tape, step, hops, "Φ cannot be followed through it")
    (source,) = sources
    if any(step.argument(name) is not source for name in step.operation.writes):
        raise _stopped(tape, step, hops, "it writes into a buffer")
    return source


def _leads_to_head(tape: Tape, tensor: Tensor, consumer: Step) -> bool:
    """Return whether a branch is a linear layer's result, followed up to where it is joined."""
    before = consumer.index
    while (step := tape.producer(tensor, before)) is not None:
        if step.name in HEADS:
            return True
        sources = _dependent(tape, step)
        if len(sources) != 1 or step.name not in RULES:
            return False
        tensor, before = sources[0], step.index
    return False


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
