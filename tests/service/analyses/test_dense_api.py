"""Models that label each position of a sample, through the running product."""

import io
import uuid
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch
from support import npz, scripted
from torch import Tensor, nn

from service.client import Client

pytestmark = pytest.mark.xdist_group("stack")

SAMPLES, SIDE, CLASSES = 240, 8, 4
POSITIONS = SIDE * SIDE


class Pixels(nn.Module):
    """Labels each pixel of an image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Conv2d(24, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))

    def features(self, images: np.ndarray) -> Tensor:
        with torch.inference_mode():
            return self.trunk(torch.from_numpy(images)).permute(0, 2, 3, 1).flatten(0, 2)


class Tagger(nn.Module):
    """Labels each token of a sentence."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 24), nn.ReLU())
        self.head = nn.Linear(24, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.trunk(ids))

    def features(self, ids: np.ndarray) -> Tensor:
        with torch.inference_mode():
            return self.trunk(torch.from_numpy(ids).long()).flatten(0, 1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((SAMPLES, 1, SIDE, SIDE), dtype=np.float32)


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, (SAMPLES, SIDE, SIDE), dtype=np.uint8)


def start(client: Client, model: nn.Module, **arrays: np.ndarray) -> str:
    name = f"dense-{uuid.uuid4().hex}"
    probe = client.register_probe(io.BytesIO(npz(**arrays)), name=name)
    archive = client.upload_model(io.BytesIO(scripted(model)), name=name)
    return str(client.start(archive["id"], probe["id"])["id"])


def analyse(client: Client, model: nn.Module, **arrays: np.ndarray) -> dict[str, Any]:
    analysis = client.wait(start(client, model, **arrays))
    assert analysis["status"] == "succeeded", analysis["error"]
    return client.report(analysis["id"])


def spectrum(phi: Tensor) -> np.ndarray:
    return np.linalg.svd(phi.double().numpy() / np.sqrt(len(phi)), compute_uv=False) ** 2


def test_a_segmentation_model_is_judged_over_all_pixels(
    client: Client, images: np.ndarray, masks: np.ndarray
) -> None:
    model = Pixels()
    report = analyse(client, model, x=images, y=masks)
    phi = model.features(images)
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][:10], spectrum(phi)[:10], 1e-5)
    assert report["feature_map"]["positions"] == POSITIONS
    assert (report["feature_map"]["p"], report["feature_map"]["outputs"]) == (24, CLASSES)
    assert report["probe"]["n"] == SAMPLES
    assert report["probe"]["class_counts"] == np.bincount(masks.reshape(-1)).tolist()
    with torch.inference_mode():
        answers = model(torch.from_numpy(images)).argmax(1).numpy()
    assert report["performance"]["accuracy"] == pytest.approx((answers == masks).mean())
    # The labels are random, so the leading features hold them as well as chance does.
    quality = report["projections"]["quality_at_dim_target"]
    assert quality == pytest.approx(report["projections"]["quality_at_dim_target_chance"], abs=1e-3)


def test_kept_rows_of_a_dense_model_name_sample_and_position(
    client: Client, http: httpx.Client, images: np.ndarray, masks: np.ndarray
) -> None:
    model = Pixels()
    analysis = client.wait(start(client, model, x=images, y=masks))
    assert analysis["status"] == "succeeded", analysis["error"]
    address = f"/v1/analyses/{analysis['id']}/artifacts"
    eigen = safetensors.numpy.load(http.get(f"{address}/eigenfunctions.safetensors").content)
    moments = safetensors.numpy.load(http.get(f"{address}/moments.safetensors").content)
    assert moments["n"] == SAMPLES * POSITIONS
    assert len(eigen["rows"]) == len(eigen["positions"]) == 10_000 < SAMPLES * POSITIONS
    phi = model.features(images).double().numpy()
    kept = eigen["rows"] * POSITIONS + eigen["positions"]
    assert len(set(kept.tolist())) == len(kept)
    vectors = np.linalg.eigh(phi.T @ phi)[1][:, ::-1]
    for k in range(2):
        expected = phi[kept] @ vectors[:, k] / np.sqrt(eigen["eigenvalues"][k])
        expected *= np.sign(expected @ eigen["values"][:, k])
        np.testing.assert_allclose(eigen["values"][:, k], expected, atol=1e-3)


def test_a_tagger_is_judged_over_all_tokens(client: Client) -> None:
    random = np.random.default_rng(0)
    ids = random.integers(0, 50, (SAMPLES, 12), dtype=np.int32)
    model = Tagger()
    report = analyse(client, model, input_ids=ids, labels=ids % CLASSES)
    expected = spectrum(model.features(ids))
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][:10], expected[:10], 1e-5)
    assert report["feature_map"]["positions"] == 12
    assert sum(report["probe"]["class_counts"]) == SAMPLES * 12


def test_pixels_do_not_stand_for_samples(
    client: Client, images: np.ndarray, masks: np.ndarray
) -> None:
    report = analyse(client, Pixels(), x=images[:60], y=masks[:60])
    assert report["probe"]["n"] == 60
    assert report["verdict"]["regime"] == "undetermined"
    assert "Too few samples to judge: 60" in report["verdict"]["reasons"][0]


def test_a_dense_model_needs_no_targets(client: Client, images: np.ndarray) -> None:
    report = analyse(client, Pixels(), x=images)
    assert report["feature_map"]["positions"] == POSITIONS
    assert report["probe"]["class_counts"] is None
    assert set(report["performance"].values()) == {None}


@pytest.mark.parametrize(
    ("labels", "shape"),
    [
        (np.arange(SAMPLES) % CLASSES, "(240,): 64 against 1 a sample"),
        (np.ones((SAMPLES, 4, 4), np.int64), "(240, 4, 4): 64 against 16 a sample"),
    ],
)
def test_labels_that_do_not_match_the_positions_fail_with_both_shapes(
    client: Client, images: np.ndarray, labels: np.ndarray, shape: str
) -> None:
    error = client.wait(start(client, Pixels(), x=images, y=labels))["error"]
    assert error["code"] == "input_mismatch"
    assert shape in error["message"]
    assert "(n, *positions)" in error["hint"]
