"""Labels as people have them, through the running product."""

import io
import time
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from support import npz, scripted
from torch import nn

from service.client import Client

pytestmark = pytest.mark.xdist_group("stack")

N, CLASSES = 200, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 12)).astype(np.float32)
Y = RNG.permutation(np.arange(N) % CLASSES)
NAMES = np.array(["dog", "ant", "cat", "bee"])


def network(outputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, outputs))


def registered(client: Client, y: np.ndarray, spec: dict[str, Any]) -> dict[str, Any]:
    name = f"labels-{uuid.uuid4().hex}"
    probe = client.register_probe(io.BytesIO(npz(x=X, y=y)), name=name, spec=spec)
    while probe["status"] == "validating":
        time.sleep(0.05)
        probe = client.get(f"/v1/probes/{probe['id']}")
    return probe


def analysis(
    client: Client, model: nn.Module, probe: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """What became of an analysis."""
    archive = client.upload_model(io.BytesIO(scripted(model)), name="labels")
    return client.wait(client.start(archive["id"], probe["id"], options)["id"])


def accuracy(model: nn.Module, labels: np.ndarray) -> float:
    with torch.inference_mode():
        predicted = model(torch.from_numpy(X)).argmax(1).numpy()
    return float((predicted == labels).mean())


@pytest.mark.parametrize(
    ("stored", "labels", "told", "note"),
    [
        (Y.astype(np.float32), Y, ({}, None), "are class labels: the model has 4 outputs"),
        (Y + 1, Y, ({}, "classification"), "are counted from 1"),
        (NAMES[Y], np.unique(NAMES, return_inverse=True)[1][Y], ({}, "classification"), "ant, bee"),
        (NAMES[Y], Y, ({"class_names": NAMES.tolist()}, "classification"), "dog, ant"),
        (10 * Y, Y, ({"class_labels": [0, 10, 20, 30]}, "classification"), ""),
        (Y.astype(np.uint64), Y, ({}, "classification"), ""),
    ],
)
def test_labels_are_settled_with_the_model_in_view(
    client: Client,
    stored: np.ndarray,
    labels: np.ndarray,
    told: tuple[dict[str, Any], str | None],
    note: str,
) -> None:
    spec, task = told
    probe = registered(client, stored, spec)
    assert probe["spec"].get("task") == task
    assert (probe["classes"] is None) == (bool(note) and "class_names" not in spec)
    model = network(CLASSES)
    ended = analysis(client, model, probe)
    assert ended["status"] == "succeeded", ended["error"]
    report = client.report(ended["id"])
    found = report["probe"]
    assert (found["task"], found["classes"]) == ("classification", CLASSES)
    assert found["class_counts"] == np.bincount(labels).tolist()
    assert report["performance"]["accuracy"] == pytest.approx(accuracy(model, labels))
    assert note in " ".join(found["notes"])
    assert bool(found["notes"]) == bool(note)
    named = stored.dtype.kind == "U"
    assert found["class_names"] == (spec.get("class_names", sorted(NAMES)) if named else None)


def test_what_is_asked_is_answered_by_another_registration(client: Client) -> None:
    ages = RNG.integers(18, 90, N).astype(np.float32)
    probe = registered(client, ages, {})
    ended = analysis(client, network(1), probe)
    assert ended["error"]["code"] == "input_mismatch"
    assert 'set "task": "regression" in the probe\'s spec' in ended["error"]["hint"]
    ended = analysis(client, network(1), registered(client, ages, {"task": "regression"}))
    assert client.report(ended["id"])["probe"]["task"] == "regression"


def test_labels_left_out_are_asked_for_and_counted(client: Client) -> None:
    out = np.arange(N) % 5 == 0
    stored = np.where(out, -100, Y)
    error = registered(client, stored, {})["error"]
    assert (error["code"], '"ignore_label": -100' in error["hint"]) == ("probe_unreadable", True)
    probe = registered(client, stored, {"ignore_label": -100})
    assert (probe["n"], probe["spec"]["ignore_label"]) == (N - out.sum(), -100)
    both = {"eval_probe": probe["id"]}
    ended = analysis(client, network(CLASSES), probe, **both)
    report = client.report(ended["id"])
    for part in (report["probe"], report["held_out"]["probe"]):
        assert (part["n"], part["ignored"]) == (N - out.sum(), out.sum())
        assert part["class_counts"] == np.bincount(Y[~out]).tolist()


def test_several_labels_are_read_where_the_model_has_as_many_outputs(client: Client) -> None:
    rows = X[:, :3] > 0.3
    probe = registered(client, rows, {})
    assert "task" not in probe["spec"]
    assert (probe["classes"], probe["class_counts"]) == (None, None)
    report = client.report(analysis(client, network(3), probe)["id"])
    assert report["probe"]["task"] == "multilabel"
    assert report["probe"]["class_counts"] == rows.sum(0).tolist()
    failed = analysis(client, network(CLASSES), probe)["error"]
    assert (failed["code"], '"task": "multilabel"' in failed["hint"]) == ("input_mismatch", True)
