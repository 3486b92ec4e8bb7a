from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reproduction.catalogue import DEFAULT, FULL, Experiment
from reproduction.data import Addition, Images, Problem, Samples
from reproduction.networks import convolutional
from reproduction.training import Recipe, train

SHAPES = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
}
# One experiment for each network; partial objects tell by their repr what they build.
DISTINCT = list({repr(each.network): each for each in (*FULL, *DEFAULT)}.values())


def noise(shape: tuple[int, ...], n: int, classes: int = 10) -> Problem:
    """Images that hold nothing, and labels."""
    random = np.random.default_rng(0)
    images = Samples(random.integers(0, 256, (n, *shape), np.uint8), np.arange(n) % classes)
    channels = shape[-1]
    transform = {"mean": [0.5] * channels, "std": [0.3] * channels}
    return Problem(images, {"train": images, "test": images}, transform)


def small() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return convolutional((1, 8), (4,), 16, 3, norm=True)


def load(file: Path) -> torch.jit.ScriptModule:
    return torch.jit.load(file)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_archive_is_kept_for_each_checkpoint_and_training_fits(tmp_path: Path) -> None:
    problem, said = noise((8, 8, 1), 48, 3), []
    train(small(), problem, Recipe((0, 30), batch=16), tmp_path, said.append)
    x = (torch.from_numpy(problem.training.x).permute(0, 3, 1, 2) / 255 - 0.5) / 0.3
    y = torch.from_numpy(problem.training.y)
    before, after = (
        (load(tmp_path / f"{epoch}.pt")(x).argmax(1) == y).float().mean() for epoch in (0, 30)
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.pt", "30.pt"]
    assert before < 0.6
    assert after > 0.95
    assert said[-1].startswith("epoch 30 of 30, loss ")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_frozen_features_stay_while_the_head_learns(tmp_path: Path) -> None:
    recipe = Recipe((0, 5), "adamw", lr=0.01, frozen=True)
    train(small(), noise((8, 8, 1), 48, 3), recipe, tmp_path, lambda _: None)
    before, after = (load(tmp_path / f"{epoch}.pt").state_dict() for epoch in (0, 5))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    *_, bias = before
    assert changed == {bias, bias.replace("bias", "weight")}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("experiment", DISTINCT, ids=lambda each: each.name)
def test_every_network_takes_a_step_on_its_data_and_can_be_saved(
    experiment: Experiment, tmp_path: Path
) -> None:
    source = experiment.source
    if isinstance(source, Images):
        problem = noise(SHAPES[source.dataset], 2)
    else:
        assert isinstance(source, Addition)
        problem = source.load(tmp_path)
        problem = replace(problem, training=problem.training.first(4))
    model = experiment.network()
    train(model, problem, replace(experiment.recipe, checkpoints=(1,)), tmp_path, lambda _: None)
    archived = load(tmp_path / "1.pt")
    assert all(parameter.isfinite().all() for parameter in archived.parameters())


def test_names_tell_experiments_apart_and_what_is_expected_is_looked_at() -> None:
    for catalogue in (DEFAULT, FULL):
        names = [experiment.name for experiment in catalogue]
        assert len(set(names)) == len(names)
        for experiment in catalogue:
            assert set(experiment.expected) <= set(experiment.recipe.checkpoints)
