"""A network with two heads on one trunk, for tests of what is chosen and what is told."""

from collections.abc import Callable

import torch
from torch import nn

Archive = Callable[..., nn.Module]

BATCH = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(12, 16), nn.ReLU())
        self.fc = nn.Linear(16, 5)
        self.other = nn.Linear(16, 3)
