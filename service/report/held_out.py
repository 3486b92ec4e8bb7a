"""The report's part about a second probe: what the eigenfunctions of the first hold there."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from service.report import minimality, projections
from service.report.card import MetricCard, centered, interval
from service.report.figures import Figure, Intervals, Part, then, twin, with_intervals
from service.report.parts import (
    MAX_ENTRIES,
    Count,
    Cumulative,
    NonNegative,
    Sentences,
    Share,
    Shares,
    require_length,
)
from service.report.performance import Answers
from service.report.probe import ProbePart

Energies = Annotated[list[NonNegative], Field(max_length=MAX_ENTRIES)]
# What the cumulative figures sum, in the formula on one probe and in that on two.
_SPANS = {"Σ_{j≤k} Q*_j": "tr(P_{H*} P_k)", "Σ_{j≤k} Q̂_j": "tr(P_Ĥ P_k)"}


def _held_out(card: MetricCard, definition: str, **changes: str) -> MetricCard:
    """Return the card of a figure that the report has for the probe, too."""
    return replace(
        card,
        title=f"{card.title}, held out",
        definition=f"{card.definition} {definition}",
        **changes,
    )


def _elsewhere(card: MetricCard) -> MetricCard:
    return _held_out(card, "Here it is that of the eval probe.")


def _renormalised(card: MetricCard) -> MetricCard:
    return _held_out(
        card,
        "Here the eigenfunctions are those of the probe, in their order, and the integrals are "
        "over the eval probe, where each is renormalised.",
        formula=f"{card.formula} / ‖e_k‖², over the eval probe",
        range=card.range.replace("[0, 1]", "[0, 1]; 0 of an eigenfunction that vanishes there"),
        failure_modes=(
            "Eigenfunctions of weak eigenvalues may be accidents of the probe's samples; they "
            "show it by falling here. Those renormalised are not orthogonal, so sums count twice "
            "what two of them share: see the cumulative figures."
        ),
    )


def _of_the_span(card: MetricCard) -> MetricCard:
    formula = card.formula
    for plain, span in _SPANS.items():
        formula = formula.replace(plain, span)
    return _held_out(
        card,
        "Here the eigenfunctions are those of the probe, and the space that the first k of them "
        "span is measured on the eval probe.",
        formula=f"{formula}, P_k the projection on span{{e_1 … e_k}} over the eval probe",
        failure_modes=(
            f"{card.failure_modes} On other samples eigenfunctions overlap; the span counts once "
            "what they share (Gram–Schmidt in order), so this is no plain sum. Where they are "
            "orthogonal, as on the probe itself, it is."
        ),
    )


def _by_chance(card: MetricCard) -> MetricCard:
    return _held_out(
        card,
        "Here the samples are the eval probe's, and the eigenfunctions are those of the probe, "
        "made orthonormal there in order.",
    )


def _with_fixed_eigenfunctions(card: MetricCard) -> MetricCard:
    """Return the card of the interval of a held-out figure."""
    return replace(
        card,
        failure_modes=(
            f"{card.failure_modes} The folds are the eval probe's, and the eigenfunctions are "
            "held fixed: it does not cover the choice of the probe's samples."
        ),
    )


_interval = then(interval, _with_fixed_eigenfunctions)

_EIGENVALUES = MetricCard(
    title="Energy of each eigenfunction, held out",
    definition=(
        "Mean square of the features along each eigenvector of the probe, over the eval probe."
    ),
    formula="v_kᵀ M v_k, M = ⟨Φ|Φᵀ⟩ over the eval probe",
    range="≥ 0, in units of the features squared; need not decrease",
    reading=(
        "Beside `spectrum.eigenvalues`: equal on data of one kind, up to chance. Strong ones that "
        "fall are features the eval probe does not excite; weak ones that rise are energy the "
        "probe did not show."
    ),
    failure_modes=(
        "With fewer samples than features the probe's own eigenvalues are biased, the first "
        "upwards and the last downwards; these here are not."
    ),
    reference="Phiscope: the held-out variance of principal components",
)
_ENERGY_OUTSIDE = MetricCard(
    title="Energy outside the probe's eigenfunctions",
    definition=(
        "Share of the features' energy on the eval probe that no eigenfunction of the probe holds."
    ),
    formula="1 − Σ_k v_kᵀ M v_k / tr M",
    range="[0, 1]; null if the features are zero there, or constant where they are centred",
    reading=(
        "0: the features move in directions the probe knows. Large: the eval probe is of another "
        "kind, or the probe is too small for the width of the layer."
    ),
    failure_modes=(
        "0 by necessity once the probe has shown p directions. Uncentred it is small anyway where "
        "the mean of the features dominates; then read the centred one."
    ),
    reference="Phiscope",
)
_UTILIZATION = _held_out(
    minimality.UTILIZATION,
    "Here the learned functions are looked for in the span of the probe's first r centred "
    "eigenfunctions, over the eval probe.",
    formula="U = (1/r) tr(P_G P_r), P_r on span{e_1 … e_r}, over the eval probe",
    reading=(
        "Beside `verdict.minimality.utilization`: about equal where minimality holds on fresh "
        "data. Much lower: the features are minimal on the probe's samples only."
    ),
)
_ENERGY = _held_out(
    minimality.ENERGY,
    "Here it is the variance on the eval probe that the probe's first r centred eigenvectors hold.",
    formula="E = Σ_{j≤r} v_jᵀ M v_j / tr M, M the covariance over the eval probe",
    reading=(
        "Beside `verdict.minimality.energy`: about equal where minimality holds on fresh data. "
        "With few samples the probe's is biased upwards and this one is not."
    ),
)


@twin(_elsewhere)
class EvalProbe(ProbePart):
    """The data that the eigenfunctions were judged on."""

    notes: Annotated[
        Sentences,
        Field(
            default_factory=list,
            description="What was inferred about the eval probe's data, and what shows it.",
        ),
    ]


class HeldOutProjections(Part):
    """The eigenfunctions of the probe on the eval probe, in the order of the probe."""

    eigenvalues: Annotated[Energies, Figure(_EIGENVALUES)]
    energy_outside: Annotated[Share | None, Figure(_ENERGY_OUTSIDE, _interval)]
    quality: Annotated[Shares | None, Figure(_renormalised(projections.QUALITY))]
    utilization: Annotated[Shares | None, Figure(_renormalised(projections.UTILIZATION))]
    cumulative_quality: Annotated[
        Cumulative | None, Figure(_of_the_span(projections.CUMULATIVE_QUALITY))
    ]
    cumulative_utilization: Annotated[
        Cumulative | None, Figure(_of_the_span(projections.CUMULATIVE_UTILIZATION))
    ]
    quality_chance_level: Annotated[
        Cumulative | None, Figure(_by_chance(projections.QUALITY_CHANCE_LEVEL))
    ]
    dim_target: Annotated[Count | None, Figure(_elsewhere(projections.DIM_TARGET), _interval)]
    dim_learned: Annotated[Count | None, Figure(_elsewhere(projections.DIM_LEARNED), _interval)]
    quality_at_dim_target: Annotated[
        Share | None, Figure(_of_the_span(projections.QUALITY_AT_DIM_TARGET), _interval)
    ]
    quality_at_dim_target_chance: Annotated[
        Share | None, Figure(_by_chance(projections.QUALITY_AT_DIM_TARGET_CHANCE))
    ]


# Reports written before every scalar had an interval lack them.
@with_intervals()
@twin(centered)
class CenteredHeldOut(HeldOutProjections):
    """The same with the constant removed from features, outputs and targets."""

    confidence_interval: Intervals | None = None


class HeldOutMinimality(Part):
    """Whether minimality holds on the eval probe."""

    rank: Annotated[Count, Figure(_elsewhere(minimality.RANK), _interval)]
    utilization: Annotated[Share | None, Figure(_UTILIZATION, _interval)]
    energy: Annotated[Share | None, Figure(_ENERGY, _interval)]


@twin(_elsewhere, _with_fixed_eigenfunctions)
class HeldOutPerformance(Answers):
    """How good the answers are on the eval probe."""


@with_intervals(HeldOutMinimality, HeldOutPerformance, later={"dim_target", "dim_learned", "rank"})
class HeldOut(HeldOutProjections):
    """What the eigenfunctions of the probe hold on the eval probe."""

    probe: EvalProbe
    centered: CenteredHeldOut
    minimality: HeldOutMinimality
    performance: HeldOutPerformance
    confidence_interval: Intervals

    def require_ranks(self, rank: int, centered_rank: int) -> None:
        """Raise ValueError unless there is one entry for each eigenfunction of the probe."""
        for part, expected in ((self, rank), (self.centered, centered_rank)):
            require_length(
                expected,
                eigenvalues=part.eigenvalues,
                utilization=part.utilization,
                cumulative_utilization=part.cumulative_utilization,
                quality=part.quality,
                cumulative_quality=part.cumulative_quality,
                quality_chance_level=part.quality_chance_level,
            )
