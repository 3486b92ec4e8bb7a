"""What is trained on, and what the networks are probed with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

PROBE_SAMPLES = 5000
SEED = 0

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_CUE_COLUMNS = 5


class DataError(Exception):
    """A data file is not as expected."""


@dataclass(frozen=True)
class Samples:
    """Inputs as a probe stores them, `(n, …)`, and labels, `(n,)` int64."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def first(self, n: int | None) -> "Samples":
        return Samples(self.x[:n], self.y[:n])


@dataclass(frozen=True)
class Problem:
    """Samples to train on, and probes.

    Attributes:
        training: What the network is trained on.
        probes: By name; "train" and "test" are always there.
        transform: Of the probes: what turns stored inputs into what the network takes.
    """

    training: Samples
    probes: Mapping[str, Samples]
    transform: Mapping[str, Any]


class Source(Protocol):
    """Where a problem comes from."""

    @property
    def name(self) -> str:
        """Tells its probes from those of others."""

    def missing(self, directory: Path) -> str | None:
        """Say which file is not there, if one is."""

    def load(self, directory: Path) -> Problem:
        """Read it, or make it up."""


@dataclass(frozen=True)
class Images:
    """Images from a file `DATASET.npz`, or a part of it in `DATASET_subset.npz`.

    Attributes:
        dataset: Name of the file.
        samples: How many to train on, None for all.
        alteration: "shuffled" deals the training labels out anew; "cue" writes each label into a
            few pixels of its image.
    """

    dataset: str
    samples: int | None = None
    alteration: Literal["none", "shuffled", "cue"] = "none"

    @property
    def name(self) -> str:
        parts = [self.dataset, str(self.samples or "all")]
        return "-".join([*parts, *([] if self.alteration == "none" else [self.alteration])])

    def missing(self, directory: Path) -> str | None:
        return None if self._file(directory) else f"{self.dataset}.npz"

    def load(self, directory: Path) -> Problem:
        file = self._file(directory)
        assert file is not None  # the command asks for what is missing first
        training, test = _read(file)
        training = training.first(self.samples)
        transform = _standardising(training.x)
        probes = {"test": test.first(PROBE_SAMPLES)}
        if self.alteration == "shuffled":
            labels = np.random.default_rng(SEED).permutation(training.y)
            training = Samples(training.x, labels)
        elif self.alteration == "cue":
            training = with_cue(training)
            probes["test with cue"] = with_cue(probes["test"])
        return Problem(training, {"train": training.first(PROBE_SAMPLES)} | probes, transform)

    def _file(self, directory: Path) -> Path | None:
        candidates = (directory / f"{self.dataset}{part}.npz" for part in ("", "_subset"))
        return next(filter(Path.is_file, candidates), None)


@dataclass(frozen=True)
class Addition:
    """All pairs of numbers below a modulus, and their sum modulo it.

    Attributes:
        modulus: The number.
        share: Of the pairs that are trained on.
    """

    modulus: int
    share: float

    @property
    def name(self) -> str:
        return f"addition-{self.modulus}"

    def missing(self, directory: Path) -> str | None:  # noqa: ARG002 - it is made up, not read
        return None

    def load(self, directory: Path) -> Problem:  # noqa: ARG002 - likewise
        first, second = np.divmod(np.arange(self.modulus**2), self.modulus)
        pairs = Samples(np.stack([first, second], 1), (first + second) % self.modulus)
        order = np.random.default_rng(SEED).permutation(len(pairs))
        cut = round(self.share * len(pairs))
        training, test = (Samples(pairs.x[k], pairs.y[k]) for k in (order[:cut], order[cut:]))
        probes = {"train": training, "test": test, "all": pairs}
        return Problem(training, {k: v.first(PROBE_SAMPLES) for k, v in probes.items()}, {})


def with_cue(samples: Samples) -> Samples:
    """Write each label into the corner of its image: one bright pixel in two dark rows of five."""
    images = samples.x.copy()
    images[:, :2, :_CUE_COLUMNS] = 0
    images[np.arange(len(images)), samples.y // _CUE_COLUMNS, samples.y % _CUE_COLUMNS] = 255
    return Samples(images, samples.y)


def _read(file: Path) -> tuple[Samples, Samples]:
    with np.load(file) as arrays:
        lacking = [name for name in _ARRAYS if name not in arrays]
        if lacking:
            raise DataError(f"{file} lacks {', '.join(lacking)}; expected {', '.join(_ARRAYS)}.")
        x_train, y_train, x_test, y_test = (arrays[name] for name in _ARRAYS)
    for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.ndim != 4 or x.dtype != np.uint8 or len(x) != y.size:
            raise DataError(
                f"{file}: x_{name} is {x.dtype} {x.shape} with {y.size} labels; expected uint8 "
                "images (n, height, width, channels) and one label for each."
            )
    labels = (y.ravel().astype(np.int64) for y in (y_train, y_test))
    return Samples(x_train, next(labels)), Samples(x_test, next(labels))


def _standardising(images: np.ndarray) -> dict[str, Any]:
    """The transform that gives each channel of these images mean 0 and deviation 1."""
    shares = images.reshape(-1, images.shape[-1]) / 255
    return {
        "layout": "NHWC->NCHW",
        "dtype": "float32",
        "scale": 1 / 255,
        "mean": shares.mean(0).tolist(),
        "std": shares.std(0).tolist(),
    }
