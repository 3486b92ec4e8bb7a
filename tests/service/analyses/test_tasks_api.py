"""Classes, values and no targets at all: what a report holds for each."""

import io
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from support import Digits, multilayer, npz, scripted
from torch import nn

from service.client import Client

pytestmark = pytest.mark.xdist_group("stack")


def analysed(client: Client, model: nn.Module, **arrays: np.ndarray) -> dict[str, Any]:
    name = f"task-{uuid.uuid4().hex}"
    probe = client.register_probe(io.BytesIO(npz(**arrays)), name=name, spec={"transform": {}})
    uploaded = client.upload_model(io.BytesIO(scripted(model)), name=name)
    return client.analyse(uploaded["id"], probe["id"])


def features(model: nn.Sequential, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = model[:-1](torch.from_numpy(x)).double().numpy()
    return found


def test_classes_collapse_and_compress(client: Client, digits: Digits) -> None:
    x, y = digits
    model = multilayer()
    report = analysed(client, model, x=x, y=y)
    phi = features(model, x)
    head = model[-1].weight.detach().double().numpy()
    answers = model(torch.from_numpy(x)).argmax(1).numpy()
    means = np.array([phi[y == c].mean(0) for c in range(10)])
    between = means - means.mean(0)
    within = phi - means[y]
    inverse = np.linalg.pinv(between.T @ between / 10, rcond=1e-10)
    collapse = report["neural_collapse"]
    assert collapse["nc1"] == pytest.approx(
        np.trace(within.T @ within @ inverse) / len(x) / 10, rel=1e-5
    )
    assert collapse["nc3"] == pytest.approx(
        ((head / np.linalg.norm(head) - between / np.linalg.norm(between)) ** 2).sum(), rel=1e-5
    )
    nearest = ((phi[:, None] - means) ** 2).sum(2).argmin(1)
    assert collapse["nc4_mismatch"] == pytest.approx((nearest != answers).mean(), abs=2 / len(x))
    whole = report["compression"][-1]
    assert whole["k"] == report["spectrum"]["centered"]["rank"]
    assert whole["agreement"] == 1.0
    assert whole["accuracy"] == report["performance"]["accuracy"]
    assert whole["output_error"] < 1e-3
    assert report["verdict"]["assessment"]["summary"] == "extended and inaccurate"


@pytest.mark.parametrize("width", [1, 3, 80])
def test_values_of_any_width(client: Client, digits: Digits, width: int) -> None:
    x = digits[0]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 100), nn.Tanh(), nn.Linear(100, width))
    noise = np.random.default_rng(0).normal(size=(len(x), width))
    with torch.inference_mode():
        values = model(torch.from_numpy(x)).numpy() + 0.1 * noise
    report = analysed(client, model, x=x, y=values.astype(np.float64))
    assert report["probe"]["task"] == "regression"
    assert report["neural_collapse"] is None
    assert report["performance"]["accuracy"] is None
    assert report["performance"]["loss"] == pytest.approx(0.01, rel=0.1)
    unexplained = 0.01 / values.var(0).mean()
    skill = report["verdict"]["assessment"]["skill"]
    assert skill == pytest.approx(1 - unexplained, abs=0.2 * unexplained + 1e-3)
    assert {point["agreement"] for point in report["compression"]} == {None}
    assert report["compression"][-1]["output_error"] < 1e-3
    assert report["verdict"]["minimality"]["rank"] == width
    basis = np.linalg.svd(values - values.mean(0), full_matrices=False)[0]
    phi = features(model, x)
    left = np.linalg.svd(phi - phi.mean(0), full_matrices=False)[0]
    quality = ((basis.T @ left[:, :5]) ** 2).sum(0)
    np.testing.assert_allclose(report["projections"]["centered"]["quality"][:5], quality, atol=1e-5)


def test_without_targets_all_that_needs_none(client: Client, digits: Digits) -> None:
    x, y = digits
    model = multilayer()
    labelled, unlabelled = analysed(client, model, x=x, y=y), analysed(client, model, x=x)
    assert unlabelled["probe"]["task"] is None
    for part in ("spectrum", "effective_rank"):
        assert unlabelled[part] == labelled[part]
    for name in ("regime", "minimality", "confidence_interval"):
        assert unlabelled["verdict"][name] == labelled["verdict"][name]
    assert unlabelled["alignment"]["d_lr"] == labelled["alignment"]["d_lr"]
    assert unlabelled["alignment"]["cka_target"] is None
    assert unlabelled["projections"]["quality"] is None
    assert unlabelled["neural_collapse"] is None
    assert unlabelled["performance"]["accuracy"] is None
    for with_labels, without in zip(
        labelled["compression"], unlabelled["compression"], strict=True
    ):
        assert without == {**with_labels, "accuracy": None}
    assessment = unlabelled["verdict"]["assessment"]
    assert (assessment["summary"], assessment["quality"], assessment["skill"]) == (None,) * 3
    assert assessment["k99_agreement"] == labelled["verdict"]["assessment"]["k99_agreement"]
