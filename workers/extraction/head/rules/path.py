"""The way from the last linear layers to an output, one operation at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from workers.extraction.trace.operations import Step


@dataclass(frozen=True, slots=True)
class Hop:
    """One operation between the head and the output.

    Attributes:
        step: What ran.
        source: Its one input that comes from the head.
        output: Which of the step's outputs goes on.
    """

    step: Step
    source: Tensor
    output: int

    @property
    def result(self) -> Tensor:
        """The tensor that goes on."""
        return self.step.outputs[self.output]

    def replay(self, value: Tensor) -> Tensor:
        """What the operation makes of another value; changes nothing recorded."""
        return self.step.replay({id(self.source): value})[self.output]


@dataclass(frozen=True, slots=True)
class Join:
    """One operation that makes one tensor of several: a sum, a concatenation, a stack.

    Attributes:
        step: What ran.
        sources: Its inputs that come from heads, in order.
        branches: The ways to them.
    """

    step: Step
    sources: tuple[Tensor, ...]
    branches: tuple["Path", ...]

    @property
    def result(self) -> Tensor:
        """The tensor that goes on."""
        return self.step.outputs[0]

    @property
    def name(self) -> str:
        """The operation with its branches, those that are alike once, however many they are."""
        ways = dict.fromkeys(" → ".join(branch.names) for branch in self.branches)
        return f"{self.step.name}({' | '.join(ways)})"

    def replay(self, values: list[Tensor]) -> Tensor:
        """What the operation makes of other values."""
        given = zip(self.sources, values, strict=True)
        return self.step.replay({id(source): value for source, value in given})[0]


@dataclass(frozen=True, slots=True)
class Path:
    """A head, or where several are joined, and the operations from there on, in order."""

    origin: Step | Join
    hops: tuple[Hop, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the operations, the head first."""
        return (self.origin.name, *(hop.step.name for hop in self.hops))

    @property
    def heads(self) -> tuple[Step, ...]:
        """The linear operations it begins with, in order."""
        if isinstance(self.origin, Step):
            return (self.origin,)
        return tuple(head for branch in self.origin.branches for head in branch.heads)

    def steps(self) -> Iterator[Step]:
        """All operations on the way, heads and joins included."""
        if isinstance(self.origin, Join):
            for branch in self.origin.branches:
                yield from branch.steps()
            yield self.origin.step
        else:
            yield self.origin
        yield from (hop.step for hop in self.hops)


def replay(hops: Sequence[Hop], tensor: Tensor) -> Tensor:
    """Do to `tensor` what the hops did to the source of the first; change nothing recorded."""
    for hop in hops:
        tensor = hop.replay(tensor)
    return tensor
