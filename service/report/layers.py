"""The report's part about layers before the last one, and how much of it there may be."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from service.report.parts import (
    Count,
    Cumulative,
    Eigenvalues,
    Interval,
    Name,
    NonNegative,
    Part,
    Positive,
    Share,
    figure,
    require_length,
)


class LayerEffectiveRankIntervals(Part):
    """95 % intervals of a layer's effective ranks."""

    participation_ratio: Annotated[
        Interval | None, figure("layers.*.effective_rank.confidence_interval.participation_ratio")
    ]
    entropy: Annotated[
        Interval | None, figure("layers.*.effective_rank.confidence_interval.entropy")
    ]
    rankme: Annotated[Interval | None, figure("layers.*.effective_rank.confidence_interval.rankme")]
    stable: Annotated[Interval | None, figure("layers.*.effective_rank.confidence_interval.stable")]


class LayerEffectiveRank(Part):
    """Effective ranks of a layer's centred spectrum."""

    participation_ratio: Annotated[
        NonNegative, figure("layers.*.effective_rank.participation_ratio")
    ]
    entropy: Annotated[NonNegative, figure("layers.*.effective_rank.entropy")]
    rankme: Annotated[NonNegative, figure("layers.*.effective_rank.rankme")]
    stable: Annotated[NonNegative, figure("layers.*.effective_rank.stable")]
    # Reports written before layers had intervals lack it, and layers too wide for them; so below.
    confidence_interval: LayerEffectiveRankIntervals | None = None


class LayerIntervals(Part):
    """95 % intervals of a layer's alignments."""

    d_lr: Annotated[Interval | None, figure("layers.*.confidence_interval.d_lr")]
    cka_target: Annotated[Interval | None, figure("layers.*.confidence_interval.cka_target")]
    cka_outputs: Annotated[Interval | None, figure("layers.*.confidence_interval.cka_outputs")]


class CenteredLayer(Part):
    """Spectrum and projections with the constant removed from features, outputs and targets."""

    rank: Annotated[Count, figure("layers.*.centered.rank")]
    eigenvalues: Annotated[Eigenvalues, figure("layers.*.centered.eigenvalues")]
    cumulative_quality: Annotated[Cumulative | None, figure("layers.*.centered.cumulative_quality")]
    cumulative_utilization: Annotated[
        Cumulative | None, figure("layers.*.centered.cumulative_utilization")
    ]

    @model_validator(mode="after")
    def _as_long_as_the_rank(self) -> Self:
        _require_vectors(self)
        return self


class Layer(Part):
    """One execution of a layer: its post-activations, averaged over positions."""

    name: Annotated[
        Name,
        Field(
            description="The layer's place in the model, or its operation and which of them it is."
        ),
    ]
    kind: Annotated[Name, Field(description="Operation of the layer, such as conv2d.")]
    p: Annotated[Positive, figure("layers.*.p")]
    rank: Annotated[Count, figure("layers.*.rank")]
    eigenvalues: Annotated[Eigenvalues, figure("layers.*.eigenvalues")]
    cumulative_quality: Annotated[Cumulative | None, figure("layers.*.cumulative_quality")]
    cumulative_utilization: Annotated[Cumulative | None, figure("layers.*.cumulative_utilization")]
    centered: CenteredLayer
    effective_rank: Annotated[
        LayerEffectiveRank | None, Field(description="Null if the features do not vary.")
    ]
    d_lr: Annotated[Share | None, figure("layers.*.d_lr")]
    cka_target: Annotated[Share | None, figure("layers.*.cka_target")]
    cka_outputs: Annotated[Share | None, figure("layers.*.cka_outputs")]
    confidence_interval: LayerIntervals | None = None

    @model_validator(mode="after")
    def _vectors_match_the_spectrum(self) -> Self:
        _require_vectors(self)
        if max(self.rank, self.centered.rank) > self.p:
            raise ValueError(f"the rank of layer {self.name} exceeds its {self.p} features")
        return self


def _require_vectors(part: Layer | CenteredLayer) -> None:
    require_length(
        part.rank,
        eigenvalues=part.eigenvalues,
        cumulative_quality=part.cumulative_quality,
        cumulative_utilization=part.cumulative_utilization,
    )
