"""One pass of a model over a probe: what is summed up, and what is kept."""

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from workers.diagnostics import Moments, Performance
from workers.diagnostics.folds import Folds
from workers.extraction import Extractor
from workers.layers import LayerPass
from workers.probes.probe import ProbeData
from workers.runner.progress import ProgressWriter, Stage

# Values of eigenfunctions are kept for at most so many samples: the same ones for every model on
# one probe, so that models can be compared through them.
KEPT_SAMPLES = 10_000
_KEPT_SEED = 0

# Enough rows to keep matrix products busy, few enough for the activations of a large network.
_USUAL_BATCH = 256
_BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class Evaluation:
    """What a pass over the probe left.

    Attributes:
        folds: Moments of disjoint random parts of the samples.
        performance: Sums of correct answers and loss; None without targets.
        rows: Positions of the kept samples in the probe, ascending, shape `(m,)`.
        kept: Their features `(m, p)`.
    """

    folds: list[Moments]
    performance: Performance | None
    rows: np.ndarray
    kept: Tensor

    def total(self) -> Moments:
        """Return the moments over all samples."""
        return reduce(add, self.folds)


def evaluate(
    extractor: Extractor,
    probe: ProbeData,
    batch_size: int,
    seed: int,
    progress: ProgressWriter,
    *,
    layers: LayerPass | None = None,
) -> Evaluation:
    """Run the model over the whole probe, once.

    Args:
        extractor: Gives features and outputs.
        probe: The samples.
        batch_size: How many the model sees at once.
        seed: Of the dealing to folds.
        progress: Told of the samples seen.
        layers: Sums up all layers in the same pass.

    Raises:
        JobError: The model fails on a batch.
        DiagnosticsError: Features are not finite, or labels do not fit the outputs.
    """
    n = len(probe)
    folds = Folds(n, seed=seed)
    is_kept = _choose_kept(n)
    kept: list[Tensor] = []
    performance = None if probe.targets is None else Performance()
    seen = 0
    for inputs, stored_targets in probe.batches(batch_size):
        extracted = extractor.run((inputs,), *([] if layers is None else [layers.tap]))
        targets = _targets(probe, stored_targets)
        folds.update(extracted.phi, extracted.outputs, targets)
        if layers is not None:
            layers.add(extracted.outputs, targets)
        if performance is not None and targets is not None and probe.spec.task is not None:
            performance += Performance.of(extracted.outputs, targets, task=probe.spec.task)
        kept.append(extracted.phi[is_kept[seen : seen + len(inputs)]])
        seen += len(inputs)
        progress.report(Stage.EVALUATING, seen, n)
    rows = probe.rows[is_kept.numpy()]
    return Evaluation(folds.moments(), performance, rows, torch.cat(kept))


def choose_batch_size(probe: ProbeData) -> int:
    """Return how many samples the model is to see at once where nobody said."""
    bytes_per_sample = 4 * max(1, int(np.prod(probe.input_shape)))
    return max(1, min(_USUAL_BATCH, _BATCH_BYTES // bytes_per_sample))


def _choose_kept(n: int) -> Tensor:
    is_kept = torch.ones(n, dtype=torch.bool)
    if n > KEPT_SAMPLES:
        generator = torch.Generator().manual_seed(_KEPT_SEED)
        is_kept[torch.randperm(n, generator=generator)[KEPT_SAMPLES:]] = False
    return is_kept


def _targets(probe: ProbeData, stored: Tensor | None) -> Tensor | None:
    """Return labels as class indicators `(batch, classes)`, values as they are."""
    if stored is None or probe.targets is None:
        return None
    if probe.targets.classes is None:
        return stored
    return one_hot(stored, probe.targets.classes).to(torch.float32)
