"""The report: its schema, and the checks that a report written by a confined child has to pass.

Every figure takes its title, description and metric card from `service.report.cards`. Validate with
`Report.model_validate_json`: types are strict, so nothing is coerced.
"""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from service.contract.limits import MAX_LAYERS
from service.report.context import FeatureMap, ModelPart, ProbePart, Provenance
from service.report.held_out import EvalProbe, HeldOut
from service.report.intervals import (
    AlignmentIntervals,
    CenteredProjectionsIntervals,
    CenteredSpectrumIntervals,
    EffectiveRankIntervals,
    NeuralCollapseIntervals,
    PerformanceIntervals,
    ProjectionsIntervals,
    SpectrumIntervals,
    UncenteredEffectiveRankIntervals,
)
from service.report.layers import Layer
from service.report.parts import (
    Count,
    Cumulative,
    Eigenvalues,
    LossKind,
    NonNegative,
    Part,
    Positive,
    Share,
    Shares,
    figure,
    require_length,
)
from service.report.verdict import Verdict

MAX_POINTS = 256


class CenteredSpectrum(Part):
    """Spectrum of the features without their mean over the samples."""

    eigenvalues: Annotated[Eigenvalues, figure("spectrum.centered.eigenvalues")]
    relative: Annotated[Shares, figure("spectrum.centered.relative")]
    rank: Annotated[Count, figure("spectrum.centered.rank")]
    # Reports written before every part had intervals lack it; so in the parts below.
    confidence_interval: CenteredSpectrumIntervals | None = None

    @model_validator(mode="after")
    def _as_long_as_the_rank(self) -> Self:
        require_length(self.rank, eigenvalues=self.eigenvalues, relative=self.relative)
        return self


class Spectrum(Part):
    """Spectrum of the feature operator."""

    eigenvalues: Annotated[Eigenvalues, figure("spectrum.eigenvalues")]
    relative: Annotated[Shares, figure("spectrum.relative")]
    trace: Annotated[float, Field(gt=0), figure("spectrum.trace")]
    rank: Annotated[Positive, figure("spectrum.rank")]
    centered: CenteredSpectrum
    confidence_interval: SpectrumIntervals | None = None

    @model_validator(mode="after")
    def _as_long_as_the_rank(self) -> Self:
        require_length(self.rank, eigenvalues=self.eigenvalues, relative=self.relative)
        return self


class CenteredProjections(Part):
    """Projections with the constant removed from features, outputs and targets."""

    quality: Annotated[Shares | None, figure("projections.centered.quality")]
    utilization: Annotated[Shares | None, figure("projections.centered.utilization")]
    cumulative_quality: Annotated[
        Cumulative | None, figure("projections.centered.cumulative_quality")
    ]
    cumulative_utilization: Annotated[
        Cumulative | None, figure("projections.centered.cumulative_utilization")
    ]
    quality_chance_level: Annotated[
        Cumulative | None, figure("projections.centered.quality_chance_level")
    ]
    dim_target: Annotated[Count | None, figure("projections.centered.dim_target")]
    dim_learned: Annotated[Count | None, figure("projections.centered.dim_learned")]
    quality_at_dim_target: Annotated[
        Share | None, figure("projections.centered.quality_at_dim_target")
    ]
    quality_at_dim_target_chance: Annotated[
        Share | None, figure("projections.centered.quality_at_dim_target_chance")
    ]
    confidence_interval: CenteredProjectionsIntervals | None = None


class Projections(Part):
    """How the eigenfunctions lie to the target functions and to the learned ones."""

    quality: Annotated[Shares | None, figure("projections.quality")]
    utilization: Annotated[Shares | None, figure("projections.utilization")]
    cumulative_quality: Annotated[Cumulative | None, figure("projections.cumulative_quality")]
    cumulative_utilization: Annotated[
        Cumulative | None, figure("projections.cumulative_utilization")
    ]
    quality_chance_level: Annotated[Cumulative | None, figure("projections.quality_chance_level")]
    dim_target: Annotated[Count | None, figure("projections.dim_target")]
    dim_learned: Annotated[Count | None, figure("projections.dim_learned")]
    quality_at_dim_target: Annotated[Share | None, figure("projections.quality_at_dim_target")]
    quality_at_dim_target_chance: Annotated[
        Share | None, figure("projections.quality_at_dim_target_chance")
    ]
    centered: CenteredProjections
    confidence_interval: ProjectionsIntervals | None = None


class UncenteredEffectiveRank(Part):
    """Effective ranks of the spectrum as given."""

    participation_ratio: Annotated[
        NonNegative, figure("effective_rank.uncentered.participation_ratio")
    ]
    entropy: Annotated[NonNegative, figure("effective_rank.uncentered.entropy")]
    rankme: Annotated[NonNegative, figure("effective_rank.uncentered.rankme")]
    stable: Annotated[NonNegative, figure("effective_rank.uncentered.stable")]
    confidence_interval: UncenteredEffectiveRankIntervals | None = None


class EffectiveRank(Part):
    """Effective ranks of the centred spectrum; null if the features do not vary."""

    participation_ratio: Annotated[NonNegative | None, figure("effective_rank.participation_ratio")]
    entropy: Annotated[NonNegative | None, figure("effective_rank.entropy")]
    rankme: Annotated[NonNegative | None, figure("effective_rank.rankme")]
    stable: Annotated[NonNegative | None, figure("effective_rank.stable")]
    uncentered: UncenteredEffectiveRank
    confidence_interval: EffectiveRankIntervals | None = None


class Alignment(Part):
    """Centred kernel alignment of features with the minimal operator, targets and outputs."""

    d_lr: Annotated[Share | None, figure("alignment.d_lr")]
    cka_target: Annotated[Share | None, figure("alignment.cka_target")]
    cka_outputs: Annotated[Share | None, figure("alignment.cka_outputs")]
    confidence_interval: AlignmentIntervals


class Performance(Part):
    """How good the answers are."""

    accuracy: Annotated[Share | None, figure("performance.accuracy")]
    loss: Annotated[NonNegative | None, figure("performance.loss")]
    # Reports written before there were several labels a sample lack these; so below.
    loss_kind: Annotated[LossKind | None, figure("performance.loss_kind")] = None
    subset_accuracy: Annotated[Share | None, figure("performance.subset_accuracy")] = None
    average_precision: Annotated[Share | None, figure("performance.average_precision")] = None
    confidence_interval: PerformanceIntervals | None = None


class NeuralCollapse(Part):
    """How far the classes have collapsed to points; 0 is complete collapse."""

    nc1: Annotated[NonNegative | None, figure("neural_collapse.nc1")]
    nc1_quotient: Annotated[NonNegative | None, figure("neural_collapse.nc1_quotient")]
    nc2_equinorm_means: Annotated[NonNegative | None, figure("neural_collapse.nc2_equinorm_means")]
    nc2_equiangle_means: Annotated[
        NonNegative | None, figure("neural_collapse.nc2_equiangle_means")
    ]
    nc2_etf_means: Annotated[NonNegative | None, figure("neural_collapse.nc2_etf_means")]
    nc3: Annotated[NonNegative | None, figure("neural_collapse.nc3")]
    nc4_mismatch: Annotated[Share | None, figure("neural_collapse.nc4_mismatch")]
    confidence_interval: NeuralCollapseIntervals | None = None


class CompressedModel(Part):
    """What is left of the model whose outputs are projected on its first k eigenfunctions."""

    k: Annotated[Count, figure("compression.*.k")]
    accuracy: Annotated[Share | None, figure("compression.*.accuracy")]
    agreement: Annotated[Share | None, figure("compression.*.agreement")]
    output_error: Annotated[Share, figure("compression.*.output_error")]


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
        probes: list[ProbePart | EvalProbe] = [self.probe]
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


def _require_vectors(projections: Projections | CenteredProjections, rank: int) -> None:
    require_length(
        rank,
        utilization=projections.utilization,
        cumulative_utilization=projections.cumulative_utilization,
        quality=projections.quality,
        cumulative_quality=projections.cumulative_quality,
        quality_chance_level=projections.quality_chance_level,
    )
