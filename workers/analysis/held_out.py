"""The second pass of an analysis: the eigenfunctions of its probe on the eval probe."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.analyses.options import Options
from service.failures import FailureCode
from service.probes.spec import Task
from workers.analysis.evaluation import target_functions
from workers.analysis.rows import leave_out, rows_a_sample
from workers.analysis.weighting import RowWeights
from workers.diagnostics import Diagnosis, HeldOut, HeldOutSums, held_out
from workers.errors import JobError
from workers.extraction import Extractor
from workers.probes.probe import ProbeData
from workers.runner.progress import ProgressWriter, Stage


@contextmanager
def blaming_eval_probe() -> Iterator[None]:
    """Lets a failure within say that the eval probe is concerned, not the probe."""
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
) -> HeldOut:
    """Run the model over the whole eval probe, once, and judge the eigenfunctions on it.

    Args:
        extractor: Gives features and outputs.
        diagnosis: The eigenfunctions.
        probe: The eval probe.
        batch_size: How many samples the model sees at once.
        options: Seed of the dealing to folds, and tolerances.
        weights: How much the eval probe's rows count.
        progress: Told of the samples seen.
        task: That of the first probe; None if it has no targets.

    Raises:
        JobError: The two probes are of different tasks, the model fails on a batch, or it gives
            other than one row for each target.
        DiagnosticsError: Features are not finite, or labels do not fit the outputs.
    """
    n, found = len(probe), extractor.feature_map
    _check_task(task, probe.spec.task)
    sums = HeldOutSums(
        diagnosis,
        n,
        outputs=found.outputs,
        targets=0 if probe.targets is None else probe.targets.functions,
        # Without any targets the outputs are taken for logits, as on the first probe.
        task=probe.spec.task or task or "classification",
        positions=rows_a_sample(probe, found.positions),
        seed=options.seed,
    )
    seen = 0
    for inputs, stored_targets in probe.batches(batch_size):
        extracted = extractor.run(inputs)
        extracted, counted, _ = leave_out(extracted, stored_targets)
        sums.update(
            extracted.phi,
            extracted.outputs,
            target_functions(probe, counted),
            weights.of(counted),
        )
        seen += len(inputs[0])
        progress.report(Stage.EVALUATING_HELD_OUT, seen, n)
    return held_out(
        sums,
        output_tolerance=options.output_tolerance,
        verdict_tolerance=options.verdict_tolerance,
    )


def _check_task(first: Task | None, second: Task | None) -> None:
    if first is None or second is None or first == second:
        return
    raise JobError(
        FailureCode.INPUT_MISMATCH,
        f"Its targets are of a {second}, those of the probe of a {first}; expected the same task.",
        hint="Register both probes from one dataset; where values look like labels, with "
        f'"task": "{first}" in the spec.',
    )
