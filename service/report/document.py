"""The report: its schema, and the checks that a report written by a confined child has to pass.

Validate with `Report.model_validate_json`: types are strict, so nothing is coerced.
"""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from service.contract.limits import MAX_LAYERS
from service.report.alignment import Alignment
from service.report.compression import CompressedModel
from service.report.effective_rank import EffectiveRank
from service.report.feature_map import FeatureMap
from service.report.figures import Part, mounted
from service.report.held_out import HeldOut
from service.report.layers import Layer
from service.report.model import ModelPart
from service.report.neural_collapse import NeuralCollapse
from service.report.parts import require_length
from service.report.performance import Performance
from service.report.probe import ProbePart
from service.report.projections import EigenfunctionProjections, Projections
from service.report.provenance import Provenance
from service.report.spectrum import Spectrum
from service.report.verdict import Verdict

MAX_POINTS = 256


class Report(Part):
    """What an analysis found out about a model on a probe."""

    analysis_id: UUID
    created_at: AwareDatetime
    schema_version: Literal["1"]
    model: ModelPart
    probe: ProbePart
    feature_map: FeatureMap
    spectrum: Spectrum
    projections: Projections
    effective_rank: EffectiveRank
    verdict: Verdict
    alignment: Alignment
    neural_collapse: Annotated[
        NeuralCollapse | None, Field(description="Null unless the probe names classes.")
    ] = None
    performance: Performance
    compression: Annotated[
        Annotated[list[CompressedModel], Field(max_length=MAX_POINTS)],
        Field(
            default_factory=list,
            description="The model with fewer features, by increasing k; empty if its outputs do "
            "not vary.",
        ),
    ]
    # Reports written before there were eval probes lack it.
    held_out: Annotated[
        HeldOut | None,
        Field(
            description="What the eigenfunctions hold on a second probe; null unless the analysis "
            "was given one."
        ),
    ] = None
    layers: Annotated[
        Annotated[list[Layer], Field(max_length=MAX_LAYERS)] | None,
        Field(
            description="Figures of every layer before the last linear one, in order of "
            "execution; null unless the analysis was asked for them."
        ),
    ]
    provenance: Provenance

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        probes: list[ProbePart] = [self.probe]
        if self.held_out is not None:
            probes.append(self.held_out.probe)
        for probe in probes:
            counts, labels = probe.class_counts, probe.n * self.feature_map.positions
            names = probe.class_names
            if names is not None and len(names) != probe.classes:
                raise ValueError(
                    f"class_names must name each of {probe.classes} classes, has {len(names)}"
                )
            if counts is None:
                continue
            if probe.task == "multilabel":
                if len(counts) != probe.classes or max(counts) > labels:
                    raise ValueError(
                        f"class_counts must name each of {probe.classes} labels with at most n × "
                        f"positions = {labels}, has {len(counts)} entries up to {max(counts)}"
                    )
            elif len(counts) != probe.classes or not (
                labels - (probe.ignored or 0) <= sum(counts) <= labels
            ):
                raise ValueError(
                    f"class_counts must name each of {probe.classes} classes and sum to n × "
                    f"positions = {labels}, has {len(counts)} entries that sum to {sum(counts)}"
                )
        return self

    @model_validator(mode="after")
    def _vectors_match_the_spectrum(self) -> Self:
        _require_vectors(self.projections, self.spectrum.rank)
        _require_vectors(self.projections.centered, self.spectrum.centered.rank)
        if self.held_out is not None:
            self.held_out.require_ranks(self.spectrum.rank, self.spectrum.centered.rank)
        if self.spectrum.rank > self.feature_map.p:
            raise ValueError(
                f"the rank {self.spectrum.rank} exceeds the {self.feature_map.p} features"
            )
        return self


def _require_vectors(projections: EigenfunctionProjections, rank: int) -> None:
    require_length(
        rank,
        utilization=projections.utilization,
        cumulative_utilization=projections.cumulative_utilization,
        quality=projections.quality,
        cumulative_quality=projections.cumulative_quality,
        quality_chance_level=projections.quality_chance_level,
    )


# What every figure means, by its dotted path in the report; `*` stands for entries.
CARDS = mounted(Report)
