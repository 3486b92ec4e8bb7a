"""Values that a model was not trained on are warned of, whoever decided them; others never are."""

from typing import Any

import numpy as np
import pytest
import torch
from analysed import analysed
from support import Digits, scripted
from torch import Tensor, nn

from workers.analysis.inputs import plausible

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


@pytest.mark.parametrize("std", [{}, {"std": [1]}])
def test_a_mean_alone_makes_no_deviation_of_one(
    images: tuple[np.ndarray, np.ndarray], std: dict[str, Any]
) -> None:
    x, y = images
    arrays = {"x": 255 * x, "y": y}
    spec = {"transform": {"scale": 1, "mean": [255 * MEAN], **std}}
    assert warned(analysed(normless(), arrays, spec=spec)) == []
    spec = {"transform": {"mean": [255 * MEAN], **std}}
    assert len(warned(analysed(normless(), {"x": x, "y": y}, spec=spec))) == 1


@pytest.mark.parametrize("rows", [50, 100, 300])
def test_few_rows_of_long_tailed_columns_are_no_other_scale(rows: int) -> None:
    for seed in range(6):
        random = np.random.default_rng(seed)
        x = random.lognormal(0, 1, (3000 + rows, 8)).astype("f4")
        y = (x[:, 0] > x[:, 1]).astype(int)
        norm = nn.BatchNorm1d(8)
        model = nn.Sequential(norm, nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        norm.running_mean = torch.tensor(x[:3000].mean(0))
        norm.running_var = torch.tensor(x[:3000].var(0))
        norm.num_batches_tracked.fill_(1000)
        assert warned(analysed(model.eval(), {"x": x[3000:], "y": y[3000:]})) == []
        assert len(warned(analysed(model.eval(), {"x": 10 * x[3000:], "y": y[3000:]}))) == 1


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


class Divides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = normless()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.float() / 255)


class Normalises(Divides):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - 0.45) / 0.25)


@pytest.mark.parametrize(
    ("model", "factor", "transform", "is_right"),
    [
        (Divides(), 255, None, True),
        (Divides(), 1, None, False),
        (Divides(), 255, {"scale": "1/255"}, False),
        (Divides(), 255, {"mean": [0.3], "std": [0.4], "scale": "1/255"}, False),
        (Normalises(), 1, None, True),
        (Normalises(), 255, {"scale": "1/255"}, True),
        (Normalises(), 255, None, False),
        (Normalises(), 1, {"mean": [0.3], "std": [0.4]}, False),
    ],
)
def test_what_a_model_does_itself_is_not_done_twice_without_a_word(
    images: tuple[np.ndarray, np.ndarray],
    model: nn.Module,
    factor: int,
    transform: dict[str, Any] | None,
    is_right: bool,
) -> None:
    x, y = images
    spec = {} if transform is None else {"transform": transform}
    found = warned(analysed(model, {"x": x * np.float32(factor), "y": y}, spec=spec))
    assert len(found) == (not is_right), found
    assert is_right or "the model itself does x ·" in found[0]


@pytest.mark.parametrize(
    ("kind", "held", "expected"),
    [(normless, 1 << 28, [16]), (dense, 1 << 28, [16, 256]), (dense, 1, [16])],
)
def test_many_samples_are_only_run_for_a_norm_and_where_memory_allows(
    images: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    held: int,
    expected: list[int],
) -> None:
    x, y = images
    model = trained(kind(), x, y)
    run, rows = plausible._recorded, list[int]()
    monkeypatch.setattr(plausible, "_HELD_BYTES", held)
    monkeypatch.setattr(plausible, "_recorded", lambda *given: rows.append(given[2]) or run(*given))
    assert warned(analysed(model, {"x": x[1200:], "y": y[1200:]})) == []
    assert rows == expected


def test_bytes_that_are_multiplied_are_warned_of(images: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = images
    arrays = {"x": (255 * x).astype("u1"), "y": y}
    archive = scripted(normless().eval())
    (warning,) = warned(analysed(archive, arrays, spec={"transform": {"scale": 255}}))
    assert 'Was "scale": "1/255" meant?' in warning
