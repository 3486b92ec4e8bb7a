"""The figures that the verdict rests on."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from service.contract.rule import THRESHOLDS
from service.report.card import (
    FEWEST_DIRECTIONS,
    PAPER,
    RULE,
    MetricCard,
    bound,
    interval,
    interval_of_the_tail,
)
from service.report.figures import Figure, Part
from service.report.parts import Count, Positive, Share

RANK = MetricCard(
    title="Dimension of the cleaned learned space (r)",
    definition="Independent outputs once each sample's mean logit and the mean are removed.",
    formula="r = #{i : s_i(G) > 1e-3 · s_1(G)}, G = F − mean over classes, centred",
    range="0 … outputs; outputs less one, for a classifier in general",
    reading="How many features the network needs at least.",
    failure_modes="Collapsed logits make it depend on the tolerance, which is an option.",
    reference=RULE,
)
UTILIZATION = MetricCard(
    title="Utilization of the leading features (U)",
    definition="Share of the cleaned learned space that lies in the first r eigenfunctions.",
    formula="U = (1/r) Σ_{j≤r} Q̂_j",
    range="[0, 1]; null if the outputs do not vary",
    reading=(
        "Near 1: the strongest features are the ones in use. Random networks show 0.3 to 0.6."
    ),
    failure_modes=(
        "Jumps where eigenvalues around the r-th nearly coincide: look at the interval."
    ),
    reference=f"{PAPER}, §2; {RULE}",
)
_UTILIZATION_CORRECTED = MetricCard(
    title="Utilization above chance (U')",
    definition="U, rescaled so that outputs in random directions of the features score 0.",
    formula=(
        "U' = (U − r/m)/(1 − r/m), m = centred rank (units that vary, if collapsed below "
        f"{FEWEST_DIRECTIONS})"
    ),
    range="at most 1, 0 at chance; null if undefined",
    reading="Near 1: the outputs use the strongest features. 0: they use any.",
    failure_modes=(
        "Jumps as U does. Harsh where the layer is hardly wider than r; below "
        f"{FEWEST_DIRECTIONS} it is not judged."
    ),
    reference=RULE,
)
_UTILIZATION_TAPERED = MetricCard(
    title="Tapered utilization (Ũ')",
    definition=(
        "As U', but eigenfunctions beyond the r-th count in part, ever less over r/2 more."
    ),
    formula=(
        "Ũ' = (Ũ − c)/(1 − c), Ũ = (1/r) Σ_j w_j Q̂_j, c = Σ_j w_j/m; w_j = 1 up to r, then "
        "1 − (j − r)/max(r/2, 2)"
    ),
    range="at most 1, 0 at chance; null if undefined",
    reading=(
        f"The verdict's first test: {bound(THRESHOLDS.mf_utilization)} and more speaks for MF, "
        f"{bound(THRESHOLDS.ef_utilization)} and less for EF."
    ),
    failure_modes=(
        "Hides whether the r-th or the next eigenfunction is used: U shows that. Below "
        f"{FEWEST_DIRECTIONS} it is not judged."
    ),
    reference=RULE,
)
ENERGY = MetricCard(
    title="Energy of the leading features (E)",
    definition="Share of the centred feature variance in the first r eigenfunctions.",
    formula="E = Σ_{j≤r} ρ_j / Σρ",
    range="[0, 1]; null if the outputs do not vary",
    reading=(
        "Near 1: hardly any variance beside what the outputs need. "
        f"Up to {bound(THRESHOLDS.ef_energy)} it speaks for EF, if D does, too."
    ),
    failure_modes=(
        "Biased upwards when samples are fewer than features (0.66 for 0.43 at n = 30)."
    ),
    reference=RULE,
)
_DISTANCE = MetricCard(
    title="Distance from the minimal operator (D)",
    definition="As D_LR, on the cleaned learned space.",
    formula="D = 1 − CKA(T, P_Ĥ) = 1 − shape · alignment",
    range="[0, 1]; null if the outputs do not vary",
    reading=(
        f"Up to {bound(THRESHOLDS.mf_distance)} confirms MF, from "
        f"{bound(THRESHOLDS.ef_certain_distance)} on it shows EF. Split it: `shape` is the "
        "spectrum's part, `alignment` the use's."
    ),
    failure_modes=("Punishes learned features of unequal strength; class imbalance moves it much."),
    reference=f"{PAPER}; {RULE}",
)
_ALIGNMENT = MetricCard(
    title="Alignment of strength and use",
    definition=(
        "Variance of the features inside the learned space, as a share of the best possible."
    ),
    formula="Σ_j ρ_j Q̂_j / Σ_{j≤r} ρ_j",
    range="[0, 1]; null if the outputs do not vary",
    reading="1: the outputs use exactly the strongest r features.",
    failure_modes="One dominant feature in use makes it high whatever the others do.",
    reference=RULE,
)
_SHAPE = MetricCard(
    title="Shape of the spectrum",
    definition="How close the spectrum is to r equal values and nothing else.",
    formula="Σ_{j≤r} ρ_j / (‖ρ‖_2 √r)",
    range="[0, 1]; null if the outputs do not vary",
    reading=(
        "1: r features of equal strength. Falls with a tail and with unequal strengths alike."
    ),
    failure_modes="Cannot tell a long tail from unequal leading values; `energy` can.",
    reference=RULE,
)
_K90_UTILIZATION = MetricCard(
    title="Features for 90 % of the learned space",
    definition="The fewest leading eigenfunctions that hold 90 % of the cleaned learned space.",
    formula="min {k : (1/r) Σ_{j≤k} Q̂_j ≥ 0.90}",
    range="1 … rank; null if 90 % is not reached within the rank",
    reading="Near r: minimal. Many times r: the outputs draw on weak features.",
    failure_modes=("A count: it moves in jumps, and one faint output direction can raise it much."),
    reference=PAPER,
)
_K95_UTILIZATION = MetricCard(
    title="Features for 95 % of the learned space",
    definition="The fewest leading eigenfunctions that hold 95 % of the cleaned learned space.",
    formula="min {k : (1/r) Σ_{j≤k} Q̂_j ≥ 0.95}",
    range="1 … rank; null if 95 % is not reached within the rank",
    reading=(
        "MNIST networks need 9 or 10 when trained in full, 20 to 40 on frozen features (r = 9)."
    ),
    failure_modes=("A count: it moves in jumps, and one faint output direction can raise it much."),
    reference=PAPER,
)
_K95_ENERGY = MetricCard(
    title="Features for 95 % of the variance",
    definition=(
        "The fewest leading eigenfunctions that hold 95 % of the centred feature variance."
    ),
    formula="min {k : Σ_{j≤k} ρ_j ≥ 0.95 Σρ}",
    range="1 … rank; null if 95 % is not reached within the rank",
    reading=("How many directions the layer keeps alive, used or not. Compare k95 of utilization."),
    failure_modes="Too small when samples are fewer than features.",
    reference="Jolliffe: Principal Component Analysis, §6.1",
)

_INTERPOLATED = "; x is k interpolated between cumulative shares, and the bounds are rounded up"


def _interval_of_k(card: MetricCard) -> MetricCard:
    found = interval(card)
    return replace(found, formula=f"{found.formula}{_INTERPOLATED}")


def _interval_of_k95_energy(card: MetricCard) -> MetricCard:
    found = interval_of_the_tail(card)
    return replace(found, formula=f"{found.formula}{_INTERPOLATED}")


class Minimality(Part):
    """The figures that the verdict rests on."""

    rank: Annotated[Count, Figure(RANK, interval)]
    utilization: Annotated[Share | None, Figure(UTILIZATION, interval)]
    utilization_corrected: Annotated[
        Annotated[float, Field(le=1)] | None, Figure(_UTILIZATION_CORRECTED, interval)
    ]
    # Reports of the rule UED-1 lack it.
    utilization_tapered: Annotated[
        Annotated[float, Field(le=1)] | None, Figure(_UTILIZATION_TAPERED, interval)
    ] = None
    energy: Annotated[Share | None, Figure(ENERGY, interval)]
    distance: Annotated[Share | None, Figure(_DISTANCE, interval)]
    alignment: Annotated[Share | None, Figure(_ALIGNMENT, interval)]
    shape: Annotated[Share | None, Figure(_SHAPE, interval)]
    k90_utilization: Annotated[Positive | None, Figure(_K90_UTILIZATION, _interval_of_k)]
    k95_utilization: Annotated[Positive | None, Figure(_K95_UTILIZATION, _interval_of_k)]
    k95_energy: Annotated[Positive | None, Figure(_K95_ENERGY, _interval_of_k95_energy)]
