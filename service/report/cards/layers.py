"""Cards of `layers`: what a report says of Φ, for the features of every layer."""

from dataclasses import replace

from service.report.cards import projections, spectra
from service.report.cards.card import PAPER, MetricCard, interval, of_the_tail

_OF_THE_NETWORK: dict[str, MetricCard] = {
    card.key: card for card in (*projections.CARDS, *spectra.CARDS)
}
_SPECTRA = ("rank", "eigenvalues")
_PROJECTIONS = ("cumulative_quality", "cumulative_utilization")
_RANKS = ("participation_ratio", "entropy", "rankme", "stable")
_ALIGNMENTS = ("d_lr", "cka_target", "cka_outputs")


_WIDTH = MetricCard(
    key="layers.*.p",
    title="Width of a layer",
    definition="Number of features of a layer: its channels.",
    formula="p, with Φ_layer: X → R^p",
    range="≥ 1",
    reading="Room for features. Compare ranks with it, and widths before you compare ranks.",
    failure_modes="Dead and duplicated channels count; the layer's rank does not count them.",
    reference=PAPER,
)


def _of_a_layer(key: str, original: str) -> MetricCard:
    """The card of a figure that the report has for Φ, too."""
    card = _OF_THE_NETWORK[original]
    return replace(
        card,
        key=f"layers.*.{key}",
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


def _interval(card: MetricCard) -> MetricCard:
    part, name = card.key.rsplit(".", 1)
    found = interval(card, f"{part}.confidence_interval.{name}")
    found = of_the_tail(found) if name in ("entropy", "rankme") else found
    return replace(
        found,
        range=f"{found.range}, or where there was no memory for sums of the layer by fold",
        failure_modes=(
            f"{found.failure_modes} Layers have five folds, Φ has ten: for the last layer it "
            "differs a little from the interval beside the same figure of Φ."
        ),
    )


_WITH_INTERVAL = (
    *(_of_a_layer(f"effective_rank.{name}", f"effective_rank.{name}") for name in _RANKS),
    *(_of_a_layer(name, f"alignment.{name}") for name in _ALIGNMENTS),
)

CARDS = (
    _WIDTH,
    *(_of_a_layer(name, f"spectrum.{name}") for name in _SPECTRA),
    *(_of_a_layer(name, f"projections.{name}") for name in _PROJECTIONS),
    *(_of_a_layer(f"centered.{name}", f"spectrum.centered.{name}") for name in _SPECTRA),
    *(_of_a_layer(f"centered.{name}", f"projections.centered.{name}") for name in _PROJECTIONS),
    *_WITH_INTERVAL,
    *map(_interval, _WITH_INTERVAL),
)
