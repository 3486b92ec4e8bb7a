"""One pass of a model over a probe: what is summed up, and what is kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add

from torch import Tensor

from workers.analysis.answering import cautions, deciding, read_answer
from workers.analysis.layers import LayerPass
from workers.analysis.measuring import FoldPerformances
from workers.analysis.rows import (
    CountedBatch,
    KeptRows,
    KeptScores,
    count_rows,
    leave_out,
    rows_a_sample,
)
from workers.analysis.weighting import RowWeights
from workers.diagnostics import (
    Answer,
    AveragePrecision,
    Moments,
    Performance,
    Rows,
    average_precision,
)
from workers.diagnostics.folds import Folds
from workers.diagnostics.output_space import OutputSpace
from workers.extraction import Extractor
from workers.probes.probe import ProbeData
from workers.protocol.progress import ProgressWriter, Stage

# Enough samples for efficient matrix products, few enough to hold the activations of a large
# network, and the features and class indicators of a dense model. A batch has a fixed cost, in
# which a small network could run on hundreds of samples, so a small network gets larger batches,
# unless it fails on them (`Extractor.fallback`).
USUAL_BATCH = 256
_LARGEST_BATCH = 2048
_BATCH_BYTES = 64 << 20
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Evaluation:
    """What a pass over the probe left.

    Attributes:
        folds: Moments of disjoint random parts of the samples; they count rows.
        performance_by_fold: Sums of correct answers and loss over the rows of each fold; empty
            without targets.
        answer: Form of the model's answer.
        average_precision: Average precision of the scores for labels; None unless samples may have
            several labels.
        kept: Features and answers of some rows.
        decide: What the model would decide from other outputs; None if that is not known.
        warnings: What a reader of the answer's figures must know, each as `code: sentence`.
        basis: Orthonormal basis `(p, q)` whose coordinates of the features the moments are computed
            from, where there are fewer rows than features; None: from the features themselves.
        space: The space whose coordinates of the outputs the moments are computed from.
    """

    folds: list[Moments]
    performance_by_fold: list[Performance]
    answer: Answer
    average_precision: AveragePrecision | None
    kept: KeptRows
    decide: Callable[[Tensor], Tensor | None] | None
    warnings: tuple[str, ...]
    basis: Tensor | None
    space: OutputSpace

    def total(self) -> Moments:
        """Return the moments over all samples."""
        return reduce(add, self.folds)

    def rows(self) -> Rows:
        """Return the kept rows, with `decide`."""
        return self.kept.rows(self.decide)


def evaluate(
    extractor: Extractor,
    probe: ProbeData,
    batch_size: int,
    seed: int,
    progress: ProgressWriter,
    *,
    weights: RowWeights | None = None,
    layers: LayerPass | None = None,
    space: OutputSpace | None = None,
) -> Evaluation:
    """Run the model over the whole probe, once.

    Args:
        extractor: Extractor of features and outputs.
        probe: The samples.
        batch_size: Number of samples that the model sees at once.
        seed: Seed of the dealing to folds.
        progress: Receives the number of samples seen.
        weights: How much each row counts in the moments; None: all alike.
        layers: Sums over all layers, gathered in the same pass.
        space: The space whose coordinates of the outputs are summed; None: the outputs themselves.

    Raises:
        JobError: The model fails on a batch.
        DiagnosticsError: Features are not finite, or labels do not fit the outputs.
    """
    n, positions = len(probe), extractor.feature_map.positions
    space = space or OutputSpace(extractor.feature_map.outputs, device=extractor.destination)
    gathered = _Gathered(extractor, probe, space, seed)
    watches = () if layers is None else (layers.tap,)
    seen = 0
    for inputs, stored_targets in probe.batches(batch_size):
        counted = leave_out(extractor.run(inputs, *watches), stored_targets)
        row_weights = None if weights is None else weights.of(counted.targets)
        coordinates = gathered.add(counted, row_weights, rows=len(inputs[0]) * positions)
        if layers is not None:
            layers.add(coordinates, target_functions(probe, counted.targets), row_weights)
        seen += len(inputs[0])
        progress.report(Stage.EVALUATING, seen, n)
    return gathered.evaluation()


class _Gathered:
    """What is summed up and kept in a pass over a probe.

    Args:
        extractor: Extractor of features and outputs.
        probe: The samples.
        space: The space whose coordinates of the outputs are summed.
        seed: Seed of the dealing to folds.
    """

    def __init__(
        self, extractor: Extractor, probe: ProbeData, space: OutputSpace, seed: int
    ) -> None:
        found = extractor.feature_map
        self._extractor, self._probe, self._space = extractor, probe, space
        # Without targets the outputs are treated as scores of classes.
        self._answer = read_answer(extractor, probe.spec.task or "classification")
        self._folds = Folds(
            len(probe),
            positions=rows_a_sample(probe, found.positions),
            seed=seed,
            classes=count_classes(probe),
        )
        self._kept = KeptRows(probe.rows, found.positions, count_rows(probe, found.positions))
        self._scores = KeptScores.of(found, self._answer, probe, seed)
        is_measured = found.outputs > 0 and probe.targets is not None
        self._performances = (
            FoldPerformances(self._answer, self._folds.count) if is_measured else None
        )

    def add(self, counted: CountedBatch, weights: Tensor | None, *, rows: int) -> Tensor:
        """Add the rows of a batch that count.

        Args:
            counted: Features, outputs, answers and targets of these rows.
            weights: How much each of these rows counts in the moments; None: all alike.
            rows: Number of rows that the model gave for the batch, counted or not.

        Returns:
            The coordinates of the counted rows' outputs, `(rows that count, size)`.
        """
        extracted, answer = counted.extracted, self._answer
        targets = target_functions(self._probe, counted.targets)
        values = answer.values(extracted.outputs, extracted.answers)
        coordinates = self._space.coordinates(extracted.outputs)
        dealt = self._folds.update(extracted.phi, coordinates, targets, weights)
        if targets is not None and self._performances is not None:
            self._performances.add(values, targets, dealt)
        if self._scores is not None:
            self._scores.add(extracted.answers, targets)
        self._kept.add(
            extracted.phi,
            answer.decide(values) if self._extractor.feature_map.outputs else None,
            decisions_wanted(answer, counted.targets),
            places=counted.places,
            seen=rows,
        )
        return coordinates

    def evaluation(self) -> Evaluation:
        """Return everything that was gathered."""
        extractor, answer, scores = self._extractor, self._answer, self._scores
        by_fold = [] if self._performances is None else self._performances.by_fold()
        measured = sum(by_fold, Performance()) if by_fold else None
        moments = self._folds.moments()
        return Evaluation(
            folds=moments,
            performance_by_fold=by_fold,
            answer=answer,
            average_precision=None if scores is None else average_precision(scores.ranked()),
            kept=self._kept,
            decide=deciding(extractor, answer),
            warnings=tuple(cautions(extractor, answer, measured)),
            basis=self._folds.basis,
            space=self._space.within(self._folds.output_basis),
        )


def choose_batch_size(probe: ProbeData, run_bytes: int | None = None) -> int:
    """Choose the number of samples that the model sees at once.

    Args:
        probe: The samples.
        run_bytes: Bytes per sample of the results of all the model's operations; None: not known.
    """
    bytes_per_sample = 4 * sum(max(1, math.prod(each.shape)) for each in probe.inputs)
    positions = 1
    if probe.targets is not None:
        positions = probe.targets.positions
        bytes_per_sample += 8 * positions * (probe.targets.classes or 0)
    usual = min(USUAL_BATCH, _BATCH_BYTES // bytes_per_sample)
    if run_bytes is not None:
        usual = max(usual, min(_LARGEST_BATCH, _BATCH_BYTES // (bytes_per_sample + run_bytes)))
    return max(1, min(usual, _BATCH_ROWS // positions))


def decisions_wanted(answer: Answer, stored: Tensor | None) -> Tensor | None:
    """Return the right decisions, in the form of `Answer.decide`; None for regression."""
    if stored is None or answer.task == "regression":
        return None
    return stored.flatten() if answer.task == "classification" else stored > 0


def target_functions(probe: ProbeData, stored: Tensor | None) -> Tensor | None:
    """Return classes as one label per row, `(rows,)`; multi-hot rows and values as they are."""
    return stored if stored is None or count_classes(probe) is None else stored.flatten()


def count_classes(probe: ProbeData) -> int | None:
    """Return the number of classes of the labels; None for other targets, and without targets."""
    if probe.targets is None or probe.targets.task != "classification":
        return None
    return probe.targets.functions


def output_space(extractor: Extractor) -> OutputSpace:
    """Return the space of the outputs: with more than p + 1 of them, the span of [W b]."""
    found = extractor.feature_map
    return OutputSpace.of_head(found.outputs, found.W, found.b, extractor.destination)
