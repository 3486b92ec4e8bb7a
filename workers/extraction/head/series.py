"""Layers in series before a join: a branch such as Φ Aᵀ Bᵀ begins at Φ, where its sibling does.

An adapter adds to the layer on Φ a product of two thin ones. Each branch by itself ends at its last
layer; what they share is found by going on from there through layers with no nonlinearity between.
"""

from collections.abc import Sequence

from torch import Tensor

from workers.extraction.head.kinds import HEADS, find_operand
from workers.extraction.head.rules import AFFINE
from workers.extraction.head.rules.positions import KEEPING
from workers.extraction.head.walk import walk_back
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape
from workers.protocol.errors import JobError

_LAYERS_BACK = 3
_MOST_HEADS = 64


def shared_beginnings(tape: Tape, heads: Sequence[Step]) -> set[int]:
    """Replace heads by layers before them where those see what another head sees.

    Args:
        tape: A recorded run.
        heads: The last layer of each branch.

    Returns:
        The layers, by their position in the tape, at which the branches are to begin.
    """
    if len(heads) > _MOST_HEADS:
        return {head.index for head in heads}
    seen = {head.index: _source(tape, head) for head in heads}
    found: set[int] = set()
    for head in heads:
        others = {key for index, key in seen.items() if index != head.index}
        found.add(_earlier(tape, head, others).index)
    return found


def _earlier(tape: Tape, head: Step, others: set[int | None]) -> Step:
    """Return the layer that a branch begins with, so that its input is one of the others'."""
    step = head
    for _ in range(_LAYERS_BACK):
        if _source(tape, step) in others:
            return step
        try:
            path = walk_back(tape, _operand(tape, step), before=step.index)
        except JobError:
            return head
        if not isinstance(path.origin, Step) or not set(path.names[1:]) <= KEEPING | AFFINE.keys():
            return head
        step = path.origin
    return step if _source(tape, step) in others else head


def _operand(tape: Tape, step: Step) -> Tensor:
    return HEADS[step.name].factors(step)[find_operand(step, tape.depends)]


def _source(tape: Tape, step: Step) -> int | None:
    """Name what a layer sees, copies and dropout left out; `None` if it is no plain layer."""
    try:
        tensor = _operand(tape, step)
    except JobError:
        return None
    before = step.index
    while (made := tape.producer(tensor, before)) is not None and made.name in KEEPING:
        sources = [source for source in made.tensors() if tape.depends(source)]
        if len(sources) != 1:
            break
        tensor, before = sources[0], made.index
    return id(tensor)
