"""Recording what a model really does, and tapping the input of one operation while it runs.

A dispatch mode sits below the TorchScript interpreter, so it sees the operations of scripted,
traced and frozen archives alike. Under inference mode composite operations such as `linear` arrive
whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from workers.extraction.operations import Step, tensors_in


def storage_key(tensor: Tensor) -> int:
    """Names the memory behind a tensor: equal for views of one another."""
    if tensor.layout is torch.strided:
        return tensor.untyped_storage().data_ptr()
    return id(tensor)


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook bare
    """Records every operation, which tensors depend on the input, and who wrote into which memory.

    The tape holds every tensor it saw, so identities and addresses stay unique as long as it lives.

    Args:
        inputs: What the model is given; dependence starts here.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.steps: list[Step] = []
        self._inputs = inputs
        self._held: list[Sequence[Tensor]] = []
        self._dependent = {storage_key(tensor) for tensor in inputs}
        self._producers: dict[int, list[int]] = {}
        self._writes: dict[int, list[tuple[int, int]]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is ever compiled. The default wraps every call in a guard against that, which
        # costs 20 µs an operation and imports the whole compiler at the first one.
        return False

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.record(func, args, kwargs, result)
        return result

    def record(
        self,
        func: OpOverload,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        result: object,
    ) -> None:
        """Notes one executed operation."""
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
        """Whether a tensor depends on the model's input."""
        return storage_key(tensor) in self._dependent

    def producer(self, tensor: Tensor, before: int) -> Step | None:
        """The last step before step `before` that returned this tensor."""
        indices = [i for i in self._producers.get(id(tensor), ()) if i < before]
        return self.steps[indices[-1]] if indices else None

    def overwritten(self, tensor: Tensor, after: int, before: int) -> Step | None:
        """A step strictly between two that wrote to the tensor's memory through another tensor."""
        for index, writer in self._writes.get(storage_key(tensor), ()):
            if after < index < before and writer != id(tensor):
                return self.steps[index]
        return None

    def changes_inputs(self) -> bool:
        """Whether a step wrote into the memory of an input."""
        return any(storage_key(tensor) in self._writes for tensor in self._inputs)

    def constants(self) -> list[Tensor]:
        """Tensors the model brought along: used, independent of the input, computed by no step."""
        used = [tensor for step in self.steps for tensor in step.tensors()]
        return [t for t in used if not self.depends(t) and id(t) not in self._producers]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a head is in a model's execution.

    Attributes:
        func: The operation.
        occurrence: Which of its executions it is, from 0.
        operand: Position of the argument that carries Φ.
    """

    func: OpOverload
    occurrence: int
    operand: int


class HeadTap(Tape):  # type: ignore[no-untyped-call]  # as above
    """Lets a model run untouched up to its head, then records the few operations that follow.

    What flows into and out of the head is copied at that moment: a model may overwrite it later.

    Args:
        site: Where the head is.
        limit: Elements that a copied tensor may have.
    """

    def __init__(self, site: Site, limit: int) -> None:
        super().__init__(())
        self.source: Tensor | None = None
        self.product: Tensor | None = None
        self.too_large = False
        self._site = site
        self._limit = limit
        self._countdown = site.occurrence

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if self.steps:
            return super().__torch_dispatch__(func, types, args, kwargs)
        if func is not self._site.func:
            return func(*args, **kwargs) if kwargs else func(*args)
        if self._countdown:
            self._countdown -= 1
            return func(*args, **(kwargs or {}))
        return self._tap(func, args, kwargs or {})

    def _tap(
        self, func: OpOverload, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        source = args[self._site.operand]
        if isinstance(source, Tensor):
            self.source = self._copy(source)
        result = func(*args, **kwargs)
        self.record(func, args, kwargs, result)
        if isinstance(result, Tensor):
            self.product = self._copy(result)
            self._dependent.add(storage_key(result))
        return result

    def _copy(self, tensor: Tensor) -> Tensor | None:
        # A tensor of stride 0 can claim any size without having it; a copy would have it.
        if tensor.layout is not torch.strided or tensor.numel() > self._limit:
            self.too_large = True
            return None
        return tensor.clone()
