"""Rows of features: one a sample for most models, one for each position of a sample for dense ones.

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

# Values of eigenfunctions are kept for at most so many rows: the same ones for every model on one
# probe, so that models can be compared through them.
KEPT_ROWS = 10_000
_KEPT_SEED = 0


class KeptRows:
    """Features of some rows, gathered batch by batch.

    Args:
        samples: Where in the probe's file each analysed sample is, ascending, `(n,)`.
        positions: Rows a sample that the model gives.
        rows: How many of all its rows count; None: all do.
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
        """Where in the file the sample of each chosen row is, ascending, `(m,)`."""
        found: npt.NDArray[np.int64] = torch.cat(self._places).numpy() // self._positions
        return self._samples[found]

    @property
    def position_of(self) -> npt.NDArray[np.int64]:
        """Which of its sample's positions each chosen row is, from 0, `(m,)`."""
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
        """Take the chosen ones out of the next rows.

        Args:
            phi: Features `(rows, p)`.
            predicted: What the model predicts for each row: a class, `(rows,)`, or which labels it
                has, `(rows, L)`; None where it predicts neither.
            labels: The truth likewise; None for regression and without targets.
            places: Where these rows are among all that the model gave for the batch; None: they
                are all.
            seen: How many rows the model gave for it; None: as many as these.
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
            decide: What the model would decide from other outputs; None where that is not known.
        """
        return Rows(
            features=torch.cat(self._features),
            answers=torch.cat(self._predicted) if self._predicted else None,
            labels=torch.cat(self._labels) if self._labels else None,
            decide=decide,
        )


class KeptScores:
    """Answers and labels of some samples, where these have several: the same as `KeptRows` keeps.

    Args:
        samples: How many there are.
        seed: Of their dealing to folds.
    """

    def __init__(self, samples: int, seed: int) -> None:
        self._chosen = torch.from_numpy(_choose(samples))
        self._folds = Dealing(samples, seed=seed).deal(samples)[self._chosen]
        self._seen = 0
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    @classmethod
    def of(cls, found: FeatureMap, answer: Answer, probe: ProbeData, seed: int) -> Self | None:
        """Return what keeps the scores of a probe; None unless samples may have several labels.

        Args:
            found: What was found in the model.
            answer: What its answer is.
            probe: The samples.
            seed: Seed of their dealing to folds.
        """
        has_labels = probe.targets is not None and answer.task == "multilabel"
        return cls(len(probe), seed) if has_labels and found.outputs and answer.is_known else None

    def add(self, answers: Tensor | None, targets: Tensor | None) -> None:
        """Take the chosen ones out of the next samples.

        Args:
            answers: f, `(rows, L)`; None where it has no rows.
            targets: Which labels they have, `(rows, L)` of 0 and 1; None without targets.
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
    """Return what of a model tells what the targets of its probe mean."""
    return ModelView(
        feature_map.columns,
        feature_map.position_shape,
        feature_map.link,
        is_unverified=feature_map.outputs > 0 and not feature_map.verified,
    )


def rows_a_sample(probe: ProbeData, positions: int) -> int | Tensor:
    """Return how many rows of a sample count: one number, or that of each sample `(n,)`.

    Args:
        probe: The samples, with settled targets.
        positions: Rows a sample that the model gives.
    """
    targets = probe.targets
    if targets is None or not targets.ignored:
        return positions
    counts = (targets.values != IGNORED).reshape(len(targets.values), -1).sum(axis=1)
    return torch.from_numpy(counts)


def count_rows(probe: ProbeData, positions: int) -> int:
    """Return how many rows count in all."""
    ignored = 0 if probe.targets is None else probe.targets.ignored
    return len(probe) * positions - ignored


class CountedBatch(NamedTuple):
    """The rows of a batch that count.

    Attributes:
        extracted: Their features, outputs and answers.
        targets: Their labels `(rows,)` or targets `(rows, d)`; None without targets.
        places: Where among all rows of the batch they are; None: they are all.
    """

    extracted: Extracted
    targets: Tensor | None
    places: Tensor | None


def leave_out(extracted: Extracted, targets: Tensor | None) -> CountedBatch:
    """Leave out the rows whose labels are.

    Args:
        extracted: Of a batch.
        targets: Of its samples, as a probe hands them out.
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
