"""A report as a worker completes it, small and made up, for tests to change."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from service.contract.rule import RULE_VERSION
from service.report.alignment import Alignment, Alignments
from service.report.assessment import Assessment
from service.report.compression import CompressedModel
from service.report.effective_rank import EffectiveRank, UncenteredEffectiveRank
from service.report.feature_map import FeatureMap
from service.report.figures import Intervals, Part
from service.report.held_out import (
    CenteredHeldOut,
    EvalProbe,
    HeldOut,
    HeldOutMinimality,
    HeldOutPerformance,
)
from service.report.layers import Layer, LayerEffectiveRank
from service.report.minimality import Minimality
from service.report.model import ModelPart
from service.report.neural_collapse import NeuralCollapse
from service.report.performance import Performance
from service.report.probe import ProbePart
from service.report.projections import CenteredProjections, Projections
from service.report.spectrum import CenteredSpectrum, Spectrum
from service.report.thresholds import Thresholds
from service.report.verdict import Verdict

IDENTIFIER = "01890a5d-ac96-774b-bcce-b302099a8057"


def filled(part: type[Part], **given: Any) -> dict[str, Any]:
    """A part with what is given; all other scalars are 1, and intervals reach from 0 to 1."""
    found = {}
    for name, field in part.model_fields.items():
        types = list(_types(field.annotation))
        if issubclass(part, Intervals):
            found[name] = [0.0, 1.0]
        elif name in part.figures and not {list, tuple} & {get_origin(each) for each in types}:
            found[name] = 1
        elif name == "confidence_interval":
            found[name] = filled(next(each for each in types if isinstance(each, type(Part))))
    return found | given


def _types(annotation: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield annotation
    for each in get_args(annotation):
        yield from _types(each)


def _curves(length: int) -> dict[str, Any]:
    return {
        "quality": [0.5] * length,
        "utilization": [0.9] * length,
        "cumulative_quality": [0.5] * length,
        "cumulative_utilization": [0.9] * length,
        "quality_chance_level": [0.1] * length,
    }


def _held_out() -> dict[str, Any]:
    # Energies of another probe need not decrease.
    energies = [1.0, 0.0, 2.0]
    return filled(
        HeldOut,
        **_curves(3),
        eigenvalues=energies,
        probe=filled(
            EvalProbe,
            id="01890a5d-ac96-774b-bcce-b302099a8058",
            name="digits-test",
            sha256="c" * 64,
            n=100,
            classes=2,
            class_counts=[40, 60],
            ignored=None,
            task="classification",
            inputs=[],
            notes=[],
        ),
        centered=filled(CenteredHeldOut, **_curves(2), eigenvalues=energies[:2]),
        minimality=filled(HeldOutMinimality),
        performance=filled(HeldOutPerformance, loss_kind="cross_entropy"),
    )


def sample_layer(name: str, *, varies: bool = True) -> dict[str, Any]:
    """A layer whose features vary, or one whose features do not."""

    def vectors(length: int) -> dict[str, Any]:
        return {
            "rank": length,
            "eigenvalues": [1.0] * length,
            "cumulative_quality": [0.5] * length,
            "cumulative_utilization": [0.9] * length,
        }

    layer = {"name": name, "kind": "conv2d", "p": 3}
    if varies:
        ranks = filled(LayerEffectiveRank)
        return filled(Layer, **layer, **vectors(3), centered=vectors(2), effective_rank=ranks)
    return {
        **layer,
        **vectors(1),
        "centered": vectors(0),
        "effective_rank": None,
        **dict.fromkeys(Alignments.figures),
        "confidence_interval": None,
    }


def _probe() -> dict[str, Any]:
    return filled(
        ProbePart,
        id=IDENTIFIER,
        name="builtin:digits",
        sha256="b" * 64,
        n=500,
        classes=2,
        class_counts=[200, 300],
        ignored=None,
        task="classification",
        inputs=[
            {
                "argument": "input",
                "array": "x",
                "stored": "uint8",
                "dtype": "float32",
                "transform": {"dtype": "float32", "scale": 1 / 16},
                "done": "'x' (uint8 (500, 8, 8)): as float32; × 0.0625: as the spec says.",
            }
        ],
        notes=["The whole-valued floats are class labels: the model has 2 outputs."],
    )


def _feature_map() -> dict[str, Any]:
    return filled(
        FeatureMap,
        location="the last aten::linear",
        kind="linear",
        p=4,
        outputs=2,
        bias=True,
        link="identity",
        answer="logits",
        output=None,
        verified=True,
        weights={"shape": [2, 4], "norm": 1.0},
        consistency_residual=1e-7,
        warnings=[],
    )


def _spectrum() -> dict[str, Any]:
    return filled(
        Spectrum,
        eigenvalues=[3.0, 1.0, 0.5],
        relative=[1.0, 0.33, 0.17],
        rank=3,
        centered=filled(CenteredSpectrum, eigenvalues=[1.0, 0.5], relative=[1.0, 0.5], rank=2),
    )


def _verdict() -> dict[str, Any]:
    return filled(
        Verdict,
        regime="MF",
        rule=RULE_VERSION,
        minimality=filled(Minimality),
        reasons=["Ũ' = 1."],
        thresholds=filled(Thresholds),
        warnings=[],
        assessment=filled(Assessment, summary="minimal and good", held_out=False),
    )


def sample_report() -> dict[str, Any]:
    """A report with every part."""
    return {
        "analysis_id": IDENTIFIER,
        "created_at": "2026-01-02T03:04:05Z",
        "schema_version": "1",
        "model": filled(ModelPart, id=IDENTIFIER, name="digits", sha256="a" * 64, run=None),
        "probe": _probe(),
        "feature_map": _feature_map(),
        "spectrum": _spectrum(),
        "projections": filled(
            Projections,
            **_curves(3),
            centered=filled(CenteredProjections, **_curves(2)),
        ),
        "effective_rank": filled(EffectiveRank, uncentered=filled(UncenteredEffectiveRank)),
        "verdict": _verdict(),
        "neural_collapse": filled(NeuralCollapse),
        "compression": [filled(CompressedModel, k=0), filled(CompressedModel, k=2)],
        "alignment": filled(Alignment),
        "performance": filled(Performance, loss_kind="cross_entropy"),
        "held_out": _held_out(),
        "layers": [sample_layer("conv1"), sample_layer("conv2", varies=False)],
        "provenance": {
            "versions": {"phiscope": "0.1.0", "torch": "2.13.0", "numpy": "2.3.0"},
            "device": "cpu",
            "dtype": "float32",
            "solver": {"method": "full", "accuracy": 1e-14},
            "seed": 0,
            "options": {"batch_size": "auto"},
            "timings": {"forward": 1.5},
        },
    }
