"""The main job, inside the confined child: model and probe in, figures and artifacts out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy
import torch
from pydantic import JsonValue

from service import __version__
from service.failures import FailureCode
from workers.allowance import check_allowance
from workers.diagnostics import (
    Diagnosis,
    DiagnosticsError,
    IncompatibleShapesError,
    NonFiniteError,
    TooFewSamplesError,
    assess,
    diagnose,
    performance_intervals,
    unexplained,
)
from workers.diagnostics.plan import Problem
from workers.errors import JobError
from workers.evaluation import Evaluation, choose_batch_size, evaluate
from workers.extraction import Extractor, discover, load_model, suggesting_after
from workers.layers import LayerPass
from workers.probes.probe import ProbeData, load_probe
from workers.requests import AnalysisArguments
from workers.runner.confinement import data_bytes
from workers.runner.progress import ProgressWriter, Stage
from workers.runner.result import JobResult
from workers.weighting import RowWeights

# top_k = auto: where C eigenfunctions carry a minimal network, the next C show what follows.
_KEPT_PER_OUTPUT = 2

# Features that are constant over the probe have no centred spectrum.
_NO_RANK = dict.fromkeys(("participation_ratio", "entropy", "rankme", "stable"))

# Machine epsilon of features that a model gives in less than float32.
_REDUCED = {"float16": torch.finfo(torch.float16).eps, "bfloat16": torch.finfo(torch.bfloat16).eps}

_FAILURES: tuple[tuple[type[DiagnosticsError], FailureCode], ...] = (
    (TooFewSamplesError, FailureCode.TOO_FEW_SAMPLES),
    (NonFiniteError, FailureCode.NON_FINITE),
    (IncompatibleShapesError, FailureCode.INPUT_MISMATCH),
    (DiagnosticsError, FailureCode.UNSUPPORTED_MODEL),
)


def analyse(
    arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], progress: ProgressWriter
) -> JobResult:
    """Judge a model on a probe.

    Args:
        arguments: `AnalysisArguments`.
        files: The model and the probe.
        progress: Told of each stage, and of the samples seen.

    Returns:
        The report's figures as header, the artifacts as sections.

    Raises:
        JobError: The model or the probe cannot be used; the message says why.
    """
    request = AnalysisArguments.model_validate(arguments)
    options = request.options
    model_file, probe_file = files
    allocated = data_bytes()
    timings: dict[str, float] = {}

    progress.report(Stage.READING_PROBE)
    with _timed(timings, "probe"):
        probe = load_probe(
            probe_file,
            request.spec,
            request.limits,
            max_samples=options.max_samples,
            seed=options.seed,
        )
        weights = RowWeights(probe, options.class_weighting)
    progress.report(Stage.LOADING_MODEL)
    with _timed(timings, "loading"):
        model = load_model(model_file)
    batch_size = choose_batch_size(probe) if options.batch_size == "auto" else options.batch_size
    progress.report(Stage.LOCATING_HEAD)
    with _timed(timings, "head"):
        first = next(probe.batches(batch_size))[0]
        choice = None if options.feature_map == "auto" else options.feature_map
        with suggesting_after(probe.spec.transform):
            extractor = discover(model, first, choice)
        layers = None
        if options.layers == "all":
            layers = LayerPass.prepare(model, extractor, first, request.layers_bytes)
        problem = _problem(extractor, probe)
        check_allowance(
            problem,
            positions=extractor.feature_map.positions,
            taken_bytes=data_bytes() - allocated,
            memory_bytes=request.memory_bytes,
            result_bytes=request.result_bytes,
        )
    with _timed(timings, "extraction"), _explained():
        evaluation = evaluate(
            extractor, probe, batch_size, options.seed, progress, weights=weights, layers=layers
        )
    progress.report(Stage.DIAGONALIZING)
    with _timed(timings, "diagnosis"), _explained():
        # Without targets the outputs are taken for logits; only the mean logit depends on it.
        diagnosis = diagnose(
            evaluation.folds,
            task=probe.spec.task or "classification",
            positions=extractor.feature_map.positions,
            head=extractor.feature_map.W,
            rows=evaluation.kept.rows(),
            performance=evaluation.performance,
            basis=evaluation.basis,
            precision=_REDUCED.get(extractor.feature_map.dtype),
        )
    layer_figures: list[JsonValue] | None = None
    if layers is not None:
        with _timed(timings, "layers"):
            layer_figures = layers.figures()
    progress.report(Stage.REPORTING)
    return JobResult(
        header={
            "parameters": extractor.feature_map.parameters,
            "probe": _probe(probe),
            "feature_map": _feature_map(
                extractor, evaluation, [] if layers is None else layers.warnings
            ),
            **_figures(diagnosis),
            "performance": _performance(evaluation, extractor.feature_map.positions),
            "layers": layer_figures,
            "provenance": _provenance(extractor, problem, timings),
        },
        sections={
            "eigenfunctions.safetensors": _eigenfunctions(diagnosis, evaluation, options.top_k),
            "moments.safetensors": _moments(evaluation),
        },
    )


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - began


@contextmanager
def _explained() -> Iterator[None]:
    """Give the numerics' errors, which know nothing of jobs, the code that clients see."""
    try:
        yield
    except DiagnosticsError as error:
        code = next(code for kind, code in _FAILURES if isinstance(error, kind))
        raise JobError(code, str(error)) from error


def _probe(probe: ProbeData) -> dict[str, Any]:
    targets = probe.targets
    return {
        "n": len(probe),
        "classes": None if targets is None else targets.classes,
        "class_counts": None if targets is None else targets.class_counts,
        "task": probe.spec.task,
    }


def _problem(extractor: Extractor, probe: ProbeData) -> Problem:
    found, targets = extractor.feature_map, probe.targets
    values = 0 if targets is None else targets.classes or targets.values.shape[1]
    return Problem(rows=len(probe) * found.positions, p=found.p, c=found.outputs, d=values)


def _provenance(
    extractor: Extractor, problem: Problem, timings: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "versions": {
            "phiscope": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "device": "cpu",
        "dtype": extractor.feature_map.dtype,
        "solver": {"method": problem.method, "accuracy": problem.accuracy},
        "timings": {name: round(seconds, 6) for name, seconds in timings.items()},
    }


def _feature_map(
    extractor: Extractor, evaluation: Evaluation, warnings: Sequence[str]
) -> dict[str, JsonValue]:
    found = extractor.feature_map
    residual = extractor.residual
    if residual is None:
        residual = unexplained(evaluation.total(), positions=found.positions)
    return {
        "location": found.location,
        "kind": found.kind,
        "p": found.p,
        "positions": found.positions,
        "outputs": found.outputs,
        "bias": found.b is not None,
        "link": found.link,
        "output": found.output or None,
        "verified": found.verified,
        "weights": None
        if found.W is None
        else {"shape": list(found.W.shape), "norm": float(found.W.norm())},
        "consistency_residual": residual,
        "warnings": [*found.warnings, *warnings],
    }


def _figures(diagnosis: Diagnosis) -> dict[str, Any]:
    """Lay the diagnosis out as the report does; its names are the report's."""

    def part(figures: Any, name: str, **more: Any) -> dict[str, Any]:
        bounds = _plain(diagnosis.confidence_interval[name]) or None
        return {**_plain(figures), **more, "confidence_interval": bounds}

    collapse = diagnosis.neural_collapse
    centered = part(diagnosis.centered_projections, "projections.centered")
    uncentered = part(diagnosis.uncentered_effective_rank, "effective_rank.uncentered")
    return {
        "spectrum": part(diagnosis.spectrum, "spectrum"),
        "projections": part(diagnosis.projections, "projections", centered=centered),
        "effective_rank": part(
            diagnosis.effective_rank or _NO_RANK, "effective_rank", uncentered=uncentered
        ),
        "alignment": part(diagnosis.alignment, "alignment"),
        "verdict": _verdict(diagnosis),
        "neural_collapse": None
        if collapse is None
        else part(collapse, "neural_collapse", nc4_mismatch=diagnosis.nc4),
        "compression": _plain(diagnosis.compression),
    }


def _verdict(diagnosis: Diagnosis) -> dict[str, Any]:
    """Lay out both axes; what the second says follows the first in reasons and warnings."""
    verdict = _plain(diagnosis.verdict)
    assessment = _plain(
        assess(diagnosis.verdict.regime, diagnosis.evidence, curve=diagnosis.compression)
    )
    for name in ("reasons", "warnings"):
        verdict[name] += assessment.pop(name)
    return {**verdict, "assessment": assessment}


def _plain(value: Any) -> Any:
    """Turn dataclasses and arrays into what JSON holds."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _performance(evaluation: Evaluation, positions: int) -> dict[str, Any]:
    measured = evaluation.performance
    if measured is None:
        return {"accuracy": None, "loss": None, "confidence_interval": None}
    bounds = performance_intervals(evaluation.performance_by_fold, positions=positions)
    return {
        "accuracy": measured.accuracy,
        "loss": measured.loss,
        "confidence_interval": _plain(bounds),
    }


def _moments(evaluation: Evaluation) -> bytes:
    arrays = evaluation.total().to_arrays()
    if evaluation.basis is not None:
        arrays["basis"] = evaluation.basis.contiguous().numpy()
    return safetensors.numpy.save(arrays)


def _eigenfunctions(diagnosis: Diagnosis, evaluation: Evaluation, top_k: int | str) -> bytes:
    """Evaluate the leading eigenfunctions on the kept rows: e_k(x) = v_kᵀΦ(x)/√ρ_k."""
    eigenvalues = diagnosis.spectrum.eigenvalues
    wanted = _KEPT_PER_OUTPUT * evaluation.folds[0].c if top_k == "auto" else int(top_k)
    leading = slice(0, min(wanted, len(eigenvalues)))
    vectors = torch.from_numpy(np.ascontiguousarray(diagnosis.eigenvectors[:, leading]))
    projected = (evaluation.kept.rows().features.double() @ vectors).numpy()
    return safetensors.numpy.save(
        {
            "rows": evaluation.kept.sample_of,
            "positions": evaluation.kept.position_of,
            "eigenvalues": np.ascontiguousarray(eigenvalues[leading]),
            "values": np.ascontiguousarray(projected / np.sqrt(eigenvalues[leading])),
        }
    )
