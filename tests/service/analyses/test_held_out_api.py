"""Held-out figures, through the running product."""

import io
import uuid
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from support import MINUTES, Digits, Stack, multilayer, npz, scripted, send_slow
from torch import nn

from service.client import AnalysisFailedError, ApiError, Client

pytestmark = pytest.mark.xdist_group("stack")

TRAIN = 1200


def unique(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def register(client: Client, name: str | None = None, **arrays: np.ndarray) -> dict[str, Any]:
    """Register a probe, by a name of its own unless one is given."""
    content, spec = io.BytesIO(npz(**arrays)), {"transform": {}}
    return client.register_probe(content, name=name or unique("probe"), spec=spec)


@pytest.fixture(scope="module")
def trained(digits: Digits) -> nn.Sequential:
    """A network that has seen the first digits only."""
    model = multilayer()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    inputs, labels = (torch.from_numpy(array[:TRAIN]) for array in digits)
    for _ in range(30):
        for rows in torch.randperm(TRAIN).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def model(stack: Stack, trained: nn.Sequential) -> str:
    with stack.client() as client:
        uploaded = client.upload_model(io.BytesIO(scripted(trained)), name=unique("model"))
        return str(uploaded["id"])


@pytest.fixture(scope="module")
def probe(stack: Stack, digits: Digits) -> str:
    x, y = digits
    with stack.client() as client:
        return str(register(client, x=x[:TRAIN], y=y[:TRAIN])["id"])


def basis(functions: np.ndarray, tolerance: float) -> np.ndarray:
    left, singular, _ = np.linalg.svd(functions, full_matrices=False)
    return left[:, singular > tolerance * singular[0]]


def test_figures_are_those_of_full_matrices(
    client: Client, model: str, probe: str, digits: Digits, trained: nn.Sequential
) -> None:
    x, y = digits
    test = register(client, x=x[TRAIN:], y=y[TRAIN:])
    report = client.analyse(model, probe, {"eval_probe": test["name"], "batch_size": 100})
    with torch.inference_mode():
        features = trained[:-1](torch.from_numpy(x)).double().numpy()
        logits = trained(torch.from_numpy(x)).double().numpy()
    first, phi, outputs = features[:TRAIN], features[TRAIN:], logits[TRAIN:]
    held_out = report["held_out"]
    n = len(phi)

    vectors = np.linalg.svd(first, full_matrices=False)[2][: report["spectrum"]["rank"]].T
    coordinates = phi @ vectors
    targets = np.eye(10)[y[TRAIN:]] / np.sqrt(np.bincount(y[TRAIN:]))
    functions = coordinates / np.linalg.norm(coordinates, axis=0)
    np.testing.assert_allclose(
        held_out["eigenvalues"], (coordinates**2).mean(0), rtol=1e-4, atol=1e-9
    )
    np.testing.assert_allclose(
        held_out["quality"][:20], ((targets.T @ functions[:, :20]) ** 2).sum(0), atol=1e-5
    )
    for k in (1, 10, 20):
        span = basis(coordinates[:, :k], 1e-9)
        assert held_out["cumulative_quality"][k - 1] == pytest.approx(
            ((targets.T @ span) ** 2).sum() / 10, abs=1e-5
        )
    assert held_out["quality_at_dim_target"] == held_out["cumulative_quality"][9]
    assert held_out["quality_at_dim_target_chance"] < 0.2
    low, high = held_out["confidence_interval"]["quality_at_dim_target"]
    assert low < held_out["quality_at_dim_target"] < high

    phi = phi - phi.mean(0)
    outputs = outputs - outputs.mean(1, keepdims=True)
    learned = basis(outputs - outputs.mean(0), 1e-3)
    leading = np.linalg.svd(first - first.mean(0), full_matrices=False)[2][:9].T
    span = basis(phi @ leading, 1e-9)
    assert held_out["minimality"] == pytest.approx(
        {
            "rank": 9,
            "utilization": ((learned.T @ span) ** 2).sum() / 9,
            "energy": ((phi @ leading) ** 2).sum() / (phi**2).sum(),
        },
        abs=1e-5,
    )
    assert held_out["performance"]["accuracy"] == pytest.approx(
        (logits[TRAIN:].argmax(1) == y[TRAIN:]).mean()
    )
    assert held_out["performance"]["loss"] > report["performance"]["loss"]
    about = held_out["probe"]
    assert [each["array"] for each in about.pop("inputs")] == ["x"]
    assert about == {
        **{key: test[key] for key in ("id", "name", "version", "sha256")},
        "n": n,
        "classes": 10,
        "class_counts": np.bincount(y[TRAIN:]).tolist(),
        "class_names": None,
        "ignored": None,
        "task": "classification",
        "target": "y",
        "notes": [],
    }


def test_the_probe_itself_gives_its_own_figures(client: Client, model: str, probe: str) -> None:
    report = client.analyse(model, probe, {"eval_probe": probe})
    held_out, projections = report["held_out"], report["projections"]
    for name in ("quality", "cumulative_quality", "quality_chance_level"):
        np.testing.assert_allclose(held_out[name], projections[name], atol=1e-6)
    for name in ("accuracy", "loss"):
        assert held_out["performance"][name] == pytest.approx(report["performance"][name])
    assert held_out["probe"]["id"] == probe


def test_a_name_stands_for_the_version_it_meant(
    client: Client, http: httpx.Client, model: str, probe: str, digits: Digits
) -> None:
    x, y = digits
    name = unique("versions")
    first = register(client, name, x=x[TRAIN:], y=y[TRAIN:])
    analysis = client.wait(client.start(model, probe, {"eval_probe": name})["id"])
    assert analysis["status"] == "succeeded", analysis["error"]
    assert analysis["eval_probe_id"] == analysis["options"]["eval_probe"] == first["id"]
    second = register(client, name, x=x[1300:], y=y[1300:])
    for reference in (first["id"], f"{name}@1"):
        assert client.start(model, probe, {"eval_probe": reference})["id"] == analysis["id"]
    later = client.start(model, probe, {"eval_probe": name})
    assert later["eval_probe_id"] == second["id"]
    assert client.report(analysis["id"])["held_out"]["probe"]["version"] == 1
    http.post(f"/v1/analyses/{later['id']}/cancel")


@pytest.mark.parametrize(("labelled", "samples"), [(True, 100), (False, None)])
def test_each_probe_may_lack_targets_and_is_cut_to_max_samples(
    client: Client, model: str, digits: Digits, labelled: bool, samples: int | None
) -> None:
    x, y = digits
    eval_labelled = not labelled
    probe = register(client, x=x[:150], **({"y": y[:150]} if labelled else {}))
    fresh = register(client, x=x[TRAIN:], **({"y": y[TRAIN:]} if eval_labelled else {}))
    options = {"eval_probe": fresh["id"], "max_samples": samples}
    report = client.analyse(model, probe["id"], options)
    held_out = report["held_out"]
    assert (report["projections"]["quality"] is not None) == labelled
    assert (held_out["quality"] is not None) == eval_labelled
    assert (held_out["performance"]["loss"] is not None) == eval_labelled
    assert held_out["minimality"]["utilization"] > 0
    assert report["probe"]["n"] == (samples or 150)
    assert held_out["probe"]["n"] == (samples or len(x) - TRAIN)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.arange(50) % 11}, "name 11 classes, the model tells 10"),
        ({"y": np.linspace(0, 1, 50)}, "targets are of a regression"),
        ({"x": np.ones((50, 63), np.float32)}, "63"),
        ({"x": np.ones((9, 64), np.float32), "y": np.arange(9)}, "9 samples, at least 10"),
    ],
)
def test_an_eval_probe_that_does_not_fit_is_named(
    client: Client, model: str, probe: str, arrays: dict[str, np.ndarray], words: str
) -> None:
    given = {"x": np.ones((50, 64), np.float32), "y": np.arange(50) % 10} | arrays
    with pytest.raises(AnalysisFailedError) as failed:
        client.analyse(model, probe, {"eval_probe": register(client, **given)["id"]})
    error = failed.value.analysis["error"]
    assert error["code"] == ("too_few_samples" if "samples" in words else "input_mismatch")
    assert "this is about the eval probe" in error["message"]
    assert words in error["message"]
    assert error["detail"]["probe"] == "eval_probe"


def test_an_unknown_eval_probe_is_not_found(client: Client, model: str, probe: str) -> None:
    with pytest.raises(ApiError, match="There is no probe 'nobody@3'") as unknown:
        client.start(model, probe, {"eval_probe": "nobody@3"})
    assert unknown.value.status == 404
    with pytest.raises(ApiError) as empty:
        client.start(model, probe, {"eval_probe": ""})
    assert empty.value.status == 422
    assert empty.value.problem["errors"][0]["location"] == "body.options.eval_probe"


def test_an_analysis_waits_for_its_eval_probe_and_fails_with_it(
    client: Client, http: httpx.Client, model: str, probe: str, digits: Digits
) -> None:
    x, y = digits
    # While the worker's only slot is busy, the eval probe stays unvalidated.
    slow = send_slow(client, MINUTES)
    for state in client.follow(slow["id"]):
        if state["status"] == "running":
            break
    bad = register(client, x=x, y=y[:-1])
    options = {"eval_probe": bad["id"]}
    body = {"model": model, "probe": probe, "options": options, "priority": "high"}
    analysis = http.post("/v1/analyses", json=body).json()
    in_use = http.delete(f"/v1/probes/{bad['id']}")
    assert (in_use.status_code, in_use.json()["code"]) == (409, "in_use")
    assert analysis["id"] in in_use.json()["detail"]
    http.post(f"/v1/analyses/{slow['id']}/cancel")
    ended = client.wait(analysis["id"])
    # Of higher priority than the validation, it would have come first, had it not waited.
    assert (ended["status"], ended["attempts"]) == ("failed", 0)
    assert ended["error"]["code"] == "probe_unreadable"
    with pytest.raises(ApiError, match="1,796") as refused:
        client.start(model, probe, options)
    assert refused.value.status == 422
    assert http.delete(f"/v1/probes/{bad['id']}").status_code == 204
