"""Thousands of classes through the product: right figures, and no crash of linear algebra."""

import io
import uuid

import numpy as np
import pytest
import torch
from support import npz, scripted
from torch import nn

from service.client import Client

pytestmark = pytest.mark.xdist_group("stack")

CLASSES, FEATURES, SAMPLES = 2500, 32, 300


def test_far_more_classes_than_samples_and_features(client: Client) -> None:
    """Sums over all outputs and indicators took a minute here, and ended in LAPACK's error."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    trunk = nn.Sequential(nn.Linear(12, FEATURES), nn.ReLU())
    model = nn.Sequential(*trunk, nn.Linear(FEATURES, CLASSES)).eval()
    x = rng.standard_normal((SAMPLES, 12)).astype(np.float32)
    y = rng.integers(0, CLASSES, SAMPLES)
    y[:100] = y[100:200]
    name = f"classes-{uuid.uuid4().hex}"
    probe = client.register_probe(io.BytesIO(npz(x=x, y=y)), name=name, spec={"transform": {}})
    uploaded = client.upload_model(io.BytesIO(scripted(model)), name=name)
    report = client.analyse(uploaded["id"], probe["id"])
    with torch.inference_mode():
        phi = trunk(torch.from_numpy(x)).double().numpy()
        outputs = model(torch.from_numpy(x)).double().numpy()

    left, singular, _ = np.linalg.svd(phi / np.sqrt(SAMPLES), full_matrices=False)
    functions = left[:, singular > singular[0] * FEATURES * np.finfo(np.float32).eps]
    present, counts = np.unique(y, return_counts=True)
    indicators = (y[:, None] == present) / np.sqrt(counts)
    quality = ((functions.T @ indicators) ** 2).sum(1)
    projections = report["projections"]
    np.testing.assert_allclose(projections["quality"], quality, atol=1e-5)
    assert projections["dim_target"] == len(present)
    assert projections["dim_learned"] <= FEATURES + 1
    assert report["feature_map"]["outputs"] == CLASSES
    assert report["probe"]["class_counts"] == np.bincount(y).tolist()
    assert report["performance"]["accuracy"] == pytest.approx((outputs.argmax(1) == y).mean())
    assert report["compression"][-1]["agreement"] == 1.0
    assert report["verdict"]["regime"] == "undetermined"

    centered = phi - phi.mean(0)
    cleaned = outputs - outputs.mean(1, keepdims=True)
    cleaned -= cleaned.mean(0)
    learned, values, _ = np.linalg.svd(cleaned, full_matrices=False)
    learned = learned[:, values > 1e-3 * values[0]]
    held = np.linalg.norm(learned.T @ centered) ** 2
    distance = 1 - held / np.linalg.norm(centered.T @ centered) / np.sqrt(learned.shape[1])
    assert report["verdict"]["minimality"]["distance"] == pytest.approx(distance, abs=1e-5)
