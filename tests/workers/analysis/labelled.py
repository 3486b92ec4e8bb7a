"""Labels of all kinds, networks for them, and what is true of both in eager mode."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

Spec = dict[str, Any]
Arrays = dict[str, np.ndarray]

N, CLASSES = 240, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 12)).astype(np.float32)
Y = RNG.permutation(np.arange(N) % CLASSES)
BINARY = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(np.int64)
NAMES = np.array(["dog", "ant", "cat", "bee"])
ALPHABETICAL = np.unique(NAMES, return_inverse=True)[1]
ONE_HOT = np.eye(CLASSES)[Y]
MULTI_HOT = X[:, :3] > 0.2
IMAGES = RNG.standard_normal((60, 3, 6, 5)).astype(np.float32)
MASKS = RNG.integers(0, 2, (60, 6, 5))


def network(outputs: int, *tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, outputs), *tail)


def pixels(outputs: int, *tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, outputs, 1), *tail)


@torch.inference_mode()
def truth(model: nn.Sequential, x: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Accuracy, and the mean feature of each class: it tells which labels went where."""
    features = model[:2](torch.from_numpy(x))
    outputs = model[2](features)
    if outputs.ndim > 2:
        features, outputs = (maps.movedim(1, -1).flatten(0, 2) for maps in (features, outputs))
    predicted = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    right = predicted.numpy() == labels.reshape(-1)
    phi = features.double().numpy()
    targets = np.eye(labels.max() + 1)[labels.reshape(-1)]
    targets, phi = targets - targets.mean(0), phi - phi.mean(0)
    kernel = np.linalg.norm(phi.T @ targets) ** 2
    return right.mean(), kernel / np.linalg.norm(phi.T @ phi) / np.linalg.norm(targets.T @ targets)


def check(
    report: dict[str, Any], model: nn.Sequential, labels: np.ndarray, x: np.ndarray = X
) -> None:
    accuracy, alignment = truth(model, x, labels)
    assert report["probe"]["task"] == "classification"
    assert report["probe"]["class_counts"] == np.bincount(labels.reshape(-1)).tolist()
    assert report["performance"]["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert report["alignment"]["cka_target"] == pytest.approx(alignment, rel=1e-5)
