"""Rows of features: one a sample for most models, one for each position of a sample for dense ones.

Rows are sample-major: all positions of the first sample come first.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.failures import FailureCode
from workers.diagnostics import RankedLabels, Rows
from workers.diagnostics.folds import Dealing
from workers.errors import JobError
from workers.extraction import FeatureMap
from workers.probes.container import shape_text
from workers.probes.probe import ProbeData

# Values of eigenfunctions are kept for at most so many rows: the same ones for every model on one
# probe, so that models can be compared through them.
KEPT_ROWS = 10_000
_KEPT_SEED = 0


class KeptRows:
    """Features of some rows, gathered batch by batch.

    Args:
        samples: Where in the probe's file each analysed sample is, ascending, `(n,)`.
        positions: Rows a sample.

    Attributes:
        sample_of: Where in the file the sample of each chosen row is, ascending, `(m,)`.
        position_of: Which of that sample's positions the row is, from 0, `(m,)`.
    """

    def __init__(self, samples: npt.NDArray[np.int64], positions: int) -> None:
        chosen = _choose(len(samples) * positions)
        self.sample_of = samples[chosen // positions]
        self.position_of = chosen % positions
        self._chosen = chosen
        self._seen = 0
        self._features: list[Tensor] = []
        self._answers: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, phi: Tensor, told: Tensor | None, labels: Tensor | None) -> None:
        """Take the chosen ones out of the next rows.

        Args:
            phi: Features `(rows, p)`.
            told: What the model decides for each row: a class, `(rows,)`, or which labels it has,
                `(rows, L)`; None where it decides nothing.
            labels: The truth likewise; None for regression and without targets.
        """
        first, last = np.searchsorted(self._chosen, (self._seen, self._seen + len(phi)))
        picked = torch.from_numpy(self._chosen[first:last] - self._seen)
        self._seen += len(phi)
        for kept, values in (
            (self._features, phi),
            (self._answers, told),
            (self._labels, labels),
        ):
            if values is not None:
                kept.append(values[picked])

    def rows(self, decide: Callable[[Tensor], Tensor | None] | None = None) -> Rows:
        """Return what is kept of the chosen rows.

        Args:
            decide: What the model would decide from other outputs; None where that is not known.
        """
        return Rows(
            features=torch.cat(self._features),
            answers=torch.cat(self._answers) if self._answers else None,
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

    def add(self, answers: Tensor, targets: Tensor) -> None:
        """Take the chosen ones out of the next samples.

        Args:
            answers: f, `(rows, L)`.
            targets: Which labels they have, `(rows, L)` of 0 and 1.
        """
        within = (self._chosen >= self._seen) & (self._chosen < self._seen + len(answers))
        picked = self._chosen[within] - self._seen
        self._seen += len(answers)
        self._scores.append(answers[picked])
        self._labels.append(targets[picked] > 0)

    def ranked(self) -> RankedLabels:
        """Return what was kept."""
        return RankedLabels(torch.cat(self._scores), torch.cat(self._labels), self._folds)


def check_targets(feature_map: FeatureMap, probe: ProbeData) -> None:
    """Refuse a probe that does not hold one target for each row, or label, the model gives.

    Raises:
        JobError: `input_mismatch`.
    """
    targets, positions = probe.targets, feature_map.positions
    if targets is None:
        return
    if targets.task == "multilabel" and targets.functions != feature_map.outputs:
        raise JobError(
            FailureCode.INPUT_MISMATCH,
            f"The model has {feature_map.outputs:,} outputs and the probe {targets.functions:,} "
            "labels; expected one output for each label.",
            hint="Use a probe whose targets have a column for each of the model's outputs, in "
            'their order, or register it with "target": null for a report without what needs '
            "targets.",
        )
    if targets.positions == positions:
        return
    outputs = (len(probe), positions, feature_map.outputs)
    raise JobError(
        FailureCode.INPUT_MISMATCH,
        f"The model's outputs are (samples, positions, outputs) = {shape_text(outputs)} and the "
        f"probe's targets {shape_text(targets.values.shape)}: {positions:,} against "
        f"{targets.positions:,} a sample; expected equal numbers.",
        hint=(
            "Use a probe with one label a sample, of shape (n,) or one-hot (n, classes), set "
            '"task": "regression" if they are values'
            if positions == 1
            else "Use a probe with one integer label for each position of the model's output, of "
            "shape (n, *positions)"
        )
        + ', or register it with "target": null for a report without what needs targets.',
    )


def _choose(rows: int) -> npt.NDArray[np.int64]:
    if rows <= KEPT_ROWS:
        return np.arange(rows)
    generator = np.random.default_rng(_KEPT_SEED)
    return np.sort(generator.choice(rows, KEPT_ROWS, replace=False))
