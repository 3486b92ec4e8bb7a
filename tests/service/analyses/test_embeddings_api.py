"""Models that return features alone: what is reported of them, and what is not."""

import io
import json
import re
import uuid
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from support import Digits, npz, scripted
from torch import Tensor, nn
from torch.nn import functional

from service.client import Client

pytestmark = pytest.mark.xdist_group("stack")

CHOICE = {"feature_map": {"features_output": 0}}
CHARTS = ("verdict", "spectrum", "projections", "layers")


class Embedding(nn.Module):
    """An embedding as metric learning trains it: of length one, and nothing after it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24))
        self.norm = nn.BatchNorm1d(24, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.norm(self.body(x)), dim=1)


class Pooled(nn.Module):
    """A backbone that ends in a pooling."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 20, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.convolution(x.reshape(-1, 1, 8, 8)))
        return functional.adaptive_max_pool2d(y, 1)


class InDict(Embedding):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"embedding": functional.normalize(self.norm(self.body(x)), dim=1)}


def register(client: Client, spec: dict[str, Any] | None = None, **arrays: np.ndarray) -> str:
    given = {"transform": {}, **(spec or {})}
    name = f"embedding-{uuid.uuid4().hex}"
    return str(client.register_probe(io.BytesIO(npz(**arrays)), name=name, spec=given)["id"])


def analysis_of(client: Client, model: nn.Module, probe: str, **options: object) -> dict[str, Any]:
    archive = client.upload_model(io.BytesIO(scripted(model)), name="embedding")
    started = client.start(archive["id"], probe, options={**CHOICE, **options})
    return client.wait(started["id"])


def reported(client: Client, model: nn.Module, probe: str, **options: object) -> dict[str, Any]:
    analysis = analysis_of(client, model, probe, **options)
    assert analysis["status"] == "succeeded", analysis["error"]
    return client.report(analysis["id"])


def features(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found = model.eval()(torch.from_numpy(x))
    found = found["embedding"] if isinstance(found, dict) else found
    return found.flatten(1).double().numpy()


@pytest.mark.parametrize("model", [Embedding, Pooled, InDict])
def test_the_features_are_judged_by_the_targets(
    client: Client, digits: Digits, model: type[nn.Module]
) -> None:
    x, y = digits
    net = model()
    report = reported(client, net, register(client, x=x, y=y))
    phi = features(net, x)
    n, p = phi.shape
    found = report["feature_map"]
    assert (found["p"], found["outputs"], found["link"], found["verified"]) == (p, 0, "none", False)
    assert found["weights"] is None
    assert found["consistency_residual"] is None
    assert [warning.split(":")[0] for warning in found["warnings"]] == ["no_outputs"]
    left, singular, _ = np.linalg.svd(phi / np.sqrt(n), full_matrices=False)
    rank = report["spectrum"]["rank"]
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"], singular[:rank] ** 2, rtol=1e-4)
    indicators = np.eye(10)[y] / np.sqrt(np.bincount(y))
    quality = ((left[:, :rank].T @ indicators) ** 2).sum(1)
    np.testing.assert_allclose(report["projections"]["quality"][:5], quality[:5], atol=1e-4)
    means = np.array([phi[y == c].mean(0) for c in range(10)])
    between, within = means - means.mean(0), phi - means[y]
    inverse = np.linalg.pinv(between.T @ between / 10, rcond=1e-10)
    assert report["neural_collapse"]["nc1"] == pytest.approx(
        np.trace(within.T @ within @ inverse) / n / 10, rel=1e-4
    )
    assert report["alignment"]["cka_target"] is not None


def test_what_outputs_would_show_is_null_with_the_reason(
    client: Client, digits: Digits, http: httpx.Client
) -> None:
    x, y = digits
    probe, second = (register(client, x=x[k], y=y[k]) for k in (slice(1200), slice(1200, None)))
    analysis = analysis_of(client, Embedding(), probe, eval_probe=second, layers="all")
    assert analysis["status"] == "succeeded", analysis["error"]
    report = client.report(analysis["id"])
    verdict = report["verdict"]
    assert verdict["regime"] == analysis["regime"] == "undetermined"
    assert "returns features and no outputs" in verdict["reasons"][0]
    assert {k for k, v in verdict["minimality"].items() if v is not None} == {"rank"}
    assert verdict["assessment"]["skill"] is None
    assert verdict["assessment"]["quality"] is not None
    parts = [report["projections"], report["held_out"]]
    for part in [*parts, *(part["centered"] for part in parts)]:
        assert part["utilization"] is part["cumulative_utilization"] is part["dim_learned"] is None
        assert part["quality"] is not None
    assert report["alignment"]["d_lr"] is report["alignment"]["cka_outputs"] is None
    assert report["neural_collapse"]["nc3"] is report["neural_collapse"]["nc4_mismatch"] is None
    assert report["performance"]["accuracy"] is report["performance"]["loss"] is None
    assert report["held_out"]["performance"]["accuracy"] is None
    assert report["compression"] == []
    assert all(layer["cumulative_utilization"] is None for layer in report["layers"])
    for chart in CHARTS:
        drawn = http.get(f"/v1/analyses/{analysis['id']}/charts/{chart}.svg")
        assert drawn.status_code == httpx.codes.OK, chart


def test_without_targets_the_spectrum_remains(client: Client, digits: Digits) -> None:
    x, _ = digits
    probe, second = register(client, x=x[:1200]), register(client, x=x[1200:])
    report = reported(client, Embedding(), probe, eval_probe=second)
    assert report["held_out"]["energy_outside"] < 0.1
    assert report["effective_rank"]["participation_ratio"] > 1
    assert report["projections"]["quality"] is None
    assert report["neural_collapse"] is None


def test_values_are_targets_as_well(client: Client, digits: Digits) -> None:
    x, _ = digits
    y = x[:, 20:22].astype(np.float64) + 0.25
    report = reported(client, Embedding(), register(client, x=x, y=y))
    assert report["projections"]["dim_target"] == 2
    assert report["performance"]["loss"] is None


@pytest.mark.parametrize("kind", ["floats", "text", "several"])
def test_what_only_outputs_could_tell_of_targets_is_asked(
    client: Client, digits: Digits, kind: str
) -> None:
    x, y = digits
    several = (y[:, None] % np.arange(2, 5) == 0).astype(np.int64)
    targets = {"floats": y.astype(np.float32), "text": np.array(list("abcdefghij"))[y]}
    arrays = {"x": x, "y": targets.get(kind, several)}
    analysis = analysis_of(client, Embedding(), register(client, **arrays))
    if analysis["status"] == "succeeded":
        pytest.fail(f"took {kind} for {client.report(analysis['id'])['probe']['task']}")
    hint = analysis["error"]["hint"]
    assert analysis["error"]["code"] == "input_mismatch", analysis["error"]
    keys = re.findall(r'"(\w+)": (\[.*?\]|"\w+")', hint.split(", or")[0])
    spec = {key: json.loads(value) for key, value in keys}
    report = reported(client, Embedding(), register(client, spec, **arrays))
    assert report["probe"]["task"] == spec["task"]


def test_several_results_still_ask_which_are_the_outputs(client: Client, digits: Digits) -> None:
    class Three(Embedding):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h = self.body(x)
            return h, h.sin(), h.cos()

    x, y = digits
    analysis = analysis_of(client, Three(), register(client, x=x, y=y))
    assert analysis["error"]["detail"]["code"] == "ambiguous_output"
