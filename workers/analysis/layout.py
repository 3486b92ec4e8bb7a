"""The layout of figures in the report: a job's header, before the worker completes it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue

from service import __version__
from workers.analysis.evaluation import Evaluation
from workers.analysis.held_out import HeldOutEvaluation
from workers.analysis.inputs import Fitted
from workers.diagnostics import (
    Answer,
    AveragePrecision,
    Diagnosis,
    EffectiveRank,
    Evidence,
    Performance,
    assess,
    performance_intervals,
    unexplained,
)
from workers.diagnostics.plan import Problem
from workers.extraction import Extractor
from workers.protocol.requests import Device

# Features that are constant over the probe have no centred spectrum.
_NO_RANK = dict.fromkeys(each.name for each in fields(EffectiveRank))


def probe_part(fitted: Fitted) -> dict[str, Any]:
    """Return what was read and how the model got it; the worker adds what identifies the probe."""
    probe = fitted.probe
    targets = probe.targets
    return {
        "n": len(probe),
        "classes": None if targets is None else targets.classes,
        "class_counts": None if targets is None else targets.class_counts,
        "class_names": None
        if targets is None or targets.class_names is None
        else list(targets.class_names),
        "ignored": probe.ignored,
        "task": probe.spec.task,
        "target": probe.spec.target,
        "inputs": [
            {
                "argument": given.argument,
                "array": given.array,
                "stored": given.stored,
                "dtype": each.transform.dtype,
                "transform": given.transform.model_dump(mode="json"),
                "done": given.done,
            }
            for given, each in zip(fitted.inputs, probe.inputs, strict=True)
        ],
        "notes": [*fitted.notes, *probe.notes],
    }


def provenance_part(
    extractor: Extractor, problem: Problem, timings: Mapping[str, float], device: Device
) -> dict[str, Any]:
    """Return how the figures were computed."""
    return {
        "versions": {
            "phiscope": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else None,
        "dtype": extractor.feature_map.dtype,
        "solver": {
            "method": problem.method,
            "device": extractor.destination.type,
            "accuracy": problem.accuracy,
        },
        "timings": {name: round(seconds, 6) for name, seconds in timings.items()},
    }


def feature_map_part(
    extractor: Extractor, evaluation: Evaluation, warnings: Sequence[str]
) -> dict[str, JsonValue]:
    """Return where the features were found."""
    found = extractor.feature_map
    residual = extractor.residual
    if residual is None:
        residual = unexplained(evaluation.total())
    return {
        "location": found.location,
        "kind": found.kind,
        "p": found.p,
        "positions": found.positions,
        "outputs": found.outputs,
        "bias": found.b is not None,
        "link": found.link,
        "answer": evaluation.answer.name,
        "output": found.output or None,
        "verified": found.verified,
        "weights": None
        if found.W is None
        else {"shape": list(found.W.shape), "norm": float(found.W.norm())},
        "consistency_residual": residual,
        "warnings": [*found.warnings, *warnings],
    }


def figures(diagnosis: Diagnosis, evidence: Evidence) -> dict[str, Any]:
    """Lay out the diagnosis, whose field names are those of the report.

    Args:
        diagnosis: Diagnosis of the model on the probe.
        evidence: Evidence for the second axis.
    """

    def part(figures: Any, name: str, **more: Any) -> dict[str, Any]:
        bounds = _plain(diagnosis.confidence_interval[name]) or None
        return {**_plain(figures), **more, "confidence_interval": bounds}

    collapse = diagnosis.neural_collapse
    centered_spectrum = part(diagnosis.spectrum.centered, "spectrum.centered")
    centered = part(diagnosis.centered_projections, "projections.centered")
    uncentered = part(diagnosis.uncentered_effective_rank, "effective_rank.uncentered")
    return {
        "spectrum": part(diagnosis.spectrum, "spectrum", centered=centered_spectrum),
        "projections": part(diagnosis.projections, "projections", centered=centered),
        "effective_rank": part(
            diagnosis.effective_rank or _NO_RANK, "effective_rank", uncentered=uncentered
        ),
        "alignment": part(diagnosis.alignment, "alignment"),
        "verdict": _verdict(diagnosis, evidence),
        "neural_collapse": None
        if collapse is None
        else part(collapse, "neural_collapse", nc4_mismatch=diagnosis.nc4),
        "compression": _plain(diagnosis.compression),
    }


def _verdict(diagnosis: Diagnosis, evidence: Evidence) -> dict[str, Any]:
    """Lay out both axes; reasons and warnings of the second follow those of the first."""
    verdict = _plain(diagnosis.verdict)
    assessment = _plain(
        assess(
            diagnosis.verdict.regime,
            evidence,
            curve=diagnosis.compression,
            trials=diagnosis.trials,
        )
    )
    for name in ("reasons", "warnings"):
        verdict[name] += assessment.pop(name)
    return {**verdict, "assessment": assessment}


def performance_part(evaluation: Evaluation, positions: float) -> dict[str, Any]:
    """Return how good the answers are.

    Args:
        evaluation: Evaluation of the model on the probe.
        positions: Rows per sample, on average.
    """
    folds, ranked = evaluation.performance_by_fold, evaluation.average_precision
    figures = _performance(sum(folds, Performance()) if folds else None, evaluation.answer, ranked)
    if not folds:
        return {**figures, "confidence_interval": None}
    bounds = {
        **performance_intervals(folds, positions=positions),
        "average_precision": None if ranked is None else ranked.confidence_interval,
    }
    return {**figures, "confidence_interval": _plain(bounds)}


def held_out_part(evaluation: HeldOutEvaluation) -> dict[str, Any]:
    """Return the figures of the eval probe."""
    found, ranked = evaluation.figures, evaluation.average_precision
    bounds = {
        **found.confidence_interval,
        "average_precision": None if ranked is None else ranked.confidence_interval,
    }
    return {
        **_plain(found.projections),
        "centered": {
            **_plain(found.centered_projections),
            "confidence_interval": _plain(found.centered_confidence_interval),
        },
        "minimality": _plain(found.minimality),
        "confidence_interval": _plain(bounds),
        "performance": _performance(found.performance, evaluation.answer, ranked),
    }


def _performance(
    measured: Performance | None, answer: Answer, ranked: AveragePrecision | None
) -> dict[str, Any]:
    """Return the figures of the answers; all are None without targets."""
    labels = None if measured is None else measured.labels
    loss = None if measured is None else measured.loss
    return {
        "accuracy": None if measured is None else measured.accuracy,
        "loss": loss,
        "loss_kind": None if loss is None else answer.loss_kind,
        "subset_accuracy": None if labels is None else labels.subset_accuracy,
        "average_precision": None if ranked is None else ranked.value,
    }


def _plain(value: Any) -> Any:
    """Convert dataclasses and arrays to JSON values."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
