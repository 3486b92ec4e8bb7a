"""How much each row counts."""

import torch
from torch import Tensor

from service.contract.failures import FailureCode
from service.contract.options import ClassWeighting
from workers.probes.probe import ProbeData
from workers.protocol.errors import JobError


class RowWeights:
    """Weights of a probe's rows, by their class or their labels.

    With balanced weights, N rows, C classes that occur, and n_c rows of class c, `w = N / (C n_c)`.
    All classes then weigh the same, and the weights sum to N.

    If a sample may have several labels, its weight is the mean of `N / (C n_c)` over the labels
    that it has. Samples without any label form one more class, because having none is as much an
    answer as having one. If every sample has exactly one label, both rules give the same weights.

    Args:
        probe: The samples.
        weighting: The rule for the weights.

    Raises:
        JobError: `input_mismatch` if there are no classes to balance.
    """

    def __init__(self, probe: ProbeData, weighting: ClassWeighting) -> None:
        self._of_class: Tensor | None = None
        self._of_no_label: float | None = None
        if weighting == "none":
            return
        targets = probe.targets
        counts = None if targets is None else targets.class_counts
        if targets is None or counts is None:
            raise JobError(
                FailureCode.INPUT_MISMATCH,
                f'"class_weighting": "{weighting}" needs the class of every sample, and the probe '
                f"has {'no targets' if targets is None else 'values for targets'}.",
                hint='Use a probe with class labels, or leave "class_weighting" at "none".',
            )
        if targets.task == "multilabel":
            counts = [*counts, int((~targets.values.any(axis=1)).sum())]
            rows = float(len(targets.values))
        else:
            rows = float(sum(counts))
        of_class = _balanced(torch.tensor(counts, dtype=torch.float64), rows)
        if targets.task == "multilabel":
            self._of_no_label = float(of_class[-1])
            of_class = of_class[:-1]
        self._of_class = of_class

    def of(self, labels: Tensor | None) -> Tensor | None:
        """Return the weights of some samples' rows by their labels; None if all count alike.

        Args:
            labels: Classes, int64, of any shape; or which labels each sample has, `(rows, L)`.
        """
        if self._of_class is None or labels is None:
            return None
        if self._of_no_label is None:
            return self._of_class[labels.flatten()]
        carried = labels.sum(1)
        mean = (labels.double() @ self._of_class) / carried.clamp(min=1.0)
        return torch.where(carried > 0, mean, self._of_no_label)


def _balanced(counts: Tensor, rows: float) -> Tensor:
    """Return `N / (C n_c)` for each class; 0 for a class that does not occur."""
    present = counts > 0
    return torch.where(present, rows / (present.sum() * counts), 0.0)
