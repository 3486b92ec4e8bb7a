"""Several results of which one is the last: what lies on the way to it is no rival."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from service.contract.failures import FailureCode
from zoo.case import Accepted, Batch, Case, Headed, Refused, Truth, cases, images, linear, vectors
from zoo.convolutional import ResNet

ALL = ("scripted", "traced", "exported")
UNCLEAR = Refused(FailureCode.UNSUPPORTED_MODEL, "ambiguous_output", ("could each",))


class Deep(Headed):
    """Features that come out of a linear layer and an activation, as an answer might."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 24)
        self.second = nn.Linear(24, 16)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x))

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.hidden(x)))


class FeaturesFirst(Deep):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        return h, self.head(h)


class NamedFeatures(Deep):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.features(x)
        return {"logits": self.head(h), "features": h}


class Record(NamedTuple):
    logits: Tensor
    features: Tensor


class FeaturesInRecord(Deep):
    def forward(self, x: Tensor) -> Record:
        h = self.features(x)
        return Record(self.head(h), h)


class ThreeLevels(Deep):
    """A hidden state, a pooled output and the logits, each of a linear layer."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.hidden(x)
        pooled = torch.relu(self.second(hidden))
        return {"hidden": hidden, "pooled": pooled, "probabilities": self.head(pooled).softmax(1)}


class UnactivatedFeatures(Deep):
    """An embedding as the layer gives it; the head sees its ReLU."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.second(self.hidden(x))
        return self.head(torch.relu(embedding)), embedding


class FeaturesAndProbabilities(Deep):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.features(x)
        u = self.head(h)
        return u.softmax(1), h, u


class StateBeside(Deep):
    """The last state of a recurrence, with an axis for its layers in front."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(16, 16)
        self.register_buffer("start", torch.zeros(1, 16))

    def features(self, x: Tensor) -> Tensor:
        h = self.start.expand(x.shape[0], -1)
        for t in range(3):
            h = torch.tanh(self.step(h) + self.second(self.hidden(x)) * float(t + 1))
        return h

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        return self.head(h), h.unsqueeze(0)


class MapBeside(ResNet):
    """The map before the pooling is the sum of two branches, each of a convolution."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.blocks(self.stem(x))
        return {"map": y, "out": self.fc(self.pool(y).flatten(1))}


class GateBeside(Deep):
    """The weights that gate the features, of a layer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 16)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.hidden(x))) * torch.sigmoid(self.gate(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.sigmoid(self.gate(x))
        return self.head(torch.relu(self.second(self.hidden(x))) * gate), gate


class Auxiliary(Deep):
    """A head on an intermediate map, for training."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.hidden(x)
        return {
            "out": self.head(torch.relu(self.second(hidden))),
            "aux": self.auxiliary(hidden),
        }


class AuxiliaryConvolution(ResNet):
    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.stem(x)
        return self.fc(self.blocks(y).mean([2, 3])), self.auxiliary(y.mean([2, 3]))


class FeaturesOfAnother(Deep):
    """The second result looks like the features of the first, but is not what its head sees."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.features(x)), torch.relu(self.second(self.hidden(x + 1.0)))


class AuxiliaryOfThree(Deep):
    """Features lie on the way to both heads; the heads do not lie on one another's."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.features(x)
        return {"embedding": h, "kind": self.head(h), "shape": self.other(h)}


def of_named(name: str) -> Callable[[nn.Module, Batch], Truth]:
    def truth(model: nn.Module, batch: Batch) -> Truth:
        layer = model.get_submodule(name)
        return linear(model.features(*batch), layer.weight, layer.bias)

    return truth


EARLIER = ("earlier_outputs",)

BESIDE: list[tuple[type[nn.Module], Callable[[Any], Tensor], tuple[str, ...]]] = [
    (FeaturesFirst, lambda r: r[1], ALL),
    (NamedFeatures, lambda r: r["logits"], (*ALL, "frozen")),
    (FeaturesInRecord, lambda r: r[0], ("scripted", "traced")),
    (UnactivatedFeatures, lambda r: r[0], ALL),
    (StateBeside, lambda r: r[0], ("scripted", "traced")),
    (GateBeside, lambda r: r[0], ALL),
    (FeaturesAndProbabilities, lambda r: r[2], ALL),
]


def beside() -> Iterator[Case]:
    family = "features_beside"
    for model, take, ways in BESIDE:
        expected = Accepted(of_named("head"), answer=take, warnings=EARLIER)
        yield from cases(family, model, vectors, expected, *ways, name=f"{model.__name__}beside")
    three = Accepted(
        of_named("head"), "softmax", answer=lambda r: r["probabilities"], warnings=EARLIER
    )
    yield from cases(family, ThreeLevels, vectors, three, *ALL)
    of_map = Accepted(of_named("fc"), answer=lambda r: r["out"], warnings=EARLIER)
    yield from cases(family, MapBeside, images, of_map, *ALL)
    for model in (Auxiliary, FeaturesOfAnother, AuxiliaryOfThree):
        yield from cases("several_heads", model, vectors, UNCLEAR, *ALL)
    yield from cases("several_heads", AuxiliaryConvolution, images, UNCLEAR, *ALL)
