"""The report's verdict: regime, the figures that it rests on, and the second axis beside it."""

from typing import Annotated, Literal

from pydantic import Field

from service.report.assessment import Assessment
from service.report.card import RULE, MetricCard
from service.report.figures import Figure, Intervals, Part, with_intervals
from service.report.minimality import Minimality
from service.report.parts import Name, Sentences
from service.report.thresholds import Thresholds

_REGIME = MetricCard(
    title="Regime",
    definition=(
        "MF: minimal features, the network learned as few as its outputs need. EF: expressive "
        "features, the outputs draw on many more. Undetermined: the figures do not settle it."
    ),
    formula=(
        "MF: Ũ' ≥ 0.90 and (E ≥ 0.755 or D ≤ 0.12) and D ≤ 0.32. EF: Ũ' ≤ 0.84, or (E ≤ 0.715 and "
        "D ≥ 0.20), or D ≥ 0.40. Compared are the bounds of 95 % intervals"
    ),
    range="MF, EF, undetermined",
    reading=(
        "MF is rich learning: features were shaped by the task. EF is lazy: a readout of features "
        "that were there already. Neither says the answers are right: Π*(C) and accuracy do."
    ),
    failure_modes=(
        "Undetermined on few samples, or where the layer has fewer than 2r directions. A narrow "
        "linear layer upstream forces features to look minimal."
    ),
    reference=RULE,
)


@with_intervals(Minimality)
class Verdict(Part):
    """MF or EF, and why."""

    regime: Annotated[Literal["MF", "EF", "undetermined"], Figure(_REGIME)]
    rule: Annotated[Name, Field(description="Version of the rule that decided.")]
    minimality: Minimality
    confidence_interval: Intervals
    reasons: Annotated[Sentences, Field(min_length=1, description="Why, with figures.")]
    thresholds: Thresholds
    warnings: Annotated[Sentences, Field(description="What to mind when reading the figures.")]
    assessment: Annotated[
        Assessment | None, Field(description="The second axis beside the regime.")
    ] = None
