"""A model that takes few samples at once: its refusal names the option, and the option works."""

import json

import numpy as np
import pytest
import torch
from analysed import analysed, refused
from support import scripted
from torch import Tensor, nn

N = 300
X = np.random.default_rng(0).standard_normal((N, 12)).astype(np.float32)
Y = np.arange(N) % 4


class Limited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(12, 16)
        self.head = nn.Linear(16, 4)

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x))

    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 64:
            raise RuntimeError("batch too large, max 64")
        return self.head(self.phi(x))


@pytest.mark.parametrize("layers", ["penultimate", "all"])
@pytest.mark.parametrize("eval_probe", [None, {"x": X, "y": Y}])
def test_the_batch_size_that_a_hint_names_is_taken(
    layers: str, eval_probe: dict[str, np.ndarray] | None
) -> None:
    model = Limited().eval()
    given = {"x": X, "y": Y}
    failure = refused(scripted(model), given, eval_probe=eval_probe, layers=layers)
    assert "batch too large, max 64" in failure.message
    assert failure.hint is not None
    start = failure.hint.index('{"batch_size"')
    options = json.JSONDecoder().raw_decode(failure.hint, start)[0]
    assert options == {"batch_size": 64}
    report = analysed(scripted(model), given, eval_probe=eval_probe, layers=layers, **options)
    with torch.inference_mode():
        phi = model.phi(torch.from_numpy(X)).double()
    expected = torch.linalg.eigvalsh(phi.T @ phi / N).flip(0)[:3]
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][:3], expected, rtol=1e-5)
