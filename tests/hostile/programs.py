"""Models that pass every check of their archive, and misbehave once they are loaded or run."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.contract.failures import FailureCode


@dataclass(frozen=True)
class Program:
    """A model and what is to become of its analysis.

    Attributes:
        make: Makes the model.
        codes: Of the failure, any of them; none if it is to succeed.
    """

    make: Callable[[], nn.Module]
    codes: tuple[FailureCode, ...] = ()


class Base(nn.Module):
    """An honest network for handwritten digits, for others to spoil."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def answer(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(x.flatten(1))))

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x)


class Loaded(Base):
    """Does something as soon as it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return self.number, self.training


class EndlessLoad(Loaded):
    """Never gets loaded."""

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.number = state[0]
        self.training = state[1]
        while self.number >= 0:
            self.number = (self.number + 1) % 7


class GreedyLoad(Loaded):
    """Wants four terabytes when loaded."""

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.number = int(torch.zeros([1 << 40])[0])
        self.training = state[1]


class EndlessForward(Base):
    def forward(self, x: Tensor) -> Tensor:
        steps = 0
        while steps >= 0:
            steps = (steps + 1) % 5
        return self.answer(x) + steps


class EndlessRange(Base):
    def forward(self, x: Tensor) -> Tensor:
        steps = 0
        for _ in range(1 << 62):
            steps = (steps + 1) % 5
        return self.answer(x) + steps


def spin(x: Tensor) -> Tensor:
    """Never end."""
    steps = 0
    while steps >= 0:
        steps = (steps + 1) % 5
    return x + steps


class EndlessInParallel(Base):
    def forward(self, x: Tensor) -> Tensor:
        waiting = [torch.jit.fork(spin, x) for _ in range(4)]
        for each in waiting:
            x = x + torch.jit.wait(each)
        return self.answer(x)


class Greedy(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) + torch.zeros([1 << 40]).sum()


class GreedyByPieces(Base):
    def forward(self, x: Tensor) -> Tensor:
        kept = [torch.ones([1 << 22])]
        for _ in range(4000):
            kept.append(torch.ones([1 << 22]))  # noqa: PERF401 - TorchScript has no better
        return self.answer(x) + float(len(kept))


class Doubling(Base):
    def forward(self, x: Tensor) -> Tensor:
        text = "x"
        for _ in range(60):
            text = text + text
        return self.answer(x) + float(len(text))


class EndlessColumns(Base):
    """Outputs of 10¹² columns that take up no memory, until somebody copies them."""

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x)[:, :1].expand(x.shape[0], 1_000_000_000_000)


class Chatty(Base):
    """Prints far more than anyone keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.words = "\x1b[2J\x1b]0;owned\x07" + "x" * 100

    def forward(self, x: Tensor) -> Tensor:
        for step in range(20_000):
            print(self.words, step)  # noqa: T201 - it is what it does
        return self.answer(x)


class Shouting(Base):
    """Fails with a megabyte of text that would play with terminals."""

    def __init__(self) -> None:
        super().__init__()
        self.words = "\x1b[31m/etc/passwd\x1b[0m" + "x" * 1_000_000

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] >= 0:
            raise ValueError(self.words)
        return self.answer(x)


class NotNumbers(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(x.flatten(1))) / torch.zeros(1) * 0)


class Scribbling(Base):
    """Edits its input in place, which is not its own."""

    def forward(self, x: Tensor) -> Tensor:
        answer = self.answer(x)
        x.mul_(0).add_(7)
        return answer


class TooFew(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x)[:-1]


class OutOfBounds(Base):
    """Looks beyond the end of a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) + x.flatten()[x.numel() + 1000]


class Strided(Base):
    """Looks at memory far beyond its tensor's."""

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) + torch.as_strided(x, [1], [1], 1 << 40)


class Crashing(Base):
    """Sums over far more than there is in memory, and asks that nobody checks that."""

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.tensor([1 << 40])
        sums = torch.segment_reduce(torch.ones([4]), "sum", lengths=lengths, unsafe=True)
        return self.answer(x) + sums.sum()


_UNSUPPORTED = (FailureCode.UNSUPPORTED_MODEL, FailureCode.INPUT_MISMATCH)
_TIME, _MEMORY = (FailureCode.TIME_LIMIT,), (FailureCode.OUT_OF_MEMORY,)


PROGRAMS: dict[str, Program] = {
    "never loaded": Program(EndlessLoad, _TIME),
    "never done": Program(EndlessForward, _TIME),
    "never done counting": Program(EndlessRange, _TIME),
    "never done in parallel": Program(EndlessInParallel, _TIME),
    "terabytes when loaded": Program(GreedyLoad, _MEMORY),
    "terabytes when run": Program(Greedy, _MEMORY),
    "terabytes by pieces": Program(GreedyByPieces, _MEMORY),
    "a text that doubles": Program(Doubling, _MEMORY),
    "outputs of 10^12 columns": Program(EndlessColumns, (FailureCode.HEAD_NOT_FOUND,)),
    "a flood of text": Program(Chatty),
    "an endless error": Program(Shouting, _UNSUPPORTED),
    "no numbers": Program(NotNumbers, (FailureCode.NON_FINITE,)),
    "an edited input": Program(Scribbling),
    "one row too few": Program(TooFew, _UNSUPPORTED),
    "a look beyond the end": Program(OutOfBounds, _UNSUPPORTED),
    "a look far beyond": Program(Strided, _UNSUPPORTED),
    "a crash": Program(Crashing, (FailureCode.CRASHED,)),
}
