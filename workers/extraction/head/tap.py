"""Tapping what flows through heads while a model runs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._ops import OpOverload

from workers.extraction.head.kinds import HEADS
from workers.extraction.trace.operations import Step, describe
from workers.extraction.trace.tape import Tape, storage_key
from workers.protocol.errors import JobError


@dataclass(frozen=True, slots=True)
class Site:
    """How a head is recognised while a model runs.

    Attributes:
        func: The operation.
        operand: Which of its factors carries Φ.
        weight: Names the memory of its weight; `None` if that is made anew in each run, as
            normalised and packed weights are.
        occurrence: Which execution of `func` it was, from 0; decides where `weight` is `None`.
    """

    func: OpOverload
    operand: int
    weight: int | None
    occurrence: int


@dataclass(frozen=True, slots=True)
class Tapped:
    """Copies of what flowed through a head at one execution.

    Attributes:
        operand: Which of the factors carries Φ.
        source: Φ as the operation got it.
        product: z as it gave it.
    """

    operand: int
    source: Tensor
    product: Tensor


class HeadTap(Tape):  # type: ignore[no-untyped-call]  # as above
    """Lets a model run untouched but for its heads, and records what becomes of what they give.

    What flows into and out of a head is copied at that moment: a model may overwrite it later.

    Args:
        sites: Where the heads are.
        limit: Elements that the copied tensors may have together.

    Attributes:
        tapped: By step, what flowed through each execution of the head.
        too_large: A tensor was not copied, for it is larger than the limit or not dense.
    """

    def __init__(self, sites: Iterable[Site], limit: int) -> None:
        super().__init__(())
        self.tapped: dict[int, Tapped] = {}
        self.too_large = False
        self._sites: dict[OpOverload, dict[tuple[int | None, int | None], Site]] = {}
        for site in sites:
            place = None if site.weight is not None else site.occurrence
            self._sites.setdefault(site.func, {})[site.weight, place] = site
        self._budget = limit
        self._executions: Counter[OpOverload] = Counter()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        try:
            if func in self._sites:
                operand = self._operand_of_head(func, args, given)
                if operand is not None:
                    return self._tap(func, args, given, operand)
            if self.steps and any(map(self.depends, Step(0, func, args, given, ()).tensors())):
                return super().__torch_dispatch__(func, types, args, kwargs)
            return func(*args, **given)
        except Exception as error:
            self.error = error
            raise

    def _operand_of_head(
        self, func: OpOverload, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> int | None:
        """Return which factor of an operation carries Φ, if it is one of the heads."""
        execution = self._executions[func]
        self._executions[func] += 1
        factors = self._factors(func, args, kwargs)
        for site in self._sites[func].values() if factors else ():
            if site.weight is None:
                found = site.occurrence == execution
            else:
                found = storage_key(factors[1 - site.operand]) == site.weight
            if found:
                return site.operand
        return None

    @staticmethod
    def _factors(
        func: OpOverload, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[Tensor, ...]:
        try:
            return HEADS[describe(func).name].factors(Step(0, func, args, kwargs, ()))
        except JobError:  # an einsum of three tensors, say, which is no head
            return ()

    def _tap(
        self,
        func: OpOverload,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        operand: int,
    ) -> object:
        kept = self._copy(self._factors(func, args, kwargs)[operand])
        result = func(*args, **kwargs)
        self.record(func, args, kwargs, result)
        if isinstance(result, Tensor):
            self._dependent.add(storage_key(result))
            product = self._copy(result)
            if kept is not None and product is not None:
                self.tapped[len(self.steps) - 1] = Tapped(operand, kept, product)
        return result

    def _copy(self, tensor: Tensor) -> Tensor | None:
        # A tensor of stride 0 can claim any size without having it; a copy would have it.
        self._budget -= tensor.numel()
        if tensor.layout is not torch.strided or self._budget < 0:
            self.too_large = True
            return None
        return tensor.clone()
