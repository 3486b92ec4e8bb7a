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
from workers.analysis.allowance import check_allowance, choose_device
from workers.analysis.answering import count_predicted_classes, head_by_class
from workers.analysis.artifacts import eigenfunctions_file, moments_file
from workers.analysis.evaluation import Evaluation, count_classes, evaluate, output_space
from workers.analysis.held_out import blaming_eval_probe, evaluate_held_out
from workers.analysis.inputs import Fitted, fit_alike
from workers.analysis.layers import LayerPass
from workers.analysis.opening import PreparedModel, batch_size, prepare_model
from workers.analysis.rows import count_rows, model_view
from workers.analysis.timing import timed
from workers.analysis.unnamed_outputs import unnamed_outputs
from workers.analysis.weighting import RowWeights
from workers.diagnostics import (
    Coordinates,
    Diagnosis,
    DiagnosticsError,
    Evidence,
    IncompatibleShapesError,
    Model,
    NonFiniteError,
    Task,
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

# Machine epsilon of features in less than float32.
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
        progress: Receives each stage, and the number of samples seen.

    Returns:
        The report's figures as the header, the artifacts as sections.

    Raises:
        JobError: The model or the probe cannot be used; the message says why.
    """
    request = AnalysisArguments.model_validate(arguments)
    model_file, *probe_files = files
    allocated, timings = data_bytes(), dict[str, float]()
    progress.report(Stage.READING_PROBE)
    with timed(timings, "probe"):
        probe = _load_probe(probe_files[0], request.spec, request)
    prepared = prepare_model(
        model_file, probe, request.options, request.device, progress=progress, timings=timings
    )
    with timed(timings, "head"):
        analysis = _Analysis(request, prepared, progress, timings)
        analysis.prepare(data_bytes() - allocated)
    return analysis.run(probe_files[1:])


class _Analysis:
    """The analysis of an opened model on its probe.

    Args:
        request: The job's arguments.
        prepared: The model, and the probe as the model gets it.
        progress: Receives each stage.
        timings: Seconds of each stage, by name; later stages are added.
    """

    def __init__(
        self,
        request: AnalysisArguments,
        prepared: PreparedModel,
        progress: ProgressWriter,
        timings: dict[str, float],
    ) -> None:
        self._request, self._options = request, request.options
        self._prepared, self._extractor = prepared, prepared.extractor
        self._progress = progress
        self._timings = timings
        self._fitted = _with_settled_targets(prepared.fitted, prepared.extractor)
        self._probe = self._fitted.probe
        self._weights = RowWeights(self._probe, self._options.class_weighting)
        self._problem = _problem(
            self._extractor, self._probe, held_out=request.eval_spec is not None
        )
        self._extractor.destination = choose_device(
            self._problem, prepared.device, _layers_bytes(request)
        )
        self._space = output_space(self._extractor)
        self._layers: LayerPass | None = None

    def prepare(self, taken_bytes: int) -> None:
        """Check that the analysis fits into memory, and find the layers if they are asked for.

        Args:
            taken_bytes: Bytes that the job has allocated so far.

        Raises:
            JobError: `out_of_memory`; or the layers cannot be compared.
        """
        request, probe = self._request, self._probe
        check_allowance(
            self._problem,
            positions=self._extractor.feature_map.positions,
            taken_bytes=taken_bytes,
            memory_bytes=request.memory_bytes,
            result_bytes=request.result_bytes,
        )
        if self._options.layers == "all":
            self._layers = LayerPass.prepare(
                self._prepared.fitted.model,
                self._extractor,
                self._prepared.first,
                request.layers_bytes,
                n=len(probe),
                seed=self._options.seed,
                space=self._space,
                classes=count_classes(probe),
            )

    def run(self, eval_files: Sequence[BinaryIO]) -> JobResult:
        """Evaluate and diagnose the model, and lay out the result.

        Args:
            eval_files: The eval probe's file, if there is one.
        """
        with self._stage("extraction"):
            evaluation = self._evaluate()
        self._progress.report(Stage.DIAGONALIZING)
        with self._stage("diagnosis"):
            diagnosis = self._diagnose(evaluation)
        layers, tolerance = None, self._options.output_tolerance
        if self._layers is not None:
            with self._stage("layers"):
                layers = self._layers.figures(output_tolerance=tolerance)
        evidence = diagnosis.evidence
        unnamed = unnamed_outputs(
            self._probe, self._extractor.feature_map, self._options, evidence.skill
        )
        about_probe = layout.probe_part(
            replace(self._fitted, notes=(*self._fitted.notes, *unnamed))
        )
        held_out, warnings = None, [*self._prepared.warnings, *evaluation.warnings]
        if self._layers is not None:
            warnings += self._layers.warnings
        if self._request.eval_spec is not None:
            held_out, more, of_eval_probe = self._hold_out(
                diagnosis, eval_files[0], self._request.eval_spec, about_probe["task"]
            )
            warnings += more
            evidence = evidence if of_eval_probe.quality is None else of_eval_probe
        self._progress.report(Stage.REPORTING)
        return JobResult(
            header={
                "parameters": self._extractor.feature_map.parameters,
                "probe": about_probe,
                "feature_map": layout.feature_map_part(self._extractor, evaluation, warnings),
                **layout.figures(diagnosis, evidence),
                "performance": layout.performance_part(evaluation, self._positions),
                "held_out": held_out,
                "layers": layers,
                "provenance": layout.provenance_part(
                    self._extractor, self._problem, self._timings, self._prepared.device
                ),
            },
            sections={
                "eigenfunctions.safetensors": eigenfunctions_file(
                    diagnosis, evaluation, self._options.top_k
                ),
                "moments.safetensors": moments_file(evaluation, self._extractor.feature_map),
            },
        )

    @property
    def _positions(self) -> float:
        """Rows per sample, on average."""
        return self._problem.rows / len(self._probe)

    def _evaluate(self) -> Evaluation:
        return evaluate(
            self._extractor,
            self._probe,
            batch_size(self._probe, self._options, self._extractor),
            self._options.seed,
            self._progress,
            weights=self._weights,
            layers=self._layers,
            space=self._space,
        )

    def _diagnose(self, evaluation: Evaluation) -> Diagnosis:
        return diagnose(
            evaluation.folds,
            Model(
                evaluation.answer.task,
                head=head_by_class(self._extractor),
                classes=count_predicted_classes(self._extractor, evaluation.answer),
                precision=_REDUCED.get(self._extractor.feature_map.dtype),
            ),
            coordinates=Coordinates(evaluation.basis, evaluation.space),
            rows=evaluation.rows(),
            performances=evaluation.performance_by_fold,
            positions=self._positions,
            tolerances=Tolerances(self._options.output_tolerance, self._options.verdict_tolerance),
            on_step=partial(self._progress.report, Stage.DIAGONALIZING),
        )

    def _hold_out(
        self, diagnosis: Diagnosis, file: BinaryIO, spec: ProbeSpec, task: Task
    ) -> tuple[dict[str, Any], list[str], Evidence]:
        """Return the report's part about the eval probe, its warnings, and its evidence."""
        self._progress.report(Stage.READING_EVAL_PROBE)
        with blaming_eval_probe(), self._stage("held_out"):
            loaded = _load_probe(file, spec, self._request)
            fitted = _with_settled_targets(
                fit_alike(self._prepared.saved, loaded, self._fitted, self._prepared.device),
                self._extractor,
                like=self._probe.targets,
            )
            found = evaluate_held_out(
                self._extractor,
                diagnosis,
                fitted.probe,
                batch_size(fitted.probe, self._options, self._extractor),
                self._options,
                weights=RowWeights(fitted.probe, self._options.class_weighting),
                progress=self._progress,
                task=task,
                space=self._space,
            )
        part = {"probe": layout.probe_part(fitted), **layout.held_out_part(found)}
        warnings = [_of_eval_probe(warning) for warning in fitted.warnings]
        return part, warnings, found.figures.evidence

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Time a stage, and turn errors of the numerics in it into `JobError`."""
        with timed(self._timings, name), _explained():
            yield


def _layers_bytes(request: AnalysisArguments) -> int:
    """Return the bytes that all layers may take: for their sums, and as many to diagonalize one."""
    return 2 * request.layers_bytes if request.options.layers == "all" else 0


def _load_probe(file: BinaryIO, spec: ProbeSpec, request: AnalysisArguments) -> ProbeData:
    options = request.options
    return load_probe(
        file, spec, request.limits, max_samples=options.max_samples, seed=options.seed
    )


def _with_settled_targets(
    fitted: Fitted, extractor: Extractor, like: Targets | None = None
) -> Fitted:
    """Return a model and its probe, with the meaning of the targets settled to fit the model.

    Args:
        fitted: The model, and the probe as the model gets it.
        extractor: What was found in the model.
        like: Targets of the probe, if `fitted` holds the eval probe.

    Raises:
        JobError: `input_mismatch` or `probe_unreadable` for targets that do not fit.
    """
    view = model_view(extractor.feature_map)
    try:
        return replace(fitted, probe=fitted.probe.settled(view, like))
    except JobError as error:
        raise _with_other_results(error, extractor.feature_map) from error


def _with_other_results(error: JobError, found: FeatureMap) -> JobError:
    """Add to a refusal of targets the other results of the model that they may belong to."""
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
    """Turn errors of the numerics into `JobError`, with the failure code that clients see."""
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
