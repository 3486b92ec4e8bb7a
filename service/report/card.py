"""What a metric card holds, and the cards of intervals and of centred figures derived from it."""

from dataclasses import dataclass, replace

from service.contract.rule import RULE_VERSION, THRESHOLDS

PAPER = "Nam, Mingard, Lee, Hayou, Louis: arXiv:2410.04264 (2024)"
RULE = f"Phiscope's rule {RULE_VERSION}, calibrated on 28 probes of networks and on 24 small ones"
# Fewer directions than this leave the verdict undetermined.
FEWEST_DIRECTIONS = f"{THRESHOLDS.min_rank_ratio:g}r"


@dataclass(frozen=True)
class MetricCard:
    """The one place that says what a figure of the report means. All else renders it.

    Attributes:
        title: Its name for people.
        definition: What it is, in a sentence.
        formula: The same in symbols.
        range: Values it can take.
        reading: How to read it, and when it is good.
        failure_modes: When it misleads.
        reference: Where it comes from.
    """

    title: str
    definition: str
    formula: str
    range: str
    reading: str
    failure_modes: str
    reference: str


def centered(card: MetricCard) -> MetricCard:
    """Return the card of the same figure once the constant has been removed."""
    return replace(
        card,
        title=f"{card.title} (centred)",
        definition=(
            f"{card.definition} Here the mean over samples has been removed from features, outputs "
            "and targets first."
        ),
        reading=(
            f"{card.reading} Prefer the centred figure where the mean of the features would "
            "dominate: ReLU features and one-hot targets both contain the constant function."
        ),
    )


def interval(card: MetricCard) -> MetricCard:
    """Return the card of a figure's confidence interval."""
    return MetricCard(
        title=f"95 % interval of: {card.title}",
        definition=(
            f"Bounds within which “{card.title}” would fall on another probe of the same kind and "
            "size, in 95 of 100 cases."
        ),
        formula=(
            "[min(x, x̃) − h, max(x, x̃) + h], clipped; x̃ = g·x − (g − 1)·mean_j x_(−j), "
            "h = t(0.975, g − 1)·√((g − 1)/g · Σ_j (x_(−j) − mean)²); x_(−j) without fold j of g"
        ),
        range=(
            f"[low, high], each: {card.range}. Null where the figure is undefined without some fold"
        ),
        reading=(
            "Compare bounds, as the verdict does, not figures: what lies between them may be due "
            "to the choice of samples alone. A wide interval means: use more samples."
        ),
        failure_modes=(
            "It covers the choice of samples, not that of the training seed. Too narrow with fewer "
            "samples than features, with a handful of samples a class, and for figures that jump "
            "where eigenvalues nearly coincide, counts above all. Too wide at the end of a range."
        ),
        reference="Busing, Meijer, van der Leeden: Statistics and Computing 9 (1999)",
    )


def interval_of_a_share(card: MetricCard) -> MetricCard:
    """Return the card of the interval of a figure that is a share of rows."""
    return replace(
        interval(card),
        formula="(x + z²/2m ± z·√(x(1 − x)/m + z²/4m²))/(1 + z²/m), z = 1.96, m independent rows",
        failure_modes=(
            "It covers the choice of samples, not that of the training seed. Positions of one "
            "sample are alike, and so are its labels: they count for as many rows as the folds "
            "show, at least one."
        ),
        reference="Wilson: JASA 22 (1927); Korn, Graubard: Survey Methodology 24 (1998)",
    )


def interval_of_the_tail(card: MetricCard) -> MetricCard:
    """Return the card of the interval of a figure that the weakest eigenfunctions decide."""
    found = interval(card)
    return replace(
        found,
        range=f"{found.range}, and where samples are fewer than features",
        failure_modes=(
            f"{found.failure_modes} With fewer samples than features it is not given, since these "
            "bound the figure; with hardly more it is too narrow."
        ),
    )


def bound(value: float) -> str:
    """Return a threshold as texts give it: with two decimals, or more where it has more."""
    return max(f"{value:.2f}", f"{value:g}", key=len)
