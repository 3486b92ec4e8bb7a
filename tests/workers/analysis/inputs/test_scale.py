"""What whole numbers mean to a model: proved by values or model, or asked for with what was tried.

Truth is the model's own features in eager mode.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from giving import close, give, refused, specs_in
from support import exported, scripted, traced
from torch import Tensor, nn

ROWS = 60
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (ROWS, 3, 8, 8), dtype=np.uint8)
GREY = RNG.integers(0, 256, (ROWS, 1, 8, 8), dtype=np.uint8)
TABLE = RNG.integers(0, 256, (ROWS, 12), dtype=np.uint8)
BITS = (RNG.random((ROWS, 12)) < 0.3).astype(np.uint8)
LABELS = np.arange(ROWS) % 4
UNIT = 1 / 255


class Pictures(nn.Module):
    """A convolutional network that may do something to its input first."""

    def __init__(self, first: Callable[[Tensor], Tensor] | None = None, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = first
        self.conv = nn.Conv2d(channels, 8, 3)
        self.head = nn.Linear(8, 4)

    def phi(self, x: Tensor) -> Tensor:
        if self.first is not None:
            x = self.first(x)
        return torch.relu(self.conv(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


class Vectors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(12, 16)
        self.head = nn.Linear(16, 4)

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


def truth(model: Any, x: np.ndarray | Tensor, scale: float = 1.0) -> Tensor:
    with torch.inference_mode():
        return model.eval().phi(torch.as_tensor(x).float() * scale)


BITS_OF_ALL_KINDS = {
    "fingerprints": BITS,
    "one-hot sequences": np.eye(4, dtype=np.uint8)[RNG.integers(0, 4, (ROWS, 3))].reshape(ROWS, 12),
    "bits as bool": BITS.astype(bool),
    "bits as int8": BITS.astype(np.int8),
    "bits as int64": BITS.astype(np.int64),
    "bits as float64": BITS.astype(np.float64),
    "bits as uint16": BITS.astype(np.uint16),
    "counts as uint32": BITS.astype(np.uint32) * 9,
    "counts as int16": BITS.astype(np.int16) * 300,
    "counts as uint16": BITS.astype(np.uint16) * 300,
}


@pytest.mark.parametrize("kind", BITS_OF_ALL_KINDS)
@pytest.mark.parametrize("how", ["scripted", "traced", "exported"])
def test_numbers_that_are_no_pixels_stay_what_they_are(kind: str, how: str) -> None:
    model, x = Vectors(), BITS_OF_ALL_KINDS[kind]
    example = torch.zeros(3, 12)
    save = {"scripted": lambda: scripted(model), "traced": lambda: traced(model, example)}
    content = save.get(how, lambda: exported(model, example))()
    assert close(give(content, x=x, y=LABELS).phi, truth(model, x.astype(np.float64)))


def test_binarised_pictures_are_not_divided() -> None:
    model, x = Pictures(channels=1), (GREY > 128).astype(np.uint8)
    given = give(model, x=x, y=LABELS)
    assert close(given.phi, truth(model, x))
    assert "holds nothing but 0 and 1, so these are no pixels" in given.done


TAKE_BYTES: dict[str, Callable[[Tensor], Tensor]] = {
    "divides": lambda x: x / 255,
    "divides after a cast": lambda x: x.float() / 255.0,
    "multiplies": lambda x: x * (1 / 255),
    "divides and normalises": lambda x: (x.float() / 255 - 0.5) / 0.25,
    "normalises by channel": lambda x: (x - MEANS * 255) / (DEVIATIONS * 255),
    "subtracts the middle": lambda x: (x - 127.5) / 127.5,
    "subtracts a mean only": lambda x: x - MEANS * 255,
    "permutes first": lambda x: x.flip(1).permute(0, 1, 3, 2) / 256,
}
TAKE_UNITS: dict[str, Callable[[Tensor], Tensor]] = {
    "centres": lambda x: x * 2 - 1,
    "normalises": lambda x: (x - 0.5) / 0.5,
    "normalises by channel": lambda x: (x - MEANS) / DEVIATIONS,
    "subtracts a mean": lambda x: x - MEANS,
    "grey statistics": lambda x: (x - 0.1307) / 0.3081,
    "mean is taken away by rsub": lambda x: -(0.5 - x) / 0.5,
}
MEANS = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
DEVIATIONS = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)


@pytest.mark.parametrize("first", TAKE_BYTES)
def test_a_model_that_scales_bytes_itself_gets_bytes(first: str) -> None:
    model = Pictures(TAKE_BYTES[first])
    given = give(traced(model, torch.zeros(3, 3, 8, 8)), x=PICTURES, y=LABELS)
    assert close(given.phi, truth(model, PICTURES))
    assert "the model scales it itself" in given.done


@pytest.mark.parametrize("first", TAKE_UNITS)
def test_a_model_that_normalises_values_from_0_to_1_gets_those(first: str) -> None:
    model = Pictures(TAKE_UNITS[first])
    given = give(traced(model, torch.zeros(3, 3, 8, 8)), x=PICTURES, y=LABELS)
    assert close(given.phi, truth(model, PICTURES, UNIT))
    assert "÷ 255" in given.done
    assert "as values from 0 to 1" in given.done


class Normed(nn.Module):
    """A network whose batch norm remembers what it was trained on."""

    def __init__(self, scale: float, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 4)
        self.train()
        for _ in range(120):
            self((torch.from_numpy(PICTURES).float() * scale - mean) / std)
        self.eval()

    def phi(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


@pytest.mark.parametrize("scale", [1.0, UNIT])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_a_batch_norm_tells_the_scale(scale: float, layout: str) -> None:
    model = Normed(scale)
    stored = PICTURES if layout == "channels first" else PICTURES.transpose(0, 2, 3, 1)
    given = give(model, x=stored, y=LABELS)
    assert close(given.phi, truth(model, PICTURES, scale))
    assert "batch norm" in given.done
    assert ("÷ 255" in given.done) == (scale != 1)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (Pictures(), PICTURES),
        (Pictures(channels=1), GREY),
        (Pictures(), PICTURES.transpose(0, 2, 3, 1)),
        (Vectors(), TABLE),
        (Pictures(channels=1), (GREY // 16)),
        (Pictures(torch.abs), PICTURES),
        (Pictures(lambda x: x * 0.05), PICTURES),
        (Pictures(lambda x: 1 - x), PICTURES),
        (Pictures(lambda x: x / 4), PICTURES),
        (Pictures(lambda x: x / 28), PICTURES),
        (Pictures(lambda x: torch.log(x + 1e-6)), PICTURES),
        (Pictures(lambda x: 2 * torch.sqrt(x + 3 / 8)), PICTURES),
        (Pictures(lambda x: x + 0.5), PICTURES),
        (Pictures(lambda x: x.flip(1) + 0.05 * x), PICTURES),
        (Pictures(lambda x: torch.sin(x) + x / 255), PICTURES),
        (Normed(0.01), PICTURES),
    ],
)
def test_what_does_not_show_is_asked_and_both_answers_work(model: nn.Module, x: np.ndarray) -> None:
    archive = traced(model, torch.zeros(3, 12 if x.ndim == 2 else 1 if x.shape[1] == 1 else 3, 8, 8)
                     if x.ndim > 2 else torch.zeros(3, 12))  # fmt: skip
    failure = refused(archive, x=x, y=LABELS)
    assert (failure.code, failure.detail["code"]) == ("input_mismatch", "ambiguous_input")
    specs = specs_in(failure.hint)
    assert [spec["transform"]["scale"] for spec in specs] == ["1/255", 1]
    channels_first = x.transpose(0, 3, 1, 2) if x.shape[-1] == 3 else x
    for spec, scale in zip(specs, (UNIT, 1.0), strict=True):
        given = give(archive, spec, x=x, y=LABELS)
        assert close(given.phi, truth(model, channels_first, scale))
        assert "as the probe's spec says" in given.done


def test_wide_pixels_are_asked_about_too() -> None:
    deep = PICTURES.astype(np.uint16) * 257
    failure = refused(Pictures(), x=deep, y=LABELS)
    scales = [spec["transform"]["scale"] for spec in specs_in(failure.hint)]
    assert scales == ["1/65535", 1]


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.6), (0.5, 1.0), (0.1307, 0.3081), (0.5, 0.5)])
def test_a_batch_norm_that_saw_normalised_inputs_shows_neither_scale(
    mean: float, std: float
) -> None:
    model = Normed(UNIT, mean, std)
    failure = refused(model, x=PICTURES, y=LABELS)
    assert "Add mean and std" in str(failure.hint)
    given = give(model, {"transform": {"mean": [mean], "std": [std]}}, x=PICTURES, y=LABELS)
    assert close(given.phi, truth(model, (torch.from_numpy(PICTURES) / 255 - mean) / std))


def test_mean_and_std_of_counts_are_theirs() -> None:
    counts = RNG.poisson(0.4, (ROWS, 12)).astype(np.uint8)
    mean, std = float(counts.mean()), float(counts.std())
    model = Vectors()
    given = give(model, {"transform": {"mean": [mean], "std": [std]}}, x=counts, y=LABELS)
    assert close(given.phi, truth(model, (torch.from_numpy(counts) - mean) / std))
    assert "as they are stored" in given.done


def test_what_is_suggested_for_bytes_leaves_the_question_of_their_scale() -> None:
    model = traced(nn.Sequential(nn.Flatten(2, 3), nn.Conv1d(3, 8, 3), nn.ReLU(),
                                 nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4)),
                   torch.zeros(3, 3, 8, 8))  # fmt: skip
    wide = PICTURES.transpose(0, 2, 1, 3)  # channels in the middle, which nobody expects
    first = refused(model, x=PICTURES.transpose(0, 2, 3, 1), y=LABELS)
    assert [spec["transform"]["scale"] for spec in specs_in(first.hint)] == ["1/255", 1]
    other = refused(model, x=wide.astype(np.float32), y=LABELS)
    assert "dtype" not in str(other.hint)


class Sound(nn.Module):
    """Takes waves from -1 to 1, or makes them of what it is given."""

    def __init__(self, divisor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.divisor = divisor
        self.conv = nn.Conv1d(1, 8, 9, stride=4)
        self.head = nn.Linear(8, 4)

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv((x / self.divisor)[:, None])).mean(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


WAVES = RNG.integers(-20000, 20000, (ROWS, 400), dtype=np.int16)


def test_sound_in_16_bits_is_asked_about_unless_the_model_divides_it() -> None:
    model = Sound(32768.0)
    given = give(model, x=WAVES, y=LABELS)
    assert close(given.phi, truth(model, WAVES))
    assert "the model scales it itself" in given.done
    model = Sound(1.0)
    archive = traced(nn.Sequential(nn.Unflatten(1, (1, 400)), model.conv, nn.ReLU(),
                                   nn.AdaptiveAvgPool1d(1), nn.Flatten(), model.head),
                     torch.zeros(3, 400))  # fmt: skip
    for spec, scale in zip(
        specs_in(refused(archive, x=WAVES, y=LABELS).hint), (1 / 32768, 1), strict=True
    ):
        assert close(give(archive, spec, x=WAVES, y=LABELS).phi, truth(model, WAVES, scale))


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint16"])
def test_pixels_in_wider_integers_are_asked_about_too(dtype: str) -> None:
    failure = refused(Pictures(), x=PICTURES.astype(dtype), y=LABELS)
    scales = [spec["transform"]["scale"] for spec in specs_in(failure.hint)]
    assert scales == ["1/255", 1]


def test_flattened_pixels_in_wide_integers_are_asked_about() -> None:
    class Wide(Vectors):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(192, 16)

    flat = PICTURES.reshape(ROWS, -1).astype(np.int64)
    scales = [spec["transform"]["scale"] for spec in specs_in(refused(Wide(), x=flat).hint)]
    assert scales == ["1/255", 1]


def test_bytes_stored_as_floats_reach_a_program_of_bytes() -> None:
    model = Pictures(lambda x: x.float() / 255)
    content = exported(model, torch.zeros(3, 3, 8, 8, dtype=torch.uint8))
    given = give(content, x=PICTURES.astype(np.float32), y=LABELS)
    assert close(given.phi, truth(model, PICTURES))


class Flat(nn.Module):
    """Takes pixels in whatever order it is given them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(192, 16)
        self.head = nn.Linear(16, 4)

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x.flatten(1) / 255))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint32"])
def test_wide_pixels_with_channels_last_are_asked_about_at_once(dtype: str) -> None:
    model, x = Flat(), PICTURES.transpose(0, 2, 3, 1).astype(dtype)
    (spec, other) = specs_in(refused(model, x=x, y=LABELS).hint)
    assert [each["transform"]["layout"] for each in (spec, other)] == ["NHWC->NCHW", "NHWC->NHWC"]
    assert close(give(model, spec, x=x, y=LABELS).phi, truth(model, PICTURES))


def test_floats_with_channels_last_are_asked_about_where_both_orders_run() -> None:
    model, x = Flat(), (PICTURES.transpose(0, 2, 3, 1) / 255).astype("f4")
    specs = specs_in(refused(model, x=x, y=LABELS).hint)
    assert [spec["transform"].get("layout") for spec in specs] == ["NHWC->NHWC", "NHWC->NCHW"]
    for spec, stored in zip(specs, (x, x.transpose(0, 3, 1, 2).copy()), strict=True):
        assert close(give(model, spec, x=x, y=LABELS).phi, truth(model, stored))
    mean = {"transform": {"mean": [0.5], "std": [0.5]}}
    for spec in specs_in(refused(model, mean, x=x, y=LABELS).hint):
        give(model, spec, x=x, y=LABELS)


def test_the_order_of_pixels_is_asked_for_where_both_run() -> None:
    model, x = Flat(), PICTURES.transpose(0, 2, 3, 1)
    specs = specs_in(refused(model, x=x, y=LABELS).hint)
    assert [spec["transform"].get("layout") for spec in specs] == ["NHWC->NCHW", "NHWC->NHWC"]
    for spec, stored in zip(specs, (PICTURES, np.ascontiguousarray(x)), strict=True):
        assert close(give(model, spec, x=x, y=LABELS).phi, truth(model, stored))


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({"mean": [0.5], "std": [0.25]}, lambda x: (x / 255 - 0.5) / 0.25),
        ({"mean": [0.5, 0.4, 0.3]}, lambda x: x / 255 - MIXED),
        ({"mean": [127.5], "std": [127.5]}, lambda x: (x - 127.5) / 127.5),
        ({"scale": 1, "mean": [0.5], "std": [0.25]}, lambda x: (x - 0.5) / 0.25),
        ({"scale": "1/255", "mean": [0.5]}, lambda x: x / 255 - 0.5),
        ({"scale": 1}, lambda x: x),
        ({"dtype": "float32", "scale": 1}, lambda x: x),
        ({}, lambda x: x),
    ],
)
def test_what_the_spec_says_is_done(
    transform: dict[str, Any], expected: Callable[[Tensor], Tensor]
) -> None:
    model = Pictures()
    given = give(model, {"transform": transform}, x=PICTURES, y=LABELS)
    assert close(given.phi, truth(model, expected(torch.from_numpy(PICTURES).double())))


MIXED = torch.tensor([0.5, 0.4, 0.3]).reshape(3, 1, 1)


class Bytes(nn.Module):
    """Byte tokens, looked up or made indicators of."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.table = nn.Embedding(256, 8)
        self.head = nn.Linear(8, 4)

    def phi(self, x: Tensor) -> Tensor:
        if self.how == "cast":
            x = x.long()
        if self.how == "indicators":
            return (nn.functional.one_hot(x.long(), 256).float() @ self.table.weight).mean(1)
        return self.table(x).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


@pytest.mark.parametrize("how", ["looked up", "cast", "indicators"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32", "float64"])
def test_tokens_of_any_number_type_reach_the_table(how: str, dtype: str) -> None:
    model = Bytes(how)
    with torch.inference_mode():
        expected = model.phi(torch.from_numpy(TABLE).long())
    assert close(give(model, x=TABLE.astype(dtype), y=LABELS).phi, expected)


@pytest.mark.parametrize(
    ("stored", "weights"),
    list(itertools.product(["float16", "float32", "float64"], ["float16", "bfloat16", "float64"])),
)
def test_the_dtype_follows_the_model(stored: str, weights: str) -> None:
    model = Vectors().to(getattr(torch, weights))
    x = RNG.standard_normal((ROWS, 12)).astype(stored)
    given = give(model, x=x, y=LABELS)
    with torch.inference_mode():
        expected = model.phi(torch.from_numpy(x).to(getattr(torch, weights)))
    assert close(given.phi.double(), expected.double(), 1e-2 if weights != "float64" else 1e-12)
    assert given.fitted.inputs[0].transform.dtype in {None, weights}
