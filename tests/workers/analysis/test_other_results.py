"""Targets that do not fit the result that was taken: those on the way to it are offered."""

import json

import numpy as np
import pytest
import torch
from analysed import analysed, refused
from support import scripted
from torch import Tensor, nn

from service.contract.failures import FailureCode

N = 320
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 12)).astype(np.float32)
OPTION = "options.feature_map = "


class FineAndCoarse(nn.Module):
    """Scores of four classes, and of two groups made of their probabilities."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(12, 16)
        self.fine = nn.Linear(16, 4)
        self.coarse = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        u = self.fine(torch.relu(self.body(x)))
        return {"fine": u, "coarse": self.coarse(u.softmax(1))}


@pytest.mark.parametrize("y", [np.arange(N) % 4, np.array(list("abcd"))[np.arange(N) % 4]])
def test_the_result_that_fits_is_offered(y: np.ndarray) -> None:
    failure = refused(scripted(FineAndCoarse()), {"x": X, "y": y})
    assert failure.code == FailureCode.INPUT_MISMATCH
    assert "result `coarse`" in failure.message
    hint = failure.hint or ""
    choice = json.JSONDecoder().raw_decode(hint, hint.index(OPTION) + len(OPTION))[0]
    assert choice == {"output": "fine"}
    report = analysed(scripted(FineAndCoarse()), {"x": X, "y": y}, feature_map=choice)
    with torch.inference_mode():
        said = FineAndCoarse()(torch.from_numpy(X))["fine"].argmax(1).numpy()
    assert report["performance"]["accuracy"] == (said == np.arange(N) % 4).mean()
    assert report["feature_map"]["output"] == "fine"


def test_where_the_result_was_chosen_no_other_is_offered() -> None:
    probe = {"x": X, "y": np.arange(N) % 4}
    failure = refused(scripted(FineAndCoarse()), probe, feature_map={"output": "coarse"})
    assert OPTION not in (failure.hint or "")


def test_what_is_wrong_with_the_targets_alone_is_no_matter_of_results() -> None:
    failure = refused(scripted(FineAndCoarse()), {"x": X, "y": -2 - np.arange(N) % 4})
    assert failure.code == FailureCode.PROBE_UNREADABLE
    assert OPTION not in (failure.hint or "")
