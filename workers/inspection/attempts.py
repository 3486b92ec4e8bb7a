"""Trying an example input on a model, and seeing what stopped it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from workers.extraction.trace.execution import Batch
from workers.extraction.trace.operations import Step, tensors_in
from workers.extraction.trace.tape import Tape, storage_key
from workers.inspection.clues import WEIGHTED, Failing, read_expectation
from workers.inspection.forms import Form

# Operations that fail where their kernel is larger than what it slides over.
_SHRINKING = ("pool", "unfold", "pad")


@dataclass(frozen=True, slots=True)
class Clue:
    """What a failed run tells about the input.

    Attributes:
        inputs: Positions of the model's inputs that are at fault; empty if that does not show.
        growth: 1 if they are too small, -1 if they are too large, 0 if that does not show.
        forms: What they could look like instead, most likely first.
        is_hopeless: No other size would help.
    """

    inputs: frozenset[int] = frozenset()
    growth: int = 0
    forms: tuple[Form, ...] = ()
    is_hopeless: bool = False


class Attempt(Tape):  # type: ignore[no-untyped-call]  # torch leaves its hook bare
    """Records a run that may fail.

    Args:
        inputs: What the model is given.
    """

    def __init__(self, inputs: Batch) -> None:
        super().__init__(inputs)
        self._shapes = [tensor.shape for tensor in inputs]
        self._origins = {storage_key(t): frozenset({i}) for i, t in enumerate(inputs)}
        self._weighed: set[int] = set()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self._trace(self.steps[-1])
        return result

    def _trace(self, step: Step) -> None:
        """Note which inputs the results of a step come from, and whether through a weight."""
        origins, is_weighed = self._ancestry(step)
        if not origins:
            return
        written = tensors_in(tuple(step.argument(name) for name in step.operation.writes))
        for key in {storage_key(tensor) for tensor in (*step.outputs, *written)}:
            self._origins[key] = self._origins.get(key, frozenset()) | origins
            if is_weighed or step.name in WEIGHTED:
                self._weighed.add(key)

    def _ancestry(self, step: Step) -> tuple[frozenset[int], bool]:
        keys = [storage_key(tensor) for tensor in step.tensors()]
        nothing: frozenset[int] = frozenset()
        origins = nothing.union(*(self._origins.get(key, nothing) for key in keys))
        return origins, any(key in self._weighed for key in keys)

    def clue(self) -> Clue:
        """Return what the failed operation tells; nothing if the model itself raised the error."""
        step = self.failed
        if step is None:
            return Clue()
        inputs, is_weighed = self._ancestry(step)
        dependent = [tensor for tensor in step.tensors() if self.depends(tensor)]
        if not dependent:
            # It looks up more positions than its table has, say.
            return Clue(frozenset(range(len(self._shapes))), growth=-1)
        expected = None
        if len(dependent) == 1:
            constants = [tensor for tensor in step.tensors() if not self.depends(tensor)]
            constants += _packed(step)
            given = self._shapes[min(inputs)]
            expected = read_expectation(Failing(step, dependent[0], constants, given))
        if expected is None:
            growth = int(any(word in step.name for word in _SHRINKING))
            return Clue(inputs, growth, is_hopeless=not (is_weighed or growth))
        if expected.wanted == expected.got:
            # As many channels as it wants: then there are too few positions for its kernel.
            return Clue(inputs, growth=1)
        growth = 1 if expected.wanted > expected.got else -1
        # Behind a weight, sizes are the model's: only how large the input is can be at fault.
        return Clue(inputs, growth, () if is_weighed else tuple(expected.forms))


def _packed(step: Step) -> list[Tensor]:
    """Return the weights in the packed arguments of a quantized operation."""
    packed: list[Any] = [a for a in step.args if isinstance(a, torch.ScriptObject)]
    return [argument.unpack()[0] for argument in packed if step.name.startswith("quantized::")]
