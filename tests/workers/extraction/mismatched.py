"""Networks for inputs of one kind, to be given another, and how they refuse them."""

import pytest
import torch
from torch import Tensor, nn

from service.contract.failures import Failure, FailureCode
from workers.extraction import discover
from workers.protocol.errors import JobError


def images(channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    )


def vectors(features: int = 12, dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, 5)).to(dtype)


class Signals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).mean(2))


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x.permute(0, 3, 1, 2))).mean((2, 3)))


class Normalising(nn.Module):
    """The first thing that refuses the input is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.net = images()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x - self.mean)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(torch.relu(self.embedding(tokens).mean(1)))


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(x)[0][:, -1])


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.rand(12, 16))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(x @ self.mixing))


def refused(model: nn.Module, batch: Tensor) -> Failure:
    """The failure of a model that does not take a batch."""
    with pytest.raises(JobError) as caught:
        discover(model, (batch,))
    failure = caught.value.failure
    assert failure.code is FailureCode.INPUT_MISMATCH
    assert f"shape {[min(16, len(batch)), *batch.shape[1:]]}" in failure.message
    assert failure.hint
    return failure
