"""How much each sample counts."""

import torch
from torch import Tensor

from service.analyses.options import ClassWeighting
from service.failures import FailureCode
from workers.errors import JobError
from workers.probes.probe import ProbeData


class RowWeights:
    """Weights of a probe's rows, by their class.

    Balanced: `w = N / (C n_c)` for N rows of C classes that occur, n_c of class c. All classes then
    weigh the same, and the weights sum to N.

    Args:
        probe: The samples.
        weighting: By which rule.

    Raises:
        JobError: `input_mismatch` if there are no classes to balance.
    """

    def __init__(self, probe: ProbeData, weighting: ClassWeighting) -> None:
        self._of_class: Tensor | None = None
        if weighting == "none":
            return
        has_classes = probe.targets is not None and probe.targets.task == "classification"
        counts = probe.targets.class_counts if probe.targets is not None and has_classes else None
        if counts is None:
            raise JobError(
                FailureCode.INPUT_MISMATCH,
                f'"class_weighting": "{weighting}" needs the class of every sample, and the probe '
                f"has {'no targets' if probe.targets is None else 'values for targets'}.",
                hint='Use a probe with class labels, or leave "class_weighting" at "none".',
            )
        rows = torch.tensor(counts, dtype=torch.float64)
        present = rows > 0
        self._of_class = torch.where(present, rows.sum() / (present.sum() * rows), 0.0)

    def of(self, labels: Tensor | None) -> Tensor | None:
        """The weights of some samples' rows by their labels; None if all count alike."""
        if self._of_class is None or labels is None:
            return None
        return self._of_class[labels.flatten()]
