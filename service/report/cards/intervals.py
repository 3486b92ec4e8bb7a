"""Cards of the confidence intervals beside the figures; those of the verdict are with its cards."""

from dataclasses import replace

from service.report.cards import collapse, context, projections, spectra
from service.report.cards.card import MetricCard, interval, of_a_share, of_the_tail

_RANKS = ("participation_ratio", "entropy", "rankme", "stable")
_PROJECTIONS = ("dim_target", "dim_learned", "quality_at_dim_target")
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
    "spectrum.rank",
    "spectrum.centered.rank",
    *(f"projections.{name}" for name in _PROJECTIONS),
    *(f"projections.centered.{name}" for name in _PROJECTIONS),
    *(f"effective_rank.{name}" for name in _RANKS),
    *(f"effective_rank.uncentered.{name}" for name in _RANKS),
    *(f"neural_collapse.{name}" for name in _COLLAPSE),
    "performance.loss",
    "performance.average_precision",
)
_OF_THE_TAIL = (".entropy", ".rankme", ".rank")
_SHARES = (
    "performance.accuracy",
    "performance.subset_accuracy",
    "neural_collapse.nc4_mismatch",
)

_DESCRIBED = {
    card.key: card for part in (collapse, context, projections, spectra) for card in part.CARDS
}


def _beside(figure: str) -> MetricCard:
    part, name = figure.rsplit(".", 1)
    return interval(_DESCRIBED[figure], f"{part}.confidence_interval.{name}")


def _card(figure: str) -> MetricCard:
    card = _beside(figure)
    return of_the_tail(card) if figure.endswith(_OF_THE_TAIL) else card


_ACCURACY, _SUBSET_ACCURACY, _MISMATCH = (of_a_share(_beside(figure)) for figure in _SHARES)

CARDS = (
    *map(_card, _FIGURES),
    _ACCURACY,
    _SUBSET_ACCURACY,
    replace(
        _MISMATCH,
        formula=(
            f"Of both x and x̃ = g·x − (g − 1)·mean_j x_(−j): {_MISMATCH.formula}; x_(−j) with "
            "class means that lack fold j of g"
        ),
    ),
)
