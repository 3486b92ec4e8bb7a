"""The report's part about neural collapse."""

from dataclasses import replace
from typing import Annotated

from service.report.card import MetricCard, interval, interval_of_a_share
from service.report.figures import Figure, Intervals, Part, with_intervals
from service.report.parts import NonNegative, Share

_PAPYAN = "Papyan, Han, Donoho: PNAS 117 (2020)"
_WHERE = "null with fewer than two classes, or where all class means coincide"

_NC1 = MetricCard(
    title="NC1: variability within classes",
    definition="Covariance within classes, measured by the covariance between them.",
    formula="tr(Σ_W Σ_B⁺)/C, pseudo-inverse of rank C − 1 at most",
    range=f"≥ 0; {_WHERE}",
    reading="0: every class is a single point. Falls by orders of magnitude along training.",
    failure_modes=(
        "One pair of classes with nearly equal means makes it huge. It does not order MF and "
        "EF networks."
    ),
    reference=_PAPYAN,
)
_NC1_QUOTIENT = MetricCard(
    title="NC1 as a quotient",
    definition="Variance within classes over variance between them.",
    formula="tr Σ_W / tr Σ_B",
    range=f"≥ 0; {_WHERE}",
    reading="As NC1, and sturdier: no direction counts for more than its variance.",
    failure_modes="Ruled by the strongest directions of either side.",
    reference=_PAPYAN,
)
_NC2_EQUINORM_MEANS = MetricCard(
    title="NC2: equal norms",
    definition="How much the centred class means differ in length.",
    formula="std ‖μ_c − μ_G‖ / mean ‖μ_c − μ_G‖",
    range=f"≥ 0; {_WHERE}",
    reading="0: all classes stand out equally.",
    failure_modes="Always 0 with two classes. p features have room for p + 1 means at equal "
    "angles: with more classes it cannot be 0.",
    reference=_PAPYAN,
)
_NC2_EQUIANGLE_MEANS = MetricCard(
    title="NC2: equal angles",
    definition="How much the angles between centred class means differ.",
    formula="std over pairs of cos(μ_c − μ_G, μ_c' − μ_G)",
    range=f"[0, 1]; {_WHERE}",
    reading="0: all classes are as far apart as any others.",
    failure_modes="Always 0 with two classes. p features have room for p + 1 means at equal "
    "angles: with more classes it cannot be 0.",
    reference=_PAPYAN,
)
_NC2_ETF_MEANS = MetricCard(
    title="NC2: distance to the simplex",
    definition="Distance of the centred class means from a simplex equiangular tight frame.",
    formula="‖MᵀM/‖MᵀM‖_F − (I − 11ᵀ/C)/√(C−1)‖_F, M = [μ_c − μ_G]",
    range=f"[0, 2]; {_WHERE}",
    reading="0: equal norms and equal, largest possible angles at once.",
    failure_modes="Of two equally bent frames the one of more classes looks closer. With more "
    "than p + 1 classes it is at least √(2 − 2√(p/(C−1))), since p features have no room for "
    "their simplex.",
    reference=_PAPYAN,
)
_NC3 = MetricCard(
    title="NC3: head against means",
    definition="Distance between the head's weights and the centred class means.",
    formula="‖W/‖W‖_F − Mᵀ/‖M‖_F‖²_F, for the classes present",
    range="[0, 4]; null also if the head is not known or zero",
    reading="0: the last layer measures distances to class means. 2: they are unrelated.",
    failure_modes=(
        "Without weight decay the head keeps directions that the loss does not see, and stays "
        "away from 0. A single logit u is taken as (−u/2, u/2)."
    ),
    reference=_PAPYAN,
)
_NC4_MISMATCH = MetricCard(
    title="NC4: answers against the nearest mean",
    definition="Share of rows whose answer is not the class with the nearest mean.",
    formula="(1/m) #{i : argmax f(x_i) ≠ argmin_c ‖Φ(x_i) − μ_c‖}",
    range="[0, 1]; null with fewer than two classes",
    reading="0: the network is a nearest-mean classifier on its features.",
    failure_modes=(
        "Counted on all rows or the same random 10,000 for every model, not weighted. An "
        "answer that names a class without samples is always a mismatch."
    ),
    reference=_PAPYAN,
)


def _interval_of_the_mismatch(card: MetricCard) -> MetricCard:
    found = interval_of_a_share(card)
    return replace(
        found,
        formula=(
            f"Of both x and x̃ = g·x − (g − 1)·mean_j x_(−j): {found.formula}; x_(−j) with class "
            "means that lack fold j of g"
        ),
    )


@with_intervals()
class NeuralCollapse(Part):
    """How far the classes have collapsed to points; 0 is complete collapse."""

    nc1: Annotated[NonNegative | None, Figure(_NC1, interval)]
    nc1_quotient: Annotated[NonNegative | None, Figure(_NC1_QUOTIENT, interval)]
    nc2_equinorm_means: Annotated[NonNegative | None, Figure(_NC2_EQUINORM_MEANS, interval)]
    nc2_equiangle_means: Annotated[NonNegative | None, Figure(_NC2_EQUIANGLE_MEANS, interval)]
    nc2_etf_means: Annotated[NonNegative | None, Figure(_NC2_ETF_MEANS, interval)]
    nc3: Annotated[NonNegative | None, Figure(_NC3, interval)]
    nc4_mismatch: Annotated[Share | None, Figure(_NC4_MISMATCH, _interval_of_the_mismatch)]
    confidence_interval: Intervals | None = None
