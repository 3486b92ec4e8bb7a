"""A model that takes few samples at once: its refusal names the option, and the option works."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from analysed import analysed, refused
from support import scripted
from torch import Tensor, nn

from service.contract.failures import FailureCode

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


class Failing(Limited):
    """Fails on many samples, after its first layer has run."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.register_buffer("rows", torch.zeros(512, 16))

    def forward(self, x: Tensor) -> Tensor:
        too_many = self.way == "places" and x.size(0) > 512
        phi = self.phi(x * (2.0 if too_many else 1.0))  # what it did before it failed is not true
        if self.way == "places":
            phi = phi + self.rows.narrow(0, 0, x.size(0))
        elif self.way == "memory":
            phi = phi + torch.zeros(1 + max(0, x.size(0) - 512) * (1 << 50))[0]
        elif self.way == "other operations":
            if x.size(0) > 512:
                phi = torch.neg(phi) + self.rows.narrow(0, 0, x.size(0))
        elif self.way == "assertion":
            assert x.size(0) <= 512, "512 samples at most"
        elif self.way == "cut":
            phi = phi[:512]
        elif self.way == "wrong" and x.size(0) > 512:
            return self.head(phi) + phi[:, :1] ** 2
        return self.head(phi)


MANY = 1300
MANY_X = np.random.default_rng(1).standard_normal((MANY, 12)).astype(np.float32)
MANY_PROBE = {"x": MANY_X, "y": np.arange(MANY) % 4}
SMALL_PROBE = {"x": MANY_X[:400], "y": np.arange(400) % 4}


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    provenance = {k: v for k, v in report["provenance"].items() if "timing" not in k}
    return {**report, "provenance": provenance}


@pytest.mark.parametrize("layers", ["penultimate", "all"])
@pytest.mark.parametrize("way", ["places", "memory", "other operations", "assertion", "cut"])
def test_a_model_that_fails_on_the_size_chosen_for_it_gets_fewer_at_a_time(
    way: str, layers: str
) -> None:
    archive = scripted(Failing(way).eval())
    report = analysed(archive, MANY_PROBE, eval_probe=MANY_PROBE, layers=layers)
    able = analysed(
        scripted(Failing("none").eval()), MANY_PROBE, eval_probe=MANY_PROBE, layers=layers
    )
    for part in ("spectrum", "held_out", "layers"):
        assert_close(report[part], able[part])
    again = analysed(archive, MANY_PROBE, eval_probe=MANY_PROBE, layers=layers)
    assert without_times(again) == without_times(report)


def assert_close(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    else:
        assert one == other


def test_only_the_eval_probe_is_too_large_for_the_model() -> None:
    report = analysed(scripted(Failing("places").eval()), SMALL_PROBE, eval_probe=MANY_PROBE)
    able = analysed(scripted(Failing("none").eval()), SMALL_PROBE, eval_probe=MANY_PROBE)
    assert_close(report["held_out"], able["held_out"])


@pytest.mark.parametrize("layers", ["penultimate", "all"])
def test_a_size_that_the_owner_named_is_kept(layers: str) -> None:
    failure = refused(
        scripted(Failing("assertion").eval()), MANY_PROBE, layers=layers, batch_size=1000
    )
    assert failure.detail["batch_size"] == 512


def test_too_little_memory_for_a_size_that_the_owner_named_is_refused() -> None:
    failure = refused(scripted(Failing("memory").eval()), MANY_PROBE, batch_size=1000)
    assert failure.code is FailureCode.OUT_OF_MEMORY


def test_a_wrong_answer_to_many_samples_is_refused_not_run_again() -> None:
    archive = scripted(Failing("wrong").eval())
    assert refused(archive, MANY_PROBE).detail["code"] == "residual"
    analysed(archive, MANY_PROBE, batch_size=256)
