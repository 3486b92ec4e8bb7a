"""One linear layer in several places: parts of a batch, steps in time, views."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from zoo.case import Accepted, Batch, Case, Headed, Truth, cases, linear, of_head, series, vectors

ALL = ("scripted", "traced", "exported")


class TwoParts(Headed):
    """The head applied to halves of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.trunk(x).chunk(2)
        return torch.cat([self.head(first), self.head(second)])


class PartsOfFour(Headed):
    """Four samples at a time, so that the number of parts is that of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.head(self.trunk(part)) for part in x.split(4)]
        return torch.cat(parts)


class PartsWithProbabilities(Headed):
    def forward(self, x: Tensor) -> Tensor:
        parts = [torch.softmax(self.head(self.trunk(part)), dim=1) for part in x.split(6)]
        return torch.cat(parts, dim=0)


class PartsThenLink(Headed):
    def forward(self, x: Tensor) -> Tensor:
        parts = [self.head(part) / 2.0 for part in self.trunk(x).split(5)]
        return torch.sigmoid(torch.vstack(parts))


class Steps(nn.Module):
    """A recurrence whose head is applied at every step."""

    def __init__(self, outputs: int = 4) -> None:
        super().__init__()
        self.cell = nn.GRUCell(12, 16)
        self.head = nn.Linear(16, outputs)
        self.register_buffer("start", torch.zeros(1, 16))

    def states(self, x: Tensor) -> list[Tensor]:
        h = self.start.expand(x.shape[0], -1)
        states: list[Tensor] = []
        for t in range(9):
            h = self.cell(x[:, t], h)
            states.append(h)
        return states

    def forward(self, x: Tensor) -> Tensor:
        results = [self.head(h) for h in self.states(x)]
        return torch.stack(results, dim=1)


class StepsJoined(Steps):
    def forward(self, x: Tensor) -> Tensor:
        results = [self.head(h).unsqueeze(1) for h in self.states(x)]
        return torch.cat(results, dim=1)


class StepsFirst(Steps):
    """Time before the samples, and put back."""

    def forward(self, x: Tensor) -> Tensor:
        results = [self.head(h) for h in self.states(x)]
        return torch.stack(results).transpose(0, 1)


class StepsOfOne(Steps):
    """One number at each step, side by side, as a forecast."""

    def __init__(self) -> None:
        super().__init__(outputs=1)

    def forward(self, x: Tensor) -> Tensor:
        results = [self.head(h) for h in self.states(x)]
        return torch.cat(results, dim=1)


class StepsFedBack(Steps):
    """Each step sees what the one before answered."""

    def __init__(self) -> None:
        super().__init__(outputs=12)

    def states(self, x: Tensor) -> list[Tensor]:
        h, y = self.start.expand(x.shape[0], -1), x[:, 0]
        states: list[Tensor] = []
        for _ in range(4):
            h = self.cell(y, h)
            y = self.head(h)
            states.append(h)
        return states


class StepsAveraged(Steps):
    """The mean of all steps' answers."""

    def forward(self, x: Tensor) -> Tensor:
        results = [self.head(h) for h in self.states(x)]
        return torch.stack(results).mean(dim=0)


class ManyDropouts(Headed):
    """The head on several dropouts of the same features, which evaluation leaves alike."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        u = self.head(self.dropout(h))
        for _ in range(3):
            u = u + self.head(self.dropout(h))
        return u / 4


class Views(Headed):
    """The mean over an image and its mirror image, stacked."""

    def forward(self, x: Tensor) -> Tensor:
        views = [self.head(self.trunk(x)), self.head(self.trunk(x.flip(1)))]
        return torch.stack(views).mean(dim=0)


def of_states(model: nn.Module, batch: Batch) -> Truth:
    phi = torch.stack(model.states(*batch), 1).flatten(0, 1)
    return linear(phi, model.head.weight, model.head.bias)


def of_mean_state(model: nn.Module, batch: Batch) -> Truth:
    phi = torch.stack(model.states(*batch)).mean(0)
    return linear(phi, model.head.weight, model.head.bias)


def of_views(model: nn.Module, batch: Batch) -> Truth:
    (x,) = batch
    phi = (model.trunk(x) + model.trunk(x.flip(1))) / 2
    return linear(phi, model.head.weight, model.head.bias)


PARTS: list[tuple[type[nn.Module], Accepted, tuple[str, ...]]] = [
    (TwoParts, Accepted(of_head), ("scripted", "traced")),
    (PartsOfFour, Accepted(of_head), ("scripted", "frozen")),
    (PartsWithProbabilities, Accepted(of_head, "softmax"), ("scripted", "frozen")),
    (ManyDropouts, Accepted(of_head), ALL),
    (Views, Accepted(of_views), ALL),
]


def parts() -> Iterator[Case]:
    family = "parts"
    for model, expected, ways in PARTS:
        yield from cases(family, model, vectors, expected, *ways)
    halved = Accepted(
        lambda m, b: linear(m.trunk(*b), m.head.weight / 2, m.head.bias / 2), "sigmoid"
    )
    yield from cases(family, PartsThenLink, vectors, halved, "scripted", "frozen")
    every = Accepted(of_states, positions=9)
    for model in (Steps, StepsJoined, StepsFirst, StepsOfOne):
        yield from cases("dense", model, series, every, *ALL)
    fed = Accepted(of_states, positions=4)
    yield from cases("dense", StepsFedBack, series, fed, *ALL)
    yield from cases(family, StepsAveraged, series, Accepted(of_mean_state), *ALL)
