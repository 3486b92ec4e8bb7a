"""The report: its schema, and the checks that a report written by a confined child has to pass.

Every figure takes its title, description and metric card from `service.analyses.metrics`. Validate
with `Report.model_validate_json`: types are strict, so nothing is coerced.
"""

import json
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue, model_validator

from service.analyses.report_held_out import EvalProbe, HeldOut
from service.analyses.report_intervals import (
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
from service.analyses.report_layers import MAX_LAYERS, Layer
from service.analyses.report_parts import (
    MAX_ENTRIES,
    ClassNames,
    Count,
    Cumulative,
    Eigenvalues,
    GivenInputs,
    LossKind,
    Name,
    NonNegative,
    Part,
    Positive,
    Sentence,
    Sentences,
    Sha256,
    Share,
    Shares,
    figure,
    require_length,
)
from service.analyses.report_verdict import Verdict
from service.probes.spec import Task

MAX_OPTIONS_CHARACTERS = 16_384
MAX_POINTS = 256


def _plain_json(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(json.dumps(options, allow_nan=False))
    if size > MAX_OPTIONS_CHARACTERS:
        raise ValueError(f"must be at most {MAX_OPTIONS_CHARACTERS} characters of JSON, is {size}")
    return options


class ModelPart(Part):
    """The model that was analysed."""

    id: UUID
    name: Name
    sha256: Sha256
    run: Name | None
    step: Annotated[Count | None, figure("model.step")]
    parameters: Annotated[Count | None, figure("model.parameters")]


class ProbePart(Part):
    """The data that it was analysed on."""

    id: UUID
    name: Name
    version: Annotated[Positive, figure("probe.version")]
    sha256: Sha256
    n: Annotated[Positive, figure("probe.n")]
    classes: Annotated[Positive | None, figure("probe.classes")]
    class_counts: Annotated[
        Annotated[list[Count], Field(max_length=MAX_ENTRIES)] | None, figure("probe.class_counts")
    ]
    # Reports written before labels had names, and could be left out, lack both.
    class_names: ClassNames = None
    ignored: Annotated[Count | None, figure("probe.ignored")] = None
    task: Task | None
    # Reports written before anything was inferred from the model lack both.
    inputs: GivenInputs
    notes: Annotated[
        Sentences,
        Field(
            default_factory=list,
            description="What was inferred about the probe's data, and what shows it.",
        ),
    ]


class HeadWeights(Part):
    """The weights of the final linear layer, in brief."""

    shape: Annotated[tuple[Positive, Positive], figure("feature_map.weights.shape")]
    norm: Annotated[NonNegative, figure("feature_map.weights.norm")]


class FeatureMap(Part):
    """Where the features were found, and how exactly the outputs follow from them."""

    location: Annotated[Sentence, Field(description="Where in the model the head was found.")]
    kind: Annotated[Name, Field(description="Operation of the head, such as linear or conv1x1.")]
    p: Annotated[Positive, figure("feature_map.p")]
    # Reports written before there were dense models lack it.
    positions: Annotated[Positive, figure("feature_map.positions")] = 1
    outputs: Annotated[Count, figure("feature_map.outputs")]
    bias: Annotated[bool, Field(description="Whether the head adds a bias.")]
    link: Annotated[
        Name,
        Field(
            description="What the model does to the head's outputs, such as identity or softmax."
        ),
    ]
    # Reports written before figures were of the model's answer lack it.
    answer: Annotated[
        Name | None,
        Field(
            description="What the model's answer shows itself to be, which accuracy and loss "
            "follow from: logits, probabilities or log-probabilities (of classes, or of each "
            "output), decisions (0 and 1), signed scores (decided at 0), scores (none of these: "
            "only which is largest counts), or values."
        ),
    ] = None
    output: Annotated[
        Name | None,
        Field(description="Which of several results was taken; null if there is one only."),
    ]
    verified: Annotated[
        bool,
        Field(
            description="Whether every batch proved that the model's answer follows from these "
            "features through this layer; false for what the model's owner chose unproved."
        ),
    ]
    weights: HeadWeights | None
    consistency_residual: Annotated[NonNegative | None, figure("feature_map.consistency_residual")]
    warnings: Annotated[Sentences, Field(description="What to mind about how Φ was found.")]


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


class Versions(Part):
    """Versions of the software that computed the report."""

    phiscope: Name
    torch: Name
    numpy: Name


class Solver(Part):
    """How the eigenvalues were found."""

    method: Annotated[
        Literal["full", "dual"],
        Field(
            description="full: of the p × p sums over features; dual: of the n × n sums over "
            "their coordinates, where rows are fewer than features. Both give all eigenvalues. "
            "Intervals use the leading ones alone where these suffice, to a residual of 1e-8."
        ),
    ]
    accuracy: Annotated[NonNegative, figure("provenance.solver.accuracy")]


class Provenance(Part):
    """How the report came about: enough to compute it again."""

    versions: Versions
    device: Annotated[Name, Field(description="Where the model ran: cpu or cuda.")]
    # Reports written before there were GPUs lack it.
    device_name: Annotated[
        Name | None, Field(description="The GPU's name; null if the model ran on a CPU.")
    ] = None
    dtype: Annotated[Name, Field(description="Precision of the features as the model gave them.")]
    # Reports written before there was a choice lack it.
    solver: Solver | None = None
    seed: Annotated[Count, figure("provenance.seed")]
    options: Annotated[
        dict[str, JsonValue],
        AfterValidator(_plain_json),
        Field(description="Options of the analysis, defaults filled in."),
    ]
    timings: Annotated[
        dict[Name, Annotated[NonNegative, figure("provenance.timings.*")]], Field(max_length=64)
    ]


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
