from pathlib import Path

import numpy as np
import pytest

from reproduction.data import Addition, DataError, Images, Samples, with_cue

N = 40


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with `mnist.npz`: 40 training and 20 test images of 6×6 pixels."""
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "mnist.npz",
        x_train=random.integers(0, 256, (N, 6, 6, 1), np.uint8),
        y_train=np.arange(N) % 10,
        x_test=random.integers(0, 256, (20, 6, 6, 1), np.uint8),
        y_test=np.arange(20)[:, None] % 10,
    )
    return tmp_path


def test_images_are_split_and_standardised_by_what_is_trained_on(directory: Path) -> None:
    problem = Images("mnist", 30).load(directory)
    assert len(problem.training) == 30
    assert problem.probes["train"].x.shape == (30, 6, 6, 1)
    assert problem.probes["test"].y.tolist() == [k % 10 for k in range(20)]
    shares = problem.training.x / 255
    assert problem.transform["mean"] == [pytest.approx(shares.mean())]
    assert problem.transform["std"] == [pytest.approx(shares.std())]


def test_shuffled_labels_are_the_same_labels_elsewhere_and_the_test_ones_are_true(
    directory: Path,
) -> None:
    true, shuffled = (
        Images("mnist").load(directory),
        Images("mnist", None, "shuffled").load(directory),
    )
    assert sorted(shuffled.training.y) == sorted(true.training.y)
    assert shuffled.training.y.tolist() != true.training.y.tolist()
    assert shuffled.probes["train"].y.tolist() == shuffled.training.y.tolist()
    assert shuffled.probes["test"].y.tolist() == true.probes["test"].y.tolist()


def test_a_cue_tells_the_label_and_nothing_else_changes() -> None:
    images = np.full((10, 6, 6, 3), 7, np.uint8)
    cued = with_cue(Samples(images, np.arange(10)))
    patch = cued.x[:, :2, :5, 0].reshape(10, 10)
    assert patch.argmax(1).tolist() == list(range(10))
    assert (patch.sum(1) == 255).all()
    assert (cued.x[:, 2:] == 7).all()
    assert (images == 7).all()


def test_a_cued_problem_is_probed_with_and_without_it(directory: Path) -> None:
    problem = Images("mnist", None, "cue").load(directory)
    assert set(problem.probes) == {"train", "test", "test with cue"}
    assert (problem.probes["test"].x != problem.probes["test with cue"].x).any()


def test_a_subset_stands_in_for_the_whole_and_what_is_missing_is_named(directory: Path) -> None:
    assert Images("cifar10").missing(directory) == "cifar10.npz"
    (directory / "mnist.npz").rename(directory / "cifar10_subset.npz")
    assert Images("cifar10").missing(directory) is None
    assert len(Images("cifar10").load(directory).training) == N


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x_train": np.zeros((2, 4, 4, 1), np.uint8)}, "lacks y_train, x_test, y_test"),
        (
            {
                "x_train": np.zeros((2, 4, 4), np.uint8),
                "y_train": np.zeros(2),
                "x_test": np.zeros((2, 4, 4, 1), np.uint8),
                "y_test": np.zeros(2),
            },
            r"x_train is uint8 \(2, 4, 4\) with 2 labels; expected uint8 images",
        ),
    ],
)
def test_a_file_of_another_make_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(DataError, match=said):
        Images("mnist").load(tmp_path)


def test_addition_is_every_pair_once_and_splits_them(tmp_path: Path) -> None:
    problem = Addition(7, 0.4).load(tmp_path)
    train, test, every = (problem.probes[name] for name in ("train", "test", "all"))
    assert len(every) == 49
    assert (every.y == every.x.sum(1) % 7).all()
    pairs = [tuple(pair) for pair in np.concatenate([train.x, test.x])]
    assert len(train) == 20
    assert len(set(pairs)) == len(pairs) == 49
    assert problem.training.x.tolist() == train.x.tolist()
