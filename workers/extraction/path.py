"""The way from the head to an output, one operation at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from workers.extraction.operations import Step


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


@dataclass(frozen=True, slots=True)
class Path:
    """The head and the operations from it to the output, in order of execution."""

    head: Step
    hops: tuple[Hop, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the operations, the head first."""
        return (self.head.name, *(hop.step.name for hop in self.hops))


def replay(hops: Sequence[Hop], tensor: Tensor) -> Tensor:
    """Does to `tensor` what the hops did to the source of the first; changes nothing recorded."""
    for hop in hops:
        tensor = hop.step.replay(hop.source, tensor)[hop.output]
    return tensor
