"""Which results of a model were computed from which, as the recorded run shows."""

from torch import Tensor

from workers.extraction.head.kinds import HEADS
from workers.extraction.head.rules.positions import HARMLESS
from workers.extraction.head.structure import Structure
from workers.extraction.trace.tape import Tape, storage_key


def computed_from(tape: Tape, structure: Structure) -> set[int]:
    """Return identities of all that went into the heads of a structure."""
    return tape.ancestors(
        (factor, head.index)
        for head in structure.heads
        for factor in HEADS[head.name].factors(head)
    )


def lies_among(tape: Tape, tensor: Tensor, before: set[int]) -> bool:
    """Return whether a tensor, or what it is a mere copy or view of, is among some others."""
    limit = len(tape.steps)
    while id(tensor) not in before:
        step = tape.producer(tensor, limit)
        if step is None or step.name not in HARMLESS:
            return False
        sources = [source for source in step.tensors() if tape.depends(source)]
        if len(sources) != 1:
            return False
        tensor, limit = sources[0], step.index
    return True


def goes_on(tape: Tape, structure: Structure, result: Tensor) -> bool:
    """Return whether a further layer computed a result from what a structure's heads gave."""
    last = max(structure.heads, key=lambda head: head.index)
    after, beyond = {id(last.outputs[0])}, set[int]()
    for step in tape.steps[last.index + 1 :]:
        taken = {id(tensor) for tensor in step.tensors()}
        is_layer = step.name in HEADS or step.name.startswith("aten::conv")
        if taken & beyond or (is_layer and taken & after):
            beyond |= {id(output) for output in step.outputs}
        elif taken & after:
            after |= {id(output) for output in step.outputs}
    return id(result) in beyond


def adds_no_layer(tape: Tape, result: Tensor, structure: Structure) -> bool:
    """Return whether a result took no other weights than those on the way to some outputs.

    Normalised features are, and a confidence or a loss of each sample; scores of another kind are
    not, such as similarities to prototypes.
    """
    reached = computed_from(tape, structure) | {id(head.outputs[0]) for head in structure.heads}
    weights = {
        storage_key(tensor)
        for step in tape.steps
        if any(id(output) in reached for output in step.outputs)
        for tensor in step.tensors()
        if not tape.depends(tensor)
    }
    waiting, seen = [(result, len(tape.steps))], set[int]()
    while waiting and tape.depends(result):
        tensor, limit = waiting.pop()
        if id(tensor) in reached | seen:
            continue
        seen.add(id(tensor))
        step = tape.producer(tensor, limit)
        if step is not None and not any(id(output) in reached for output in step.outputs):
            waiting += [(source, step.index) for source in step.tensors()]
        is_weight = step is None and tensor.numel() > 1 and not tape.depends(tensor)
        if is_weight and storage_key(tensor) not in weights:
            return False
    return True
