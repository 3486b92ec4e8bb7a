"""Inputs on another scale than in training are noticed; those on the right one never are."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support import Digits, npz
from torch import Tensor, nn

from service.contract.probe_spec import ProbeSpec
from workers.extraction import discover
from workers.probes.probe import load_probe
from workers.protocol.arguments import ProbeLimits

Archive = Callable[..., torch.jit.ScriptModule]
BYTE_SCALE = 1 / 255


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 10))


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def train(model: nn.Module, inputs: Tensor, labels: Tensor, steps: int = 250) -> nn.Module:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(inputs[rows]), labels[rows]).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def rows(digits: Digits) -> tuple[Tensor, Tensor]:
    x, y = digits
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.fixture(scope="module")
def images(rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, y = rows
    return x.reshape(-1, 1, 8, 8), y


@pytest.fixture(scope="module")
def trained_dense(rows: tuple[Tensor, Tensor]) -> nn.Module:
    return train(dense(), *rows)


@pytest.fixture(scope="module")
def trained_convolutional(images: tuple[Tensor, Tensor]) -> nn.Module:
    return train(convolutional(), *images)


def warned(model: nn.Module, batch: Tensor) -> str:
    found = discover(model, (batch,)).feature_map.warnings
    return next((warning for warning in found if warning.startswith("value_range: ")), "")


def transformed(stored: Tensor, **transform: object) -> Tensor:
    content = io.BytesIO(npz(x=stored.numpy(), y=np.arange(len(stored)) % 10))
    spec = ProbeSpec.model_validate({"transform": transform})
    return next(load_probe(content, spec, ProbeLimits()).batches(64))[0][0]


@pytest.fixture(params=["dense", "convolutional"])
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    """A trained network, its training inputs and their labels."""
    inputs = request.getfixturevalue("rows" if request.param == "dense" else "images")
    return request.getfixturevalue(f"trained_{request.param}"), *inputs


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
def test_inputs_as_in_training_are_never_warned_of(
    case: tuple[nn.Module, Tensor, Tensor], how: str, archive: Archive
) -> None:
    net, x, y = case
    model = archive(net, x[:2], how)
    assert [warned(model, batch) for batch in x.split(128)[:10]] == [""] * 10
    of_one_class = [x[y == label][:64] for label in range(10)]
    assert [warned(model, batch) for batch in of_one_class] == [""] * 10


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_bytes_for_a_network_of_fractions_are_warned_of(
    case: tuple[nn.Module, Tensor, Tensor], how: str, archive: Archive
) -> None:
    net, x, y = case
    model = archive(net, x[:2], how)
    stored = (x * 255).round()
    warning = warned(model, stored[:64])
    assert "given values from 0 to 255" in warning
    assert "times as spread as in training; expected about 1" in warning
    assert "divide them by 255 (transform.scale)" in warning
    assert warning.count("?") == 1
    assert all("divide them by 255" in warned(model, stored[y == label]) for label in range(10))
    assert warned(model, transformed(stored[:64], scale=BYTE_SCALE)) == ""


def test_fractions_for_a_network_of_bytes_are_warned_of(
    case: tuple[nn.Module, Tensor, Tensor], archive: Archive
) -> None:
    net, x, y = case
    model = archive(net, x[:2])
    stored = x / 255
    warning = warned(model, stored[:64])
    assert "given values from 0 to 0.003922" in warning
    assert "multiply them by 255 (transform.scale)" in warning
    assert all("multiply them by 255" in warned(model, stored[y == label]) for label in range(10))
    assert warned(model, transformed(stored[:64], scale=255)) == ""


def test_images_that_were_not_normalised_are_warned_of(
    images: tuple[Tensor, Tensor], archive: Archive
) -> None:
    x, y = images
    mean, std = [float(x.mean())], [float(x.std())]
    net = train(convolutional(), (x - mean[0]) / std[0], y)
    model = archive(net, x[:2])
    assert "normalise them as in training" in warned(model, x[:64])
    assert warned(model, transformed(x[:64], mean=mean, std=std)) == ""


@pytest.mark.parametrize("steps", [0, 1, 10, 50])
def test_a_checkpoint_of_the_first_steps_knows_no_scale_yet(
    steps: int, rows: tuple[Tensor, Tensor], archive: Archive
) -> None:
    x, y = rows
    model = archive(train(dense(), x / 16, y, steps), x[:2])
    assert warned(model, x[:64] / 16) == ""


def test_an_untrained_frozen_network_knows_no_scale(
    rows: tuple[Tensor, Tensor], archive: Archive
) -> None:
    x, _ = rows
    net = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10))
    assert warned(archive(net, x[:2], "frozen"), x[:64] / 255) == ""


def test_sparse_counts_are_no_other_scale(archive: Archive) -> None:
    """Of most words a few samples tell nothing, and of some too much."""
    random = np.random.default_rng(0)
    frequency = random.pareto(1.0, 400) * 0.02
    counts = torch.from_numpy(random.poisson(frequency, (3000, 400))).float()
    net = nn.Sequential(nn.BatchNorm1d(400), nn.Linear(400, 32), nn.ReLU(), nn.Linear(32, 10))
    model = archive(train(net, counts, torch.arange(3000) % 10), counts[:2])
    assert [warned(model, batch) for batch in counts.split(128)] == [""] * 24


def test_a_column_of_outliers_is_no_other_scale(archive: Archive) -> None:
    torch.manual_seed(0)
    table = torch.randn(3000, 20)
    table[:, 0] = (3 * table[:, 0]).exp()
    net = nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 10))
    model = archive(train(net, table, torch.arange(3000) % 10), table[:2])
    by_largest = table[table[:, 0].argsort(descending=True)]
    assert [warned(model, batch) for batch in (by_largest[:64], *table.split(64))] == [""] * 48


@pytest.mark.parametrize("batch", [torch.full((16, 64), 0.3), torch.rand(4, 64) / 255])
def test_samples_that_tell_nothing_are_not_judged(
    batch: Tensor, trained_dense: nn.Module, archive: Archive
) -> None:
    assert warned(archive(trained_dense, batch), batch) == ""


class Accumulating(nn.Module):
    """Adds to what its batch norm has seen, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 32)
        self.norm = nn.BatchNorm1d(32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        normalised = torch.relu(self.norm(h))
        h += 100 * normalised
        return self.fc(h)


def test_what_was_overwritten_is_not_judged(rows: tuple[Tensor, Tensor], archive: Archive) -> None:
    x, y = rows
    net = train(Accumulating(), x, y, steps=0)
    for _ in range(200):
        net.norm.train()(net.stem(x[:256]))
    assert warned(archive(net.eval(), x[:2]), x[:64]) == ""


# -- without a batch norm --------------------------------------------------------------------


class Scaling(nn.Module):
    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = nn.Identity() if layer is None else layer
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.layer(x.flatten(1) / 255)))


class Subtracting(Scaling):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.layer(x.flatten(1) - 127.5)))


class Direct(Scaling):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.layer(x.flatten(1))))


def two_layers() -> nn.Module:
    return Direct(nn.Linear(64, 64))


def byte_images(*shape: int) -> Tensor:
    return torch.randint(256, shape).float()


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
@pytest.mark.parametrize("shape", [(20, 1, 8, 8), (20, 8, 8), (20, 64)])
def test_unscaled_bytes_are_asked_about(shape: tuple[int, ...], how: str, archive: Archive) -> None:
    stored = byte_images(*shape)
    model = archive(two_layers(), stored[:2], how)
    warning = warned(model, stored)
    assert f"given values from {stored.min():.0f} to {stored.max():.0f}, like bytes" in warning
    assert "Was it trained on such values?" in warning
    assert 'transform.scale "1/255"' in warning
    assert warned(model, transformed(stored, scale=BYTE_SCALE)) == ""


@pytest.mark.parametrize(
    "make",
    [
        Scaling,
        Subtracting,
        lambda: Direct(nn.LayerNorm(64)),
        lambda: Direct(nn.GroupNorm(1, 64)),
    ],
)
def test_a_model_that_scales_its_inputs_is_not_asked(
    make: Callable[[], nn.Module], archive: Archive
) -> None:
    stored = byte_images(20, 1, 8, 8)
    assert warned(archive(make(), stored[:2]), stored) == ""


random = np.random.default_rng(0)
LEGITIMATE = {
    "sixteen grey levels": torch.randint(17, (20, 1, 8, 8)),
    "fractions": torch.rand(20, 1, 8, 8),
    "normalised": torch.randn(20, 1, 8, 8),
    "indicators": torch.randint(2, (20, 64)),
    "counts": torch.from_numpy(random.poisson(3, (200, 64))),
    "larger than bytes": torch.randint(1000, (20, 64)),
    "signed": torch.randint(-128, 128, (20, 64)),
    "half steps": torch.randint(511, (20, 64)) / 2,
    "a few columns of large numbers": torch.cat(
        [torch.randint(200, (20, 10)), torch.randint(10, (20, 54))], dim=1
    ),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_other_numbers_are_not_taken_for_bytes(name: str, archive: Archive) -> None:
    stored = LEGITIMATE[name].float()
    assert warned(archive(two_layers(), stored[:2]), stored) == ""


def test_a_narrow_table_is_not_taken_for_an_image(archive: Archive) -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))
    assert warned(archive(net, torch.rand(2, 8)), byte_images(20, 8)) == ""
