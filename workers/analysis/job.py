"""The main job, inside the confined child: model and probe in, figures and artifacts out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

import torch
from pydantic import JsonValue

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSpec
from workers.analysis import layout
from workers.analysis.allowance import check_allowance
from workers.analysis.answering import classes_told, head_by_class
from workers.analysis.artifacts import eigenfunctions_file, moments_file
from workers.analysis.evaluation import count_classes, evaluate, output_space
from workers.analysis.held_out import blaming_eval_probe, evaluate_held_out
from workers.analysis.inputs import Fitted, fit_alike
from workers.analysis.layers import LayerPass
from workers.analysis.opening import batch_size, open_subject
from workers.analysis.rows import count_rows, model_view
from workers.analysis.timing import timed
from workers.analysis.unnamed_outputs import unnamed_outputs
from workers.analysis.weighting import RowWeights
from workers.diagnostics import (
    Coordinates,
    DiagnosticsError,
    IncompatibleShapesError,
    Model,
    NonFiniteError,
    Tolerances,
    TooFewSamplesError,
    diagnose,
)
from workers.diagnostics.plan import Problem
from workers.extraction import Extractor, FeatureMap
from workers.extraction.head.advising import listed
from workers.probes.probe import ProbeData, load_probe
from workers.probes.targets import NO_TARGET, Targets
from workers.protocol.arguments import AnalysisArguments
from workers.protocol.errors import JobError
from workers.protocol.memory import data_bytes
from workers.protocol.progress import ProgressWriter, Stage
from workers.protocol.result import JobResult

# Machine epsilon of features that a model gives in less than float32.
_REDUCED = {"float16": torch.finfo(torch.float16).eps, "bfloat16": torch.finfo(torch.bfloat16).eps}

_FAILURES: Mapping[type[DiagnosticsError], tuple[FailureCode, str]] = {
    TooFewSamplesError: (
        FailureCode.TOO_FEW_SAMPLES,
        "Register a probe with more samples, leave out fewer of them, or raise max_samples.",
    ),
    NonFiniteError: (
        FailureCode.NON_FINITE,
        'Check the "transform" in the probe\'s spec: are inputs as large as those in training?',
    ),
    IncompatibleShapesError: (
        FailureCode.INPUT_MISMATCH,
        f'Set "target" in the probe\'s spec to the right array, {NO_TARGET}',
    ),
    DiagnosticsError: (
        FailureCode.UNSUPPORTED_MODEL,
        'Check the "transform" in the probe\'s spec, and that the model was saved after training.',
    ),
}


def analyse(
    arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], progress: ProgressWriter
) -> JobResult:
    """Judge a model on a probe.

    Args:
        arguments: `AnalysisArguments`.
        files: The model and the probe, and the eval probe if there is one.
        progress: Told of each stage, and of the samples seen.

    Returns:
        The report's figures as header, the artifacts as sections.

    Raises:
        JobError: The model or the probe cannot be used; the message says why.
    """
    request = AnalysisArguments.model_validate(arguments)
    options = request.options
    model_file, probe_file, *eval_files = files
    allocated = data_bytes()
    timings: dict[str, float] = {}

    progress.report(Stage.READING_PROBE)
    with timed(timings, "probe"):
        probe = _load_probe(probe_file, request.spec, request)
    subject = open_subject(
        model_file, probe, options, request.device, progress=progress, timings=timings
    )
    extractor = subject.extractor
    with timed(timings, "head"):
        fitted = _with_settled_targets(subject.fitted, extractor)
        probe = fitted.probe
        weights = RowWeights(probe, options.class_weighting)
        problem = _problem(extractor, probe, held_out=request.eval_spec is not None)
        check_allowance(
            problem,
            positions=extractor.feature_map.positions,
            taken_bytes=data_bytes() - allocated,
            memory_bytes=request.memory_bytes,
            result_bytes=request.result_bytes,
        )
        space = output_space(extractor)
        layers = None
        if options.layers == "all":
            layers = LayerPass.prepare(
                subject.fitted.model,
                extractor,
                subject.first,
                request.layers_bytes,
                n=len(probe),
                seed=options.seed,
                space=space,
                classes=count_classes(probe),
            )
    with timed(timings, "extraction"), _explained():
        evaluation = evaluate(
            extractor,
            probe,
            batch_size(probe, options, extractor),
            options.seed,
            progress,
            weights=weights,
            layers=layers,
            space=space,
        )
    progress.report(Stage.DIAGONALIZING)
    with timed(timings, "diagnosis"), _explained():
        diagnosis = diagnose(
            evaluation.folds,
            Model(
                evaluation.answer.task,
                head=head_by_class(extractor),
                classes=classes_told(extractor, evaluation.answer),
                precision=_REDUCED.get(extractor.feature_map.dtype),
            ),
            coordinates=Coordinates(evaluation.basis, evaluation.space),
            rows=evaluation.rows(),
            performances=evaluation.performance_by_fold,
            positions=problem.rows / len(probe),
            tolerances=Tolerances(options.output_tolerance, options.verdict_tolerance),
            on_step=partial(progress.report, Stage.DIAGONALIZING),
        )
    layer_figures: list[JsonValue] | None = None
    if layers is not None:
        with timed(timings, "layers"):
            layer_figures = layers.figures(output_tolerance=options.output_tolerance)
    evidence = diagnosis.evidence
    unnamed = unnamed_outputs(probe, extractor.feature_map, options, evidence.skill)
    about_probe = layout.probe_part(replace(fitted, notes=(*fitted.notes, *unnamed)))
    held_out: dict[str, Any] | None = None
    eval_warnings: list[str] = []
    if request.eval_spec is not None:
        progress.report(Stage.READING_EVAL_PROBE)
        with timed(timings, "held_out"), blaming_eval_probe(), _explained():
            eval_fitted = _with_settled_targets(
                fit_alike(
                    subject.saved,
                    _load_probe(eval_files[0], request.eval_spec, request),
                    fitted,
                    subject.device,
                ),
                extractor,
                like=probe.targets,
            )
            eval_probe = eval_fitted.probe
            found = evaluate_held_out(
                extractor,
                diagnosis,
                eval_probe,
                batch_size(eval_probe, options, extractor),
                options,
                weights=RowWeights(eval_probe, options.class_weighting),
                progress=progress,
                task=about_probe["task"],
                space=space,
            )
        eval_warnings = [_of_eval_probe(warning) for warning in eval_fitted.warnings]
        figures = found.figures
        held_out = {"probe": layout.probe_part(eval_fitted), **layout.held_out_part(found)}
        evidence = evidence if figures.evidence.quality is None else figures.evidence
    progress.report(Stage.REPORTING)
    return JobResult(
        header={
            "parameters": extractor.feature_map.parameters,
            "probe": about_probe,
            "feature_map": layout.feature_map_part(
                extractor,
                evaluation,
                [
                    *subject.warnings,
                    *evaluation.warnings,
                    *([] if layers is None else layers.warnings),
                    *eval_warnings,
                ],
            ),
            **layout.figures(diagnosis, evidence),
            "performance": layout.performance_part(evaluation, problem.rows / len(probe)),
            "held_out": held_out,
            "layers": layer_figures,
            "provenance": layout.provenance_part(extractor, problem, timings, subject.device),
        },
        sections={
            "eigenfunctions.safetensors": eigenfunctions_file(diagnosis, evaluation, options.top_k),
            "moments.safetensors": moments_file(evaluation, extractor.feature_map),
        },
    )


def _load_probe(file: BinaryIO, spec: ProbeSpec, request: AnalysisArguments) -> ProbeData:
    options = request.options
    return load_probe(
        file, spec, request.limits, max_samples=options.max_samples, seed=options.seed
    )


def _with_settled_targets(
    fitted: Fitted, extractor: Extractor, like: Targets | None = None
) -> Fitted:
    """A model and a probe whose targets mean what fits the model.

    Args:
        fitted: The probe, as the model gets it.
        extractor: What was found in the model.
        like: Targets of the first probe of the analysis, where this is the second.

    Raises:
        JobError: `input_mismatch` or `probe_unreadable` for targets that do not fit.
    """
    view = model_view(extractor.feature_map)
    try:
        return replace(fitted, probe=fitted.probe.settled(view, like))
    except JobError as error:
        raise _with_other_results(error, extractor.feature_map) from error


def _with_other_results(error: JobError, found: FeatureMap) -> JobError:
    """A refusal of targets whose hint offers the results that the targets may be for instead."""
    failure = error.failure
    if failure.code is not FailureCode.INPUT_MISMATCH or not found.passed_over:
        return error
    others = listed([{"output": label} for label in found.passed_over])
    return JobError(
        failure.code,
        f"{failure.message} The model's outputs are its result `{found.output}` here.",
        hint=f"If the targets are for a result on the way to it, say {others}. {failure.hint}",
        detail=failure.detail,
    )


def _of_eval_probe(warning: str) -> str:
    code, _, sentence = warning.partition(": ")
    return f"{code}: Of the eval probe: {sentence}"


@contextmanager
def _explained() -> Iterator[None]:
    """Give the numerics' errors, which know nothing of jobs, the code that clients see."""
    try:
        yield
    except DiagnosticsError as error:
        code, hint = next(found for kind, found in _FAILURES.items() if isinstance(error, kind))
        raise JobError(code, str(error), hint=hint) from error


def _problem(extractor: Extractor, probe: ProbeData, *, held_out: bool) -> Problem:
    found, targets = extractor.feature_map, probe.targets
    return Problem(
        rows=count_rows(probe, found.positions),
        p=found.p,
        c=found.outputs,
        d=0 if targets is None else targets.functions,
        by_class=count_classes(probe) is not None,
        head=found.W is not None,
        held_out=held_out,
    )
