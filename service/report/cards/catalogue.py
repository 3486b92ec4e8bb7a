"""What every figure of a report means: the single source that schema, portal and guide render."""

from service.report.cards import (
    collapse,
    context,
    held_out,
    intervals,
    judgement,
    layers,
    projections,
    spectra,
)
from service.report.cards.card import MetricCard

__all__ = ["CARDS", "MetricCard"]

CARDS: dict[str, MetricCard] = {
    card.key: card
    for part in (
        judgement,
        projections,
        spectra,
        held_out,
        layers,
        collapse,
        context,
        intervals,
    )
    for card in part.CARDS
}
