"""The report's part about layers before the last one: what it says of Φ, for each layer."""

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from service.report import projections, spectrum
from service.report.alignment import Alignments
from service.report.card import PAPER, MetricCard, centered
from service.report.effective_rank import EffectiveRanks
from service.report.figures import Figure, Intervals, Part, twin, with_intervals
from service.report.parts import (
    Count,
    Cumulative,
    Eigenvalues,
    Name,
    NonNegative,
    Positive,
    require_length,
)

_P = MetricCard(
    title="Width of a layer",
    definition="Number of features of a layer: its channels.",
    formula="p, with Φ_layer: X → R^p",
    range="≥ 1",
    reading="Room for features. Compare ranks with it, and widths before you compare ranks.",
    failure_modes="Dead and duplicated channels count; the layer's rank does not count them.",
    reference=PAPER,
)


def _of_a_layer(card: MetricCard) -> MetricCard:
    """Return the card of a figure that the report has for Φ, too."""
    return replace(
        card,
        title=f"{card.title}, of a layer",
        definition=(
            f"{card.definition} Here the features are one layer's post-activations, averaged over "
            "positions; outputs and targets are the network's."
        ),
        reading=(
            f"{card.reading} Follow it through the layers, in order of execution: where it changes "
            "the network does its work."
        ),
        failure_modes=(
            f"{card.failure_modes} Averages over positions hide what a layer says by position."
        ),
    )


def _interval_of_a_layer(card: MetricCard) -> MetricCard:
    """Return the card of the interval of such a figure."""
    return replace(
        card,
        range=f"{card.range}, or where there was no memory for sums of the layer by fold",
        failure_modes=(
            f"{card.failure_modes} Layers have five folds, Φ has ten: for the last layer it "
            "differs a little from the interval beside the same figure of Φ."
        ),
    )


# A base of its own, since what is inherited comes first: a report names a layer before its figures.
class NamedLayer(Part):
    """Which layer it is."""

    name: Annotated[
        Name,
        Field(
            description="The layer's place in the model, or its operation and which of them it is."
        ),
    ]
    kind: Annotated[Name, Field(description="Operation of the layer, such as conv2d.")]


class LayerProjections(Part):
    """Spectrum and projections of a layer's features."""

    rank: Annotated[Count, Figure(spectrum.RANK)]
    eigenvalues: Annotated[Eigenvalues, Figure(spectrum.EIGENVALUES)]
    cumulative_quality: Annotated[Cumulative | None, Figure(projections.CUMULATIVE_QUALITY)]
    cumulative_utilization: Annotated[Cumulative | None, Figure(projections.CUMULATIVE_UTILIZATION)]

    @model_validator(mode="after")
    def _as_long_as_the_rank(self) -> Self:
        require_length(
            self.rank,
            eigenvalues=self.eigenvalues,
            cumulative_quality=self.cumulative_quality,
            cumulative_utilization=self.cumulative_utilization,
        )
        return self


@twin(lambda card: _of_a_layer(centered(card)))
class CenteredLayer(LayerProjections):
    """Spectrum and projections with the constant removed from features, outputs and targets."""


# Reports written before layers had intervals lack them, and so do layers too wide for them.
@with_intervals()
@twin(_of_a_layer, _interval_of_a_layer)
class LayerEffectiveRank(EffectiveRanks[NonNegative]):
    """Effective ranks of a layer's centred spectrum."""

    confidence_interval: Intervals | None = None


@with_intervals()
@twin(_of_a_layer, _interval_of_a_layer)
class Layer(Alignments, LayerProjections, NamedLayer):
    """One execution of a layer: its post-activations, averaged over positions."""

    p: Annotated[Positive, Figure(_P)]
    centered: CenteredLayer
    effective_rank: Annotated[
        LayerEffectiveRank | None, Field(description="Null if the features do not vary.")
    ]
    confidence_interval: Intervals | None = None

    @model_validator(mode="after")
    def _rank_within_the_width(self) -> Self:
        if max(self.rank, self.centered.rank) > self.p:
            raise ValueError(f"the rank of layer {self.name} exceeds its {self.p} features")
        return self
