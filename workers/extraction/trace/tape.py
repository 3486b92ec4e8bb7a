"""Recording what a model really does.

A dispatch mode sits below the TorchScript interpreter, so it sees the operations of scripted,
traced and frozen archives alike. Under inference mode composite operations such as `linear` arrive
whole.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch._ops import OpOverload

from workers.extraction.trace.execution import Watch
from workers.extraction.trace.operations import Step, tensors_in


def storage_key(tensor: Tensor) -> int:
    """Name the memory behind a tensor: equal for views of one another."""
    address = tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0
    return address or id(tensor)  # tensors without elements all have address 0


class Tape(Watch):  # type: ignore[no-untyped-call]  # torch leaves its hook bare
    """Records every operation, which tensors depend on the input, and who wrote into which memory.

    The tape holds every tensor it saw, so identities and addresses stay unique as long as it lives.

    Args:
        inputs: What the model is given; dependence starts here.

    Attributes:
        steps: What ran, in order.
        failed: The last operation that raised an error, with its arguments.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.steps: list[Step] = []
        self.failed: Step | None = None
        self._inputs = inputs
        self._held: list[Sequence[Tensor]] = []
        self._dependent = {storage_key(tensor) for tensor in inputs}
        self._producers: dict[int, list[int]] = {}
        self._writes: dict[int, list[tuple[int, int]]] = {}

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            self.failed, self.error = Step(len(self.steps), func, args, kwargs, ()), error
            raise
        self.record(func, args, kwargs, result)
        return result

    def record(
        self,
        func: OpOverload,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        result: object,
    ) -> None:
        """Note one executed operation."""
        outputs = tuple(tensors_in((result,)))
        step = Step(len(self.steps), func, args, kwargs, outputs)
        tensors = step.tensors()
        self.steps.append(step)
        self._held += (tensors, outputs)
        dependent = any(self.depends(tensor) for tensor in tensors)
        for output in outputs:
            self._producers.setdefault(id(output), []).append(step.index)
            if dependent:
                self._dependent.add(storage_key(output))
        for written in tensors_in(tuple(step.argument(name) for name in step.operation.writes)):
            key = storage_key(written)
            self._writes.setdefault(key, []).append((step.index, id(written)))
            if dependent:
                self._dependent.add(key)

    def depends(self, tensor: Tensor) -> bool:
        """Return whether a tensor depends on the model's input."""
        return storage_key(tensor) in self._dependent

    def producer(self, tensor: Tensor, before: int) -> Step | None:
        """Return the last step before step `before` that returned this tensor."""
        indices = [i for i in self._producers.get(id(tensor), ()) if i < before]
        return self.steps[indices[-1]] if indices else None

    def overwritten(self, tensor: Tensor, after: int, before: int) -> Step | None:
        """Return a step strictly between two that wrote to a tensor's memory by another one."""
        for index, writer in self._writes.get(storage_key(tensor), ()):
            if after < index < before and writer != id(tensor):
                return self.steps[index]
        return None

    def ancestors(self, values: Iterable[tuple[Tensor, int]]) -> set[int]:
        """Return identities of the tensors that some input-dependent values were computed from.

        Args:
            values: Tensors, which are among the result, each as it was before the given step.
        """
        waiting, seen = list(values), set[tuple[int, int]]()
        while waiting:
            tensor, limit = waiting.pop()
            step = self.producer(tensor, limit) if self.depends(tensor) else None
            place = (id(tensor), -1 if step is None else step.index)
            if place in seen:
                continue
            seen.add(place)
            if step is not None:
                waiting += [(source, step.index) for source in step.tensors()]
        return {key for key, _ in seen}

    def changes_inputs(self) -> bool:
        """Return whether a step wrote into the memory of an input."""
        return any(storage_key(tensor) in self._writes for tensor in self._inputs)

    def result_bytes(self) -> int:
        """Return the bytes of all results that depend on the input, views of others included."""
        return sum(
            output.numel() * output.element_size()
            for step in self.steps
            for output in step.outputs
            if self.depends(output)
        )

    def roots(self, tensor: Tensor) -> list[Tensor]:
        """Return the model's own tensors that an input-independent tensor was computed from."""
        found, waiting, seen = [], [tensor], {id(tensor)}
        while waiting:
            current = waiting.pop()
            step = self.producer(current, len(self.steps))
            if step is None:
                found.append(current)
                continue
            fresh = [t for t in step.tensors() if id(t) not in seen]
            seen |= {id(t) for t in fresh}
            waiting += fresh
        return found

    def constants(self) -> list[Tensor]:
        """Return the model's own tensors: used, independent of the input, computed by no step."""
        used = [tensor for step in self.steps for tensor in step.tensors()]
        return [t for t in used if not self.depends(t) and id(t) not in self._producers]
