"""The report's part about effective ranks."""

from typing import Annotated, Generic, TypeVar

from service.report.card import MetricCard, interval, interval_of_the_tail
from service.report.figures import Figure, Intervals, Part, twin, with_intervals
from service.report.parts import NonNegative

_PARTICIPATION_RATIO = MetricCard(
    title="Participation ratio",
    definition="How many directions share the features' variance, weighted by its square.",
    formula="(Σρ)² / Σρ²",
    range="1 … rank",
    reading=(
        "Near the number of outputs less one in a minimal network; much larger in a lazy one. "
        "Neither is good in itself. It is on the centred spectrum, because the one as given sees "
        "little but the constant; null if the features do not vary."
    ),
    failure_modes="Ruled by the few largest eigenvalues; blind to a long weak tail.",
    reference="Gao, Ganguli: Current Opinion in Neurobiology 32 (2015)",
)
_ENTROPY = MetricCard(
    title="Entropy rank",
    definition="Exponential of the spectrum's entropy: how many equal directions would be as even.",
    formula="exp(−Σ p_k ln p_k), p_k = ρ_k/Σρ",
    range="1 … rank",
    reading="Like the participation ratio, with more weight for weak directions.",
    failure_modes="Does not put minimal and lazy networks in order: reported, not judged.",
    reference="Roy, Vetterli: EUSIPCO (2007)",
)
_RANKME = MetricCard(
    title="RankMe",
    definition="Entropy rank of the singular values instead of the eigenvalues.",
    formula="exp(−Σ p_k ln p_k), p_k = S_k/ΣS + 1e-7",
    range="1 … rank",
    reading=(
        "High values go with good transfer in self-supervised learning. A classifier trained to "
        "the end is low by nature."
    ),
    failure_modes="Dominated by the weak tail; does not separate minimal from lazy networks.",
    reference="Garrido, Balestriero, Najman, LeCun: ICML (2023)",
)
_STABLE = MetricCard(
    title="Stable rank",
    definition="The features' variance in units of its strongest direction.",
    formula="Σρ / ρ_1",
    range="1 … rank",
    reading="Near 1: one direction dominates. The most robust of the four against noise.",
    failure_modes="Sees nothing but the ratio of the first eigenvalue to the sum.",
    reference="Rudelson, Vershynin: Journal of the ACM 54 (2007)",
)

# Whether a rank may be null is up to the part.
Rank = TypeVar("Rank")


class EffectiveRanks(Part, Generic[Rank]):
    """Effective ranks of a spectrum."""

    participation_ratio: Annotated[Rank, Figure(_PARTICIPATION_RATIO, interval)]
    entropy: Annotated[Rank, Figure(_ENTROPY, interval_of_the_tail)]
    rankme: Annotated[Rank, Figure(_RANKME, interval_of_the_tail)]
    stable: Annotated[Rank, Figure(_STABLE, interval)]


def _uncentered(card: MetricCard) -> MetricCard:
    """Return the card of the same figure of the spectrum as given."""
    return MetricCard(
        title=f"{card.title} (uncentred)",
        definition=f"{card.definition} Here on the spectrum as given, the mean included.",
        formula=card.formula,
        range=card.range,
        reading="Mostly shows how large the mean of the features is. Read the centred figure.",
        failure_modes=(
            f"Sees little but the constant (1.3 to 12 on any network). {card.failure_modes}"
        ),
        reference=card.reference,
    )


@with_intervals()
@twin(_uncentered)
class UncenteredEffectiveRank(EffectiveRanks[NonNegative]):
    """Effective ranks of the spectrum as given."""

    confidence_interval: Intervals | None = None


@with_intervals()
class EffectiveRank(EffectiveRanks[NonNegative | None]):
    """Effective ranks of the centred spectrum; null if the features do not vary."""

    uncentered: UncenteredEffectiveRank
    confidence_interval: Intervals | None = None
