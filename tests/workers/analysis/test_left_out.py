"""Labels that are left out: every figure is that of the other rows alone."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from analysed import analysed, refused
from torch import nn

from service.contract.failures import FailureCode

N, CLASSES, HEIGHT, WIDTH = 150, 3, 6, 5
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((N, 2, HEIGHT, WIDTH)).astype(np.float32)
MASKS = RNG.integers(0, CLASSES, (N, HEIGHT, WIDTH))
TOKENS = RNG.integers(0, 30, (N, 8))
TAGS = RNG.integers(0, CLASSES, (N, 8))
X = RNG.standard_normal((N, 12)).astype(np.float32)
Y = RNG.permutation(np.arange(N) % CLASSES)
IGNORED = (255, -100, -1, 7)


def pixels() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))


def tagger() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(30, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def without(array: np.ndarray, where: np.ndarray, label: int) -> np.ndarray:
    """The labels, with those at some places marked to be left out."""
    marked = np.where(where, label, array)
    return marked if label < 0 else marked.astype(np.uint8)


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what tells how it came about."""
    kept = deepcopy(report)
    del kept["provenance"], kept["feature_map"]["positions"]
    for part in (kept["probe"], (kept["held_out"] or {}).get("probe", {})):
        for key in ("notes", "ignored", "inputs"):
            part.pop(key, None)
    return kept


def same(found: object, expected: object, at: str = "") -> None:
    """Whether two reports agree to rounding: sums over rows may be added up in another order."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert set(found) == set(expected), at
        for key, value in expected.items():
            same(found[key], value, f"{at}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected), at
        for index, value in enumerate(expected):
            same(found[index], value, f"{at}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=2e-5, abs=2e-6), at
    else:
        assert found == expected, at


@pytest.mark.parametrize("label", IGNORED)
@pytest.mark.parametrize("balanced", [False, True])
def test_samples_whose_label_is_left_out_count_in_nothing(label: int, balanced: bool) -> None:
    options: dict[str, Any] = {"class_weighting": "balanced"} if balanced else {"layers": "all"}
    out = RNG.random(N) < 0.3
    report = analysed(
        classifier(), {"x": X, "y": without(Y, out, label)}, spec={"ignore_label": label}, **options
    )
    alone = analysed(classifier(), {"x": X[~out], "y": Y[~out]}, **options)
    same(figures(report), figures(alone))
    assert (report["probe"]["n"], report["probe"]["ignored"]) == (N - out.sum(), out.sum())
    assert f"{out.sum()} labels are left out of every figure" in report["probe"]["notes"][0]


@pytest.mark.parametrize("label", IGNORED)
def test_a_column_of_pixels_that_is_left_out_counts_in_nothing(label: int) -> None:
    out = np.zeros(MASKS.shape, bool)
    out[:, :, 1] = True
    arrays = {"x": IMAGES, "y": without(MASKS, out, label)}
    report = analysed(pixels(), arrays, spec={"ignore_label": label})
    kept = [0, 2, 3, 4]
    alone = analysed(pixels(), {"x": IMAGES[..., kept], "y": MASKS[..., kept]})
    same(figures(report), figures(alone))
    assert report["probe"]["n"] == N
    assert report["probe"]["ignored"] == N * HEIGHT
    assert report["feature_map"]["positions"] == HEIGHT * WIDTH


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("balanced", [False, True])
def test_pixels_here_and_there_count_in_nothing(batch_size: int, balanced: bool) -> None:
    """Rows a sample differ, and some samples have none at all: against the rows by hand."""
    out = RNG.random(MASKS.shape) < RNG.random((N, 1, 1))
    out[3:20] = True
    weighting = "balanced" if balanced else "none"
    report = analysed(
        pixels(),
        {"x": IMAGES, "y": without(MASKS, out, 255)},
        spec={"ignore_label": 255},
        batch_size=batch_size,
        class_weighting=weighting,
    )
    wholly = out.reshape(N, -1).all(1)
    labels, model = MASKS[~out], pixels()
    with torch.inference_mode():
        maps = model[:2](torch.from_numpy(IMAGES))
        phi, u = (each.movedim(1, -1)[~out].double().numpy() for each in (maps, model[2](maps)))
    counts = np.bincount(labels)
    weights = (1 / counts / CLASSES)[labels] if balanced else np.full(len(phi), 1 / len(phi))
    targets = np.eye(CLASSES)[labels]
    eigenvalues = np.linalg.eigvalsh(phi.T @ (weights[:, None] * phi))[::-1]
    found = report["spectrum"]["eigenvalues"]
    np.testing.assert_allclose(found, eigenvalues[: len(found)], rtol=1e-5)
    basis = np.linalg.qr(np.sqrt(weights)[:, None] * targets)[0]
    left = np.linalg.svd(np.sqrt(weights)[:, None] * phi, full_matrices=False)[0]
    quality = ((basis.T @ left[:, :5]) ** 2).sum(0)
    np.testing.assert_allclose(report["projections"]["quality"][:5], quality, atol=1e-5)
    assert report["performance"]["accuracy"] == (u.argmax(1) == labels).mean()
    probe = report["probe"]
    assert probe["class_counts"] == counts.tolist()
    assert (probe["n"], probe["ignored"]) == (N - wholly.sum(), out.sum())
    assert f"among them all those of {wholly.sum()} samples" in probe["notes"][0]


@pytest.mark.parametrize("label", IGNORED)
def test_tokens_that_are_left_out_count_in_nothing(label: int) -> None:
    """Padding at the end, as in batches of sentences: a shorter sentence has fewer rows."""
    out = np.arange(8) >= np.repeat([[4], [8]], N // 2, 0)
    report = analysed(
        tagger(), {"x": TOKENS, "y": without(TAGS, out, label)}, spec={"ignore_label": label}
    )
    rows, labels = TOKENS[~out], TAGS[~out]
    with torch.inference_mode():
        phi = tagger()[:2](torch.from_numpy(rows)).double().numpy()
        predicted = tagger()(torch.from_numpy(rows)).argmax(1).numpy()
    eigenvalues = np.linalg.eigvalsh(phi.T @ phi / len(phi))[::-1]
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"], eigenvalues, rtol=1e-5)
    assert report["performance"]["accuracy"] == (predicted == labels).mean()
    assert report["probe"]["ignored"] == out.sum()


def test_intervals_come_from_whole_samples_of_any_length() -> None:
    """Were rows dealt out one by one, alike rows of one sample would make them too narrow."""
    copies = np.repeat(RNG.standard_normal((N, 2, 1, 1)), 40, axis=3).astype(np.float32)
    labels = np.repeat((copies[:, 0, :, :1] > 0).astype(int), 40, axis=2)
    out = np.arange(40) >= RNG.integers(1, 40, (N, 1, 1))
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    report = analysed(
        model, {"x": copies, "y": np.where(out, -1, labels)}, spec={"ignore_label": -1}
    )
    low, high = report["performance"]["confidence_interval"]["accuracy"]
    samples = 2 * 1.96 * np.sqrt(0.25 / N)
    rows = 2 * 1.96 * np.sqrt(0.25 / (~out).sum())
    assert rows < 0.3 * samples < high - low


def test_an_eval_probe_leaves_out_its_own() -> None:
    out = RNG.random(MASKS.shape) < 0.4
    both: dict[str, dict[str, np.ndarray]] = {
        "probe": {"x": IMAGES, "y": MASKS},
        "eval_probe": {"x": IMAGES, "y": without(MASKS, out, 255)},
    }
    report = analysed(pixels(), **both, eval_spec={"ignore_label": 255})
    labels = MASKS[~out]
    with torch.inference_mode():
        u = pixels()(torch.from_numpy(IMAGES)).movedim(1, -1)[~out].numpy()
    held_out = report["held_out"]
    assert held_out["performance"]["accuracy"] == (u.argmax(1) == labels).mean()
    assert held_out["probe"]["class_counts"] == np.bincount(labels).tolist()
    assert held_out["probe"]["ignored"] == out.sum()
    assert report["probe"]["ignored"] is None


def test_a_sample_of_the_probe_is_drawn_from_what_counts() -> None:
    out = np.arange(N) % 3 == 0
    arrays = {"x": X, "y": without(Y, out, 255)}
    report = analysed(classifier(), arrays, spec={"ignore_label": 255}, max_samples=90)
    assert report["probe"]["n"] == sum(report["probe"]["class_counts"]) == 90


def test_what_a_hint_asks_for_may_never_occur() -> None:
    report = analysed(classifier(), {"x": X, "y": Y}, spec={"ignore_label": 255})
    assert report["probe"]["ignored"] == 0
    same(figures(report), figures(analysed(classifier(), {"x": X, "y": Y})))


def test_where_everything_is_left_out_there_is_nothing_to_analyse() -> None:
    failure = refused(classifier(), {"x": X, "y": np.full(N, 255)}, spec={"ignore_label": 255})
    assert failure.code == FailureCode.PROBE_UNREADABLE
    assert "All targets 'y' are 255" in failure.message
