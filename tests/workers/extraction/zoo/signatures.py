"""What models take and return: several inputs, optional ones, results with names."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.case import Accepted, Batch, Case, Headed, cases, of_head, trunk, vectors


class InDict(Headed):
    """The features' norms are no output of a linear layer."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"norms": h.square().sum(dim=1), "logits": self.head(h)}


class InTuple(Headed):
    """The features beside them are centred and scaled, so only one result ends in a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.trunk(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        return self.head(h), h


class InList(Headed):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.head(self.trunk(x))]


class Result(NamedTuple):
    loss: Tensor
    logits: Tensor


class InNamedTuple(Headed):
    def forward(self, x: Tensor) -> Result:
        h = self.trunk(x)
        return Result(h.abs().amax(dim=1), self.head(h))


class Nested(Headed):
    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        h = self.trunk(x)
        return {"result": (self.head(h), h.argmax(dim=1))}


class LogitsAndProbabilities(Headed):
    """Two results of one head: the logits are the one without a link."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.head(self.trunk(x))
        return torch.softmax(u, dim=1), u


class LogitsAndClass(Headed):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.head(self.trunk(x))
        return u, u.argmax(dim=1)


class TwoInputs(nn.Module):
    """Vectors and an image each, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.image = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 8))
        self.head = nn.Linear(24, 5)

    def features(self, x: Tensor, image: Tensor) -> Tensor:
        return torch.cat([self.trunk(x), torch.tanh(self.image(image))], dim=1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        return self.head(self.features(x, image))


class Siamese(Headed):
    """One trunk sees both inputs; the head, their distance in every feature."""

    def features(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.trunk(x) - self.trunk(y)).abs()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.features(x, y))


class Optional(Headed):
    """A weight for every sample may be given, and is not."""

    def features(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        h = self.trunk(x)
        return h if weight is None else h * weight

    def forward(
        self, x: Tensor, weight: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        u = self.head(self.features(x, weight))
        return u if labels is None else nn.functional.cross_entropy(u, labels)


class Flagged(Headed):
    """A switch with a default."""

    def forward(self, x: Tensor, probabilities: bool = False, scale: float = 2.0) -> Tensor:
        u = self.head(self.trunk(x * scale))
        return torch.softmax(u, dim=1) if probabilities else u

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x * 2.0)


WAYS = ("scripted", "traced", "exported")


def vectors_and_images(rows: int) -> Batch:
    return torch.randn(rows, 12), torch.randn(rows, 1, 8, 8)


def pairs(rows: int) -> Batch:
    return torch.randn(rows, 12), torch.randn(rows, 12)


def signatures() -> Iterator[Case]:
    for model, take in (
        (InDict, lambda r: r["logits"]),
        (InTuple, lambda r: r[0]),
        (InList, lambda r: r[0]),
        (InNamedTuple, lambda r: r[1]),
        (Nested, lambda r: r["result"][0]),
        (LogitsAndProbabilities, lambda r: r[1]),
        (LogitsAndClass, lambda r: r[0]),
    ):
        expected = Accepted(of_head, answer=take)
        # torch.export saves a named tuple only once its class is registered.
        ways = WAYS if model in {InDict, InTuple} else ("scripted", "traced")
        yield from cases("results", model, vectors, expected, *ways)
    found = Accepted(of_head)
    yield from cases("several_inputs", TwoInputs, vectors_and_images, found)
    yield from cases("several_inputs", Siamese, pairs, found, "scripted", "frozen")
    yield from cases("several_inputs", Optional, vectors, found)
    yield from cases("several_inputs", Flagged, vectors, found, "scripted")
