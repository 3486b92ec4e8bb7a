"""The report's verdict: regime, the figures that it rests on, and the second axis beside it."""

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import Field

from service.contract.rule import THRESHOLDS
from service.report.assessment import Assessment
from service.report.card import FEWEST_DIRECTIONS, RULE, MetricCard, bound
from service.report.figures import Figure, Intervals, Part, with_intervals
from service.report.minimality import Minimality
from service.report.parts import Name, Sentences
from service.report.thresholds import Thresholds

_BOUNDS = {name: bound(value) for name, value in asdict(THRESHOLDS).items()}

_REGIME = MetricCard(
    title="Regime",
    definition=(
        "MF: minimal features, the network learned as few as its outputs need. EF: expressive "
        "features, the outputs draw on many more. Undetermined: the figures do not settle it."
    ),
    formula=(
        "MF: Ũ' ≥ {mf_utilization} and (E ≥ {mf_energy} or D ≤ {mf_distance}) and D ≤ "
        "{mf_greatest_distance}. EF: Ũ' ≤ {ef_utilization}, or (E ≤ {ef_energy} and D ≥ "
        "{ef_distance}), or D ≥ {ef_certain_distance}. Compared are the bounds of 95 % intervals"
    ).format_map(_BOUNDS),
    range="MF, EF, undetermined",
    reading=(
        "MF is rich learning: features were shaped by the task. EF is lazy: a readout of features "
        "that were there already. Neither says the answers are right: Π*(C) and accuracy do."
    ),
    failure_modes=(
        f"Undetermined on few samples, or where the layer has fewer than {FEWEST_DIRECTIONS} "
        "directions. A narrow linear layer upstream forces features to look minimal."
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
