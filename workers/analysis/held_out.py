"""The second pass of an analysis: the eigenfunctions of its probe on the eval probe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.contract.options import Options
from service.contract.probe_spec import Task
from workers.analysis.answering import read_answer
from workers.analysis.evaluation import count_classes, target_functions
from workers.analysis.rows import KeptScores, leave_out, rows_a_sample
from workers.analysis.weighting import RowWeights
from workers.diagnostics import (
    Answer,
    AveragePrecision,
    Diagnosis,
    HeldOut,
    HeldOutSums,
    average_precision,
    held_out,
)
from workers.diagnostics.output_space import OutputSpace
from workers.extraction import Extractor
from workers.probes.probe import ProbeData
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter, Stage


@dataclass(frozen=True, eq=False)
class HeldOutEvaluation:
    """What a pass over the eval probe found.

    Attributes:
        figures: The figures of the eigenfunctions there.
        answer: Form of the model's answer.
        average_precision: Average precision of the scores for labels; None unless samples may have
            several labels.
    """

    figures: HeldOut
    answer: Answer
    average_precision: AveragePrecision | None


@contextmanager
def blaming_eval_probe() -> Iterator[None]:
    """Add to any failure in the block that it concerns the eval probe, not the probe."""
    try:
        yield
    except JobError as error:
        failure = error.failure
        raise JobError(
            failure.code,
            f"Of the two probes, this is about the eval probe. {failure.message}",
            hint=failure.hint,
            detail={**failure.detail, "probe": "eval_probe"},
        ) from error


def evaluate_held_out(
    extractor: Extractor,
    diagnosis: Diagnosis,
    probe: ProbeData,
    batch_size: int,
    options: Options,
    *,
    weights: RowWeights,
    progress: ProgressWriter,
    task: Task | None,
    space: OutputSpace,
) -> HeldOutEvaluation:
    """Run the model over the whole eval probe, once, and judge the eigenfunctions on it.

    Args:
        extractor: Extractor of features and outputs.
        diagnosis: The eigenfunctions.
        probe: The eval probe.
        batch_size: Number of samples that the model sees at once.
        options: Seed of the dealing to folds, and tolerances.
        weights: How much each row of the eval probe counts.
        progress: Receives the number of samples seen.
        task: Task of the first probe; None if it has no targets.
        space: The space whose coordinates of the outputs are summed.

    Raises:
        JobError: The model fails on a batch.
        DiagnosticsError: Features are not finite, or labels do not fit the outputs.
    """
    # Without targets on either probe the outputs are treated as scores of classes, as in the first
    # pass.
    answer = read_answer(extractor, probe.spec.task or task or "classification")
    sums = HeldOutSums(
        diagnosis,
        len(probe),
        answer,
        space,
        targets=0 if probe.targets is None else probe.targets.functions,
        by_class=count_classes(probe) is not None,
        positions=rows_a_sample(probe, extractor.feature_map.positions),
        seed=options.seed,
    )
    scores = KeptScores.of(extractor.feature_map, answer, probe, options.seed)
    seen = 0
    for inputs, stored_targets in probe.batches(batch_size):
        extracted, counted, _ = leave_out(extractor.run(inputs), stored_targets)
        targets = target_functions(probe, counted)
        values = answer.values(extracted.outputs, extracted.answers)
        sums.update(extracted.phi, extracted.outputs, targets, weights.of(counted), values)
        if scores is not None:
            scores.add(extracted.answers, targets)
        seen += len(inputs[0])
        progress.report(Stage.EVALUATING_HELD_OUT, seen, len(probe))
    figures = held_out(
        sums,
        output_tolerance=options.output_tolerance,
        verdict_tolerance=options.verdict_tolerance,
    )
    ranked = None if scores is None else average_precision(scores.ranked())
    return HeldOutEvaluation(figures, answer, ranked)
