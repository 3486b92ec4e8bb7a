"""Cards of `spectrum` and `effective_rank`."""

from service.report.cards.card import PAPER, MetricCard, centered

_SPECTRUM = (
    MetricCard(
        key="spectrum.eigenvalues",
        title="Eigenvalues of the features",
        definition=(
            "Strength of each eigenfunction of the feature operator T: how much of the features' "
            "mean square lies along it. Decreasing, and complete up to the numerical rank."
        ),
        formula="T = Σ_k |Φ_k⟩⟨Φ_k|, T e_k = ρ_k e_k; ρ_k = S_k² with Φ/√n = U S Vᵀ",
        range="> 0, in units of the features squared",
        reading=(
            "A few large values followed by a cliff mean few, strong features; a slow decay means "
            "many weak ones. Absolute size says nothing: compare `spectrum.relative`."
        ),
        failure_modes=(
            "With ReLU features the first eigenfunction is close to a constant and dwarfs the "
            "rest; the centred spectrum shows what varies. Trailing values are biased when n is "
            "below p."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="spectrum.relative",
        title="Relative eigenvalues",
        definition="Each eigenvalue as a share of the first.",
        formula="ρ_k / ρ_1",
        range="(0, 1], decreasing from 1",
        reading=(
            "Comparable between models. A minimal network drops sharply after as many values as "
            "its outputs need; gradient descent learns along feature k at a rate in proportion to "
            "it."
        ),
        failure_modes=(
            "Uncentred, the first value is mostly the mean, which makes all others look small."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="spectrum.rank",
        title="Numerical rank of the features",
        definition="Number of eigenfunctions that stand out from float32 rounding.",
        formula="#{k : S_k > S_1 · p · eps(float32)}",
        range="1 … min(n, p); 0 when centred features do not vary",
        reading=(
            "The directions the layer really uses. Far below p: dead or duplicated units, a "
            "bottleneck upstream, or features that have collapsed onto the classes."
        ),
        failure_modes=(
            "It cannot exceed the number of samples. Features in half precision round a thousand "
            "times coarser: a warning says from which k on."
        ),
        reference="Golub, Van Loan: Matrix Computations, §5.4",
    ),
)
_TRACE = MetricCard(
    key="spectrum.trace",
    title="Trace of the feature operator",
    definition="Mean squared norm of the feature vector over the probe.",
    formula="Σ_k ρ_k = (1/n) Σ_i ‖Φ(x_i)‖²",
    range="> 0, in units of the features squared",
    reading="The scale of the features, to turn eigenvalues into shares of the whole.",
    failure_modes="Depends on the layer's scale, which a following layer can undo; compare shares.",
    reference=f"{PAPER}, §2",
)

_PARTICIPATION_RATIO = MetricCard(
    key="effective_rank.participation_ratio",
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
    key="effective_rank.entropy",
    title="Entropy rank",
    definition="Exponential of the spectrum's entropy: how many equal directions would be as even.",
    formula="exp(−Σ p_k ln p_k), p_k = ρ_k/Σρ",
    range="1 … rank",
    reading="Like the participation ratio, with more weight for weak directions.",
    failure_modes="Does not put minimal and lazy networks in order: reported, not judged.",
    reference="Roy, Vetterli: EUSIPCO (2007)",
)
_RANKME = MetricCard(
    key="effective_rank.rankme",
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
    key="effective_rank.stable",
    title="Stable rank",
    definition="The features' variance in units of its strongest direction.",
    formula="Σρ / ρ_1",
    range="1 … rank",
    reading="Near 1: one direction dominates. The most robust of the four against noise.",
    failure_modes="Sees nothing but the ratio of the first eigenvalue to the sum.",
    reference="Rudelson, Vershynin: Journal of the ACM 54 (2007)",
)
_EFFECTIVE_RANKS = (_PARTICIPATION_RATIO, _ENTROPY, _RANKME, _STABLE)


def _uncentered(card: MetricCard) -> MetricCard:
    return MetricCard(
        key=card.key.replace("effective_rank.", "effective_rank.uncentered."),
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


CARDS = (
    *_SPECTRUM,
    _TRACE,
    *(centered(card, card.key.replace("spectrum.", "spectrum.centered.")) for card in _SPECTRUM),
    *_EFFECTIVE_RANKS,
    *(_uncentered(card) for card in _EFFECTIVE_RANKS),
)
