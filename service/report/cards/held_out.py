"""Cards of `held_out`: what a report says of the probe, for a second one."""

from dataclasses import replace

from service.report.cards import context, judgement, projections, spectra
from service.report.cards.card import MetricCard, centered, interval, of_a_share

_OF_THE_PROBE: dict[str, MetricCard] = {
    card.key: card for part in (context, judgement, projections, spectra) for card in part.CARDS
}
_DESCRIPTION = ("version", "n", "classes", "class_counts", "ignored")
_CUMULATIVE = ("cumulative_quality", "cumulative_utilization", "quality_at_dim_target")
_CHANCE = ("quality_chance_level", "quality_at_dim_target_chance")
_DIMENSIONS = ("dim_target", "dim_learned")
_PERFORMANCE = ("accuracy", "loss", "loss_kind", "subset_accuracy", "average_precision")
_PROJECTIONS_WITH_INTERVAL = (
    "dim_target",
    "dim_learned",
    "quality_at_dim_target",
    "energy_outside",
)
_WITH_INTERVAL = {
    *_PROJECTIONS_WITH_INTERVAL,
    *(f"centered.{name}" for name in _PROJECTIONS_WITH_INTERVAL),
    "minimality.rank",
    "minimality.utilization",
    "minimality.energy",
    "performance.accuracy",
    "performance.loss",
    "performance.subset_accuracy",
    "performance.average_precision",
}
# What the cumulative figures sum, in the formula on one probe and in that on two.
_SPANS = {"Σ_{j≤k} Q*_j": "tr(P_{H*} P_k)", "Σ_{j≤k} Q̂_j": "tr(P_Ĥ P_k)"}


def _held_out(key: str, original: str, definition: str, **changes: str) -> MetricCard:
    """The card of a figure that the report has for the probe, too."""
    card = _OF_THE_PROBE[original]
    return replace(
        card,
        key=f"held_out.{key}",
        title=f"{card.title}, held out",
        definition=f"{card.definition} {definition}",
        **changes,
    )


def _renormalised(name: str) -> MetricCard:
    card = _OF_THE_PROBE[f"projections.{name}"]
    return _held_out(
        name,
        card.key,
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


def _of_the_span(name: str) -> MetricCard:
    card = _OF_THE_PROBE[f"projections.{name}"]
    formula = card.formula
    for plain, span in _SPANS.items():
        formula = formula.replace(plain, span)
    return _held_out(
        name,
        card.key,
        "Here the eigenfunctions are those of the probe, and the space that the first k of them "
        "span is measured on the eval probe.",
        formula=f"{formula}, P_k the projection on span{{e_1 … e_k}} over the eval probe",
        failure_modes=(
            f"{card.failure_modes} On other samples eigenfunctions overlap; the span counts once "
            "what they share (Gram–Schmidt in order), so this is no plain sum. Where they are "
            "orthogonal, as on the probe itself, it is."
        ),
    )


def _by_chance(name: str) -> MetricCard:
    return _held_out(
        name,
        f"projections.{name}",
        "Here the samples are the eval probe's, and the eigenfunctions are those of the probe, "
        "made orthonormal there in order.",
    )


def _elsewhere(key: str, original: str) -> MetricCard:
    return _held_out(key, original, "Here it is that of the eval probe.")


_EIGENVALUES = MetricCard(
    key="held_out.eigenvalues",
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
_OUTSIDE = MetricCard(
    key="held_out.energy_outside",
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
_RANK = _elsewhere("minimality.rank", "verdict.minimality.rank")
_UTILIZATION = _held_out(
    "minimality.utilization",
    "verdict.minimality.utilization",
    "Here the learned functions are looked for in the span of the probe's first r centred "
    "eigenfunctions, over the eval probe.",
    formula="U = (1/r) tr(P_G P_r), P_r on span{e_1 … e_r}, over the eval probe",
    reading=(
        "Beside `verdict.minimality.utilization`: about equal where minimality holds on fresh "
        "data. Much lower: the features are minimal on the probe's samples only."
    ),
)
_ENERGY = _held_out(
    "minimality.energy",
    "verdict.minimality.energy",
    "Here it is the variance on the eval probe that the probe's first r centred eigenvectors hold.",
    formula="E = Σ_{j≤r} v_jᵀ M v_j / tr M, M the covariance over the eval probe",
    reading=(
        "Beside `verdict.minimality.energy`: about equal where minimality holds on fresh data. "
        "With few samples the probe's is biased upwards and this one is not."
    ),
)

_PROJECTIONS = (
    _EIGENVALUES,
    _OUTSIDE,
    *(_renormalised(name) for name in ("quality", "utilization")),
    *(_of_the_span(name) for name in _CUMULATIVE),
    *(_by_chance(name) for name in _CHANCE),
    *(_elsewhere(name, f"projections.{name}") for name in _DIMENSIONS),
)
_OTHERS = (
    _RANK,
    _UTILIZATION,
    _ENERGY,
    *(_elsewhere(f"performance.{name}", f"performance.{name}") for name in _PERFORMANCE),
)


def _interval(card: MetricCard) -> MetricCard:
    """The card of an interval for which the eigenfunctions are held fixed."""
    part, name = card.key.rsplit(".", 1)
    part = "held_out.centered" if part == "held_out.centered" else "held_out"
    found = interval(card, f"{part}.confidence_interval.{name}")
    found = of_a_share(found) if name in {"accuracy", "subset_accuracy"} else found
    return replace(
        found,
        failure_modes=(
            f"{found.failure_modes} The folds are the eval probe's, and the eigenfunctions are "
            "held fixed: it does not cover the choice of the probe's samples."
        ),
    )


_CENTERED = tuple(
    centered(card, card.key.replace("held_out.", "held_out.centered.")) for card in _PROJECTIONS
)

CARDS = (
    *(_elsewhere(f"probe.{name}", f"probe.{name}") for name in _DESCRIPTION),
    *_PROJECTIONS,
    *_CENTERED,
    *_OTHERS,
    *(
        _interval(card)
        for card in (*_PROJECTIONS, *_CENTERED, *_OTHERS)
        if card.key.removeprefix("held_out.") in _WITH_INTERVAL
    ),
)
