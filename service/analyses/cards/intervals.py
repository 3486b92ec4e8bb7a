"""Cards of the confidence intervals beside the figures; those of the verdict are with its cards."""

from dataclasses import replace

from service.analyses.cards import collapse, context, projections, spectra
from service.analyses.cards.card import MetricCard, interval

_RANKS = ("participation_ratio", "entropy", "rankme", "stable")
_COLLAPSE = (
    "nc1",
    "nc1_quotient",
    "nc2_equinorm_means",
    "nc2_equiangle_means",
    "nc2_etf_means",
    "nc3",
)
_FIGURES = (
    "spectrum.trace",
    "projections.quality_at_dim_target",
    "projections.centered.quality_at_dim_target",
    *(f"effective_rank.{name}" for name in _RANKS),
    *(f"effective_rank.uncentered.{name}" for name in _RANKS),
    *(f"neural_collapse.{name}" for name in _COLLAPSE),
    "performance.loss",
)
_SHARES = ("neural_collapse.nc4_mismatch", "performance.accuracy")

_DESCRIBED = {
    card.key: card for part in (collapse, context, projections, spectra) for card in part.CARDS
}


def _beside(figure: str) -> MetricCard:
    part, name = figure.rsplit(".", 1)
    return interval(_DESCRIBED[figure], f"{part}.confidence_interval.{name}")


def _of_a_share(figure: str) -> MetricCard:
    return replace(
        _beside(figure),
        formula="(x + z²/2m ± z·√(x(1 − x)/m + z²/4m²))/(1 + z²/m), z = 1.96, m independent rows",
        failure_modes=(
            "It covers the choice of samples, not that of the training seed. Positions of one "
            "sample are alike: they count for as many rows as the folds show, at least one."
        ),
        reference="Wilson: JASA 22 (1927); Korn, Graubard: Survey Methodology 24 (1998)",
    )


CARDS = (*map(_beside, _FIGURES), *map(_of_a_share, _SHARES))
