"""Rows of features: one per sample for most models, one per position of a sample for dense ones.

Rows are sample-major: all positions of the first sample come first.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.diagnostics import Answer, RankedLabels, Rows
from workers.diagnostics.folds import Dealing
from workers.extraction import Extracted, FeatureMap
from workers.probes.probe import ProbeData
from workers.probes.targets import IGNORED, ModelView

# Values of eigenfunctions are kept for at most this many rows: the same rows for every model on one
# probe, so that models can be compared through these values.
KEPT_ROWS = 10_000
_KEPT_SEED = 0


class KeptRows:
    """Features of some rows, gathered batch by batch.

    Args:
        samples: Index in the probe's file of each analysed sample, ascending, `(n,)`.
        positions: Rows per sample that the model gives.
        rows: Number of these rows that count; None: all do.
    """

    def __init__(
        self, samples: npt.NDArray[np.int64], positions: int, rows: int | None = None
    ) -> None:
        self._samples = samples
        self._positions = positions
        self._chosen = _choose(len(samples) * positions if rows is None else rows)
        self._counted = 0
        self._seen = 0
        self._places: list[Tensor] = []
        self._features: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._labels: list[Tensor] = []

    @property
    def sample_of(self) -> npt.NDArray[np.int64]:
        """Index in the file of the sample of each chosen row, ascending, `(m,)`."""
        found: npt.NDArray[np.int64] = torch.cat(self._places).numpy() // self._positions
        return self._samples[found]

    @property
    def position_of(self) -> npt.NDArray[np.int64]:
        """Position of each chosen row within its sample, from 0, `(m,)`."""
        found: npt.NDArray[np.int64] = torch.cat(self._places).numpy() % self._positions
        return found

    def add(
        self,
        phi: Tensor,
        predicted: Tensor | None,
        labels: Tensor | None,
        *,
        places: Tensor | None = None,
        seen: int | None = None,
    ) -> None:
        """Keep the chosen rows of the next batch.

        Args:
            phi: Features `(rows, p)` of the rows that count.
            predicted: What the model predicts for each row: a class, `(rows,)`, or which labels it
                has, `(rows, L)`; None if it predicts neither.
            labels: The true classes or labels, likewise; None for regression and without targets.
            places: Index of each row among all that the model gave for the batch; None: these are
                all of them.
            seen: Number of rows that the model gave for the batch; None: as many as these.
        """
        first, last = np.searchsorted(self._chosen, (self._counted, self._counted + len(phi)))
        picked = torch.from_numpy(self._chosen[first:last] - self._counted)
        self._places.append(self._seen + (picked if places is None else places[picked]))
        self._counted += len(phi)
        self._seen += len(phi) if seen is None else seen
        for kept, values in (
            (self._features, phi),
            (self._predicted, predicted),
            (self._labels, labels),
        ):
            if values is not None:
                kept.append(values.index_select(0, picked.to(values.device)))

    def rows(self, decide: Callable[[Tensor], Tensor | None] | None = None) -> Rows:
        """Return what is kept of the chosen rows.

        Args:
            decide: What the model would decide from other outputs; None if that is not known.
        """
        return Rows(
            features=torch.cat(self._features),
            answers=torch.cat(self._predicted) if self._predicted else None,
            labels=torch.cat(self._labels) if self._labels else None,
            decide=decide,
        )


class KeptScores:
    """Answers and labels of the samples that `KeptRows` keeps, where they may have several labels.

    Args:
        samples: Number of samples.
        seed: Seed of the dealing to folds.
    """

    def __init__(self, samples: int, seed: int) -> None:
        self._chosen = torch.from_numpy(_choose(samples))
        self._folds = Dealing(samples, seed=seed).deal(samples)[self._chosen]
        self._seen = 0
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    @classmethod
    def of(cls, found: FeatureMap, answer: Answer, probe: ProbeData, seed: int) -> Self | None:
        """Return an empty collection for a probe; None without several labels or a known answer.

        Args:
            found: What was found in the model.
            answer: Form of the model's answer.
            probe: The samples.
            seed: Seed of the dealing to folds.
        """
        has_labels = probe.targets is not None and answer.task == "multilabel"
        return cls(len(probe), seed) if has_labels and found.outputs and answer.is_known else None

    def add(self, answers: Tensor | None, targets: Tensor | None) -> None:
        """Keep the chosen samples of the next batch.

        Args:
            answers: f, `(rows, L)`; None if it does not have one row for each row of outputs.
            targets: Which labels each sample has, `(rows, L)` of 0 and 1; None without targets.
        """
        if answers is None or targets is None:
            return
        within = (self._chosen >= self._seen) & (self._chosen < self._seen + len(answers))
        picked = self._chosen[within] - self._seen
        self._seen += len(answers)
        self._scores.append(answers[picked].cpu())
        self._labels.append(targets[picked] > 0)

    def ranked(self) -> RankedLabels:
        """Return what was kept."""
        return RankedLabels(torch.cat(self._scores), torch.cat(self._labels), self._folds)


def model_view(feature_map: FeatureMap) -> ModelView:
    """Return the properties of a model that decide what the targets of its probe mean."""
    return ModelView(
        feature_map.columns,
        feature_map.position_shape,
        feature_map.link,
        is_unverified=feature_map.outputs > 0 and not feature_map.verified,
    )


def rows_a_sample(probe: ProbeData, positions: int) -> int | Tensor:
    """Return the number of rows per sample that count: one number, or one for each sample, `(n,)`.

    Args:
        probe: The samples, with settled targets.
        positions: Rows per sample that the model gives.
    """
    targets = probe.targets
    if targets is None or not targets.ignored:
        return positions
    counts = (targets.values != IGNORED).reshape(len(targets.values), -1).sum(axis=1)
    return torch.from_numpy(counts)


def count_rows(probe: ProbeData, positions: int) -> int:
    """Return the total number of rows that count."""
    ignored = 0 if probe.targets is None else probe.targets.ignored
    return len(probe) * positions - ignored


class CountedBatch(NamedTuple):
    """The rows of a batch that count.

    Attributes:
        extracted: Features, outputs and answers of these rows.
        targets: Labels `(rows,)` or values `(rows, d)`; None without targets.
        places: Index of each row among all rows of the batch; None: these are all of them.
    """

    extracted: Extracted
    targets: Tensor | None
    places: Tensor | None


def leave_out(extracted: Extracted, targets: Tensor | None) -> CountedBatch:
    """Leave out the rows whose labels are ignored.

    Args:
        extracted: Features, outputs and answers of a batch.
        targets: Targets of the batch, as the probe returns them; None without targets.
    """
    if targets is None or targets.is_floating_point():
        return CountedBatch(extracted, targets, None)
    labels = targets.flatten()
    places = (labels != IGNORED).nonzero().flatten()
    if len(places) == len(labels):
        return CountedBatch(extracted, labels, None)
    counted = replace(
        extracted,
        phi=extracted.phi[places],
        outputs=extracted.outputs[places],
        answers=None if extracted.answers is None else extracted.answers[places],
    )
    return CountedBatch(counted, labels[places], places)


def _choose(rows: int) -> npt.NDArray[np.int64]:
    if rows <= KEPT_ROWS:
        return np.arange(rows)
    generator = np.random.default_rng(_KEPT_SEED)
    return np.sort(generator.choice(rows, KEPT_ROWS, replace=False))
