"""Values that a model was not trained on are warned of, whoever decided them; others never are."""

from typing import Any

import numpy as np
import pytest
import torch
from analysed import analysed
from support import Digits
from torch import Tensor, nn

MEAN, STD = 0.3, 0.37


def dense() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 10)
    )


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def normless() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


SCALED = {
    "0 to 1": lambda x: x,
    "-1 to 1": lambda x: 2 * x - 1,
    "normalised": lambda x: (x - MEAN) / STD,
    "0 to 255": lambda x: 255 * x,
}


@pytest.fixture(scope="module")
def images(digits: Digits) -> tuple[np.ndarray, np.ndarray]:
    x, y = digits
    return x.reshape(-1, 1, 8, 8), y


def trained(model: nn.Sequential, x: np.ndarray, y: np.ndarray) -> nn.Sequential:
    torch.manual_seed(0)
    inputs, labels = torch.tensor(x[:1200]), torch.tensor(y[:1200])
    optimizer = torch.optim.Adam(model.train().parameters(), lr=3e-3)
    for _ in range(150):
        rows = torch.randint(1200, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()
    return model.eval()


def warned(report: dict[str, Any]) -> list[str]:
    return [w for w in report["feature_map"]["warnings"] if w.startswith("value_range")]


@pytest.mark.parametrize("kind", [dense, convolutional])
@pytest.mark.parametrize("in_training", SCALED)
@pytest.mark.parametrize("order", ["mixed", "by class"])
def test_another_scale_than_in_training_is_warned_of(
    images: tuple[np.ndarray, np.ndarray], kind: Any, in_training: str, order: str
) -> None:
    x, y = images
    model = trained(kind(), SCALED[in_training](x).astype("f4"), y)
    rows = np.arange(1200, 1797)
    if order == "by class":
        rows = rows[np.argsort(y[rows], kind="stable")]
    for given, scale in SCALED.items():
        arrays = {"x": scale(x[rows]).astype("f4"), "y": y[rows]}
        found = warned(analysed(model, arrays))
        assert len(found) == (given != in_training), (given, found)


# All that the images' 17 grey levels are.
BYTES = np.float32(255 / 16)


@pytest.mark.parametrize(
    ("factor", "transform"),
    [
        (255, {"mean": [MEAN], "std": [STD]}),
        (255, {"scale": 1, "mean": [MEAN], "std": [STD]}),
        (1, {"mean": [255 * MEAN], "std": [255 * STD]}),
        (255, {"scale": "1/255", "mean": [255 * MEAN], "std": [255 * STD]}),
    ],
)
def test_a_mean_and_std_of_other_values_are_warned_of(
    images: tuple[np.ndarray, np.ndarray], factor: int, transform: dict[str, Any]
) -> None:
    x, y = images
    spec = {"transform": transform}
    (warning,) = warned(analysed(normless(), {"x": x * np.float32(factor), "y": y}, spec=spec))
    assert "with the mean and std of the spec, the model is given 'x' with values from" in warning
    right = {"mean": [MEAN], "std": [STD], "scale": 1 / factor}
    given = {"x": x * np.float32(factor), "y": y}
    assert warned(analysed(normless(), given, spec={"transform": right})) == []


@pytest.mark.parametrize("transform", [None, {"scale": 1}])
def test_an_eval_probe_on_another_scale_is_warned_of(
    images: tuple[np.ndarray, np.ndarray], transform: dict[str, Any] | None
) -> None:
    x, y = images
    first = {"x": x[:900], "y": y[:900]}
    second = {"x": x[900:] * 255, "y": y[900:]}
    eval_spec = None if transform is None else {"transform": transform}
    report = analysed(normless(), first, eval_probe=second, eval_spec=eval_spec)
    (warning,) = warned(report)
    assert warning.startswith("value_range: Of the eval probe: the model is given 'x' with values")
    likewise = {"x": x[900:], "y": y[900:]}
    assert warned(analysed(normless(), first, eval_probe=likewise)) == []


def test_images_of_floats_to_255_that_are_not_whole_look_unscaled(
    images: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = images
    resized = nn.functional.interpolate(torch.tensor(x) * 255, size=12, mode="bilinear").clip(
        0, 255
    )
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10))
    (warning,) = warned(analysed(model, {"x": resized.numpy(), "y": y}))
    assert "like" in warning
    assert warned(analysed(model, {"x": resized.numpy() / 255, "y": y})) == []


def test_an_array_of_all_zeros_is_no_normalised_one() -> None:
    zeros: Tensor = torch.zeros(60, 1, 8, 8)
    spec = {"transform": {"mean": [0.5], "std": [0.5]}}
    arrays = {"x": zeros.numpy(), "y": np.arange(60) % 10}
    assert len(warned(analysed(normless(), arrays, spec=spec))) == 1
