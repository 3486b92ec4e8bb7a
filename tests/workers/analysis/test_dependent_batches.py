"""Samples that influence each other in some batches only, of either probe: the report says so."""

import numpy as np
import pytest
import torch
from analysed import analysed
from support import scripted
from torch import Tensor, nn

N = 300
X = np.random.default_rng(0).standard_normal((N, 12)).astype(np.float32)
Y = np.arange(N) % 4
FAR = X.copy()
FAR[200:, 3] *= 1000


class ScaledToRange(nn.Module):
    """Divides a batch that holds an extreme value by it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(12, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        largest = x.abs().max()
        scale = torch.where(largest > 100.0, largest, torch.ones_like(largest))
        return self.head(torch.relu(self.body(x / scale)))


@pytest.mark.parametrize("layers", ["penultimate", "all"])
@pytest.mark.parametrize(
    ("probe", "eval_probe", "expected"), [(X, X, 0), (FAR, X, 1), (X, FAR, 1), (FAR, FAR, 1)]
)
def test_it_is_told_once(
    probe: np.ndarray, eval_probe: np.ndarray, expected: int, layers: str
) -> None:
    report = analysed(
        scripted(ScaledToRange().eval()),
        {"x": probe, "y": Y},
        eval_probe={"x": eval_probe, "y": Y},
        spec={"transform": {}},
        layers=layers,
        batch_size=100,
    )
    codes = [warning.split(":")[0] for warning in report["feature_map"]["warnings"]]
    assert codes.count("batch_dependent") == expected
