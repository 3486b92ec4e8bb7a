"""Programs that were made for, or on, something else than what they run on here."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from zoo.case import Accepted, Batch, Case, Headed, Truth, cases, of_head, series, vectors

GPU_WAYS = ("scripted_on_gpu", "traced_on_gpu", "exported_on_gpu")


class States(nn.Module):
    """Begins with a state of zeros, of which a trace keeps the device."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(12, 16, batch_first=True)
        self.head = nn.Linear(16, 5)

    def features(self, x: Tensor) -> Tensor:
        state = torch.zeros(1, x.shape[0], 16, device=x.device)
        return self.cell(x, state)[0][:, -1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 12)
        self.head = nn.Linear(12, 5)

    def features(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        return torch.tanh(x + self.table(places)).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Moves(Headed):
    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x.to(torch.device("cpu")))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Cast(Headed):
    """All of it in bfloat16, by autocast."""

    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return torch.relu(self.trunk[0](x))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.head(self.features(x)).float()

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 5)


class CastTrunk(Cast):
    """The trunk by autocast, the head in float32."""

    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = torch.relu(self.trunk[0](x))
        return hidden.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def of_cast(model: nn.Module, batch: Batch) -> Truth:
    """The head's weights as autocast makes them."""
    features = model.features(*batch)
    half = torch.bfloat16
    weight, bias = model.head.weight.to(half), model.head.bias.to(half)
    return Truth(features, nn.functional.linear(features, weight, bias), weight, bias)


def made() -> Iterator[Case]:
    for model, inputs in ((States, series), (Positions, series), (Moves, vectors)):
        ways = GPU_WAYS[1:] if model is not Moves else GPU_WAYS
        yield from cases("made_on_gpu", model, inputs, Accepted(of_head), *ways)
    expected = Accepted(of_cast, precision="bfloat16")
    yield from cases("autocast", Cast, vectors, expected)
    yield from cases("autocast", CastTrunk, vectors, Accepted(of_head))
