"""Cards of `verdict`."""

from dataclasses import replace

from service.report.cards.card import PAPER, RULE, MetricCard, interval, of_the_tail

_REGIME = MetricCard(
    key="verdict.regime",
    title="Regime",
    definition=(
        "MF: minimal features, the network learned as few as its outputs need. EF: expressive "
        "features, the outputs draw on many more. Undetermined: the figures do not settle it."
    ),
    formula=(
        "MF: Ũ' ≥ 0.90 and (E ≥ 0.755 or D ≤ 0.12) and D ≤ 0.32. EF: Ũ' ≤ 0.84, or (E ≤ 0.715 and "
        "D ≥ 0.20), or D ≥ 0.40. Compared are the bounds of 95 % intervals"
    ),
    range="MF, EF, undetermined",
    reading=(
        "MF is rich learning: features were shaped by the task. EF is lazy: a readout of features "
        "that were there already. Neither says the answers are right: Π*(C) and accuracy do."
    ),
    failure_modes=(
        "Undetermined on few samples, or where the layer has fewer than 2r directions. A narrow "
        "linear layer upstream forces features to look minimal."
    ),
    reference=RULE,
)

_MINIMALITY = (
    MetricCard(
        key="verdict.minimality.rank",
        title="Dimension of the cleaned learned space (r)",
        definition="Independent outputs once each sample's mean logit and the mean are removed.",
        formula="r = #{i : s_i(G) > 1e-3 · s_1(G)}, G = F − mean over classes, centred",
        range="0 … outputs; outputs less one, for a classifier in general",
        reading="How many features the network needs at least.",
        failure_modes="Collapsed logits make it depend on the tolerance, which is an option.",
        reference=RULE,
    ),
    MetricCard(
        key="verdict.minimality.utilization",
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
    ),
    MetricCard(
        key="verdict.minimality.utilization_corrected",
        title="Utilization above chance (U')",
        definition="U, rescaled so that outputs in random directions of the features score 0.",
        formula=(
            "U' = (U − r/m)/(1 − r/m), m = centred rank (units that vary, if collapsed below 2r)"
        ),
        range="at most 1, 0 at chance; null if undefined",
        reading="Near 1: the outputs use the strongest features. 0: they use any.",
        failure_modes=(
            "Jumps as U does. Harsh where the layer is hardly wider than r; below 2r it is not "
            "judged."
        ),
        reference=RULE,
    ),
    MetricCard(
        key="verdict.minimality.utilization_tapered",
        title="Tapered utilization (Ũ')",
        definition=(
            "As U', but eigenfunctions beyond the r-th count in part, ever less over r/2 more."
        ),
        formula=(
            "Ũ' = (Ũ − c)/(1 − c), Ũ = (1/r) Σ_j w_j Q̂_j, c = Σ_j w_j/m; w_j = 1 up to r, then "
            "1 − (j − r)/max(r/2, 2)"
        ),
        range="at most 1, 0 at chance; null if undefined",
        reading="The verdict's first test: 0.90 and more speaks for MF, 0.84 and less for EF.",
        failure_modes=(
            "Hides whether the r-th or the next eigenfunction is used: U shows that. Below 2r it "
            "is not judged."
        ),
        reference=RULE,
    ),
    MetricCard(
        key="verdict.minimality.energy",
        title="Energy of the leading features (E)",
        definition="Share of the centred feature variance in the first r eigenfunctions.",
        formula="E = Σ_{j≤r} ρ_j / Σρ",
        range="[0, 1]; null if the outputs do not vary",
        reading=(
            "Near 1: hardly any variance beside what the outputs need. Below 0.7 speaks for EF."
        ),
        failure_modes=(
            "Biased upwards when samples are fewer than features (0.66 for 0.43 at n = 30)."
        ),
        reference=RULE,
    ),
    MetricCard(
        key="verdict.minimality.distance",
        title="Distance from the minimal operator (D)",
        definition="As D_LR, on the cleaned learned space.",
        formula="D = 1 − CKA(T, P_Ĥ) = 1 − shape · alignment",
        range="[0, 1]; null if the outputs do not vary",
        reading=(
            "Up to 0.12 confirms MF, from 0.40 on it shows EF. Split it: `shape` is the spectrum's "
            "part, `alignment` the use's."
        ),
        failure_modes=(
            "Punishes learned features of unequal strength; class imbalance moves it much."
        ),
        reference=f"{PAPER}; {RULE}",
    ),
    MetricCard(
        key="verdict.minimality.alignment",
        title="Alignment of strength and use",
        definition=(
            "Variance of the features inside the learned space, as a share of the best possible."
        ),
        formula="Σ_j ρ_j Q̂_j / Σ_{j≤r} ρ_j",
        range="[0, 1]; null if the outputs do not vary",
        reading="1: the outputs use exactly the strongest r features.",
        failure_modes="One dominant feature in use makes it high whatever the others do.",
        reference=RULE,
    ),
    MetricCard(
        key="verdict.minimality.shape",
        title="Shape of the spectrum",
        definition="How close the spectrum is to r equal values and nothing else.",
        formula="Σ_{j≤r} ρ_j / (‖ρ‖_2 √r)",
        range="[0, 1]; null if the outputs do not vary",
        reading=(
            "1: r features of equal strength. Falls with a tail and with unequal strengths alike."
        ),
        failure_modes="Cannot tell a long tail from unequal leading values; `energy` can.",
        reference=RULE,
    ),
    MetricCard(
        key="verdict.minimality.k90_utilization",
        title="Features for 90 % of the learned space",
        definition="The fewest leading eigenfunctions that hold 90 % of the cleaned learned space.",
        formula="min {k : (1/r) Σ_{j≤k} Q̂_j ≥ 0.90}",
        range="1 … rank; null if 90 % is not reached within the rank",
        reading="Near r: minimal. Many times r: the outputs draw on weak features.",
        failure_modes=(
            "A count: it moves in jumps, and one faint output direction can raise it much."
        ),
        reference=PAPER,
    ),
    MetricCard(
        key="verdict.minimality.k95_utilization",
        title="Features for 95 % of the learned space",
        definition="The fewest leading eigenfunctions that hold 95 % of the cleaned learned space.",
        formula="min {k : (1/r) Σ_{j≤k} Q̂_j ≥ 0.95}",
        range="1 … rank; null if 95 % is not reached within the rank",
        reading=(
            "MNIST networks need 9 or 10 when trained in full, 20 to 40 on frozen features (r = 9)."
        ),
        failure_modes=(
            "A count: it moves in jumps, and one faint output direction can raise it much."
        ),
        reference=PAPER,
    ),
    MetricCard(
        key="verdict.minimality.k95_energy",
        title="Features for 95 % of the variance",
        definition=(
            "The fewest leading eigenfunctions that hold 95 % of the centred feature variance."
        ),
        formula="min {k : Σ_{j≤k} ρ_j ≥ 0.95 Σρ}",
        range="1 … rank; null if 95 % is not reached within the rank",
        reading=(
            "How many directions the layer keeps alive, used or not. Compare k95 of utilization."
        ),
        failure_modes="Too small when samples are fewer than features.",
        reference="Jolliffe: Principal Component Analysis, §6.1",
    ),
)

_ASSESSMENT = (
    MetricCard(
        key="verdict.assessment.summary",
        title="Both axes in words",
        definition="The regime, and whether its features or answers are good.",
        formula=(
            "MF: poor if quality_corrected < 0.25, else good. EF: accurate if skill ≥ 0.5, else "
            "inaccurate"
        ),
        range=(
            "minimal and good, minimal but poor, extended but accurate, extended and inaccurate; "
            "null without targets or regime"
        ),
        reading=(
            "Minimal but poor: shuffled labels, a shortcut, or a probe unlike the training data. "
            "Extended but accurate: it works, on features it did not need to learn."
        ),
        failure_modes="On training data memory looks good: give a held-out probe.",
        reference=f"{PAPER}; {RULE}",
    ),
    MetricCard(
        key="verdict.assessment.quality",
        title="Quality that the summary rests on",
        definition="Π*(dim H*), on the held-out probe where there is one.",
        formula="projections.quality_at_dim_target, or that of held_out",
        range="[0, 1]; null without targets",
        reading="Are the strongest features the right ones?",
        failure_modes="Depends on how hard the task is: compare models on one probe only.",
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="verdict.assessment.quality_chance",
        title="Chance level of that quality",
        definition="What it would be on average if the targets were shuffled.",
        formula="quality_at_dim_target_chance",
        range="[0, 1]; null without targets",
        reading="Quality at this level is no quality.",
        failure_modes="An average over shuffles.",
        reference="Exact average over all permutations of the targets",
    ),
    MetricCard(
        key="verdict.assessment.quality_corrected",
        title="Quality above chance",
        definition="Quality, rescaled so that shuffled targets score 0.",
        formula="(quality − chance)/(1 − chance)",
        range="at most 1, 0 at chance; null without targets",
        reading="Below 0.25 minimal features are called poor.",
        failure_modes="Noisy on small probes.",
        reference=RULE,
    ),
    MetricCard(
        key="verdict.assessment.skill",
        title="Skill of the answers",
        definition="How far the answers are from guessing towards perfect.",
        formula=(
            "(accuracy − a)/(1 − a) with a the share of the largest class; R² of f for regression; "
            "mean over labels of (true positive rate + true negative rate − 1)"
        ),
        range="at most 1, 0 for guessing; null without targets, or where there is no accuracy",
        reading="From 0.5 on extended networks are called accurate.",
        failure_modes=(
            "Negative where a model is worse than always naming the largest class. Of labels that "
            "all samples have, or none, nothing can be said: they are left out."
        ),
        reference="Phiscope; of labels: Youden: Cancer 3 (1950)",
    ),
    MetricCard(
        key="verdict.assessment.k99_agreement",
        title="Features that keep 99 % of the answers",
        definition="The fewest leading eigenfunctions that keep 99 % of the model's answers.",
        formula="min {k : agreement(k') ≥ 0.99 for all k' ≥ k}, on the compression curve",
        range="0 … centred rank; null for regression",
        reading="Compare it with the width p: a layer so wide would give the same answers.",
        failure_modes=(
            "Above 32 the curve's steps are 15 %. Answers on other data may need more. Of rare "
            "labels 99 % of the decisions are no, which the mean output keeps."
        ),
        reference="Phiscope",
    ),
)

_QUALITY, _CORRECTED, _SKILL, _K99 = (
    interval(card, card.key.replace(".assessment.", ".assessment.confidence_interval."))
    for card in _ASSESSMENT
    if card.key.rsplit(".", 1)[1] in {"quality", "quality_corrected", "skill", "k99_agreement"}
)
_ASSESSMENT_INTERVALS = (
    _QUALITY,
    replace(
        _CORRECTED,
        formula="Bounds of the interval of quality, each (bound − chance)/(1 − chance)",
    ),
    replace(
        _SKILL,
        formula=(
            "(bound − a)/(1 − a), of both bounds of the interval of accuracy; for regression and "
            f"labels {_SKILL.formula}"
        ),
        failure_modes=(
            "It covers the choice of samples, not that of the training seed. The share a of the "
            "largest class is taken for given."
        ),
        reference="Wilson: JASA 22 (1927); Busing et al.: Statistics and Computing 9 (1999)",
    ),
    replace(
        _K99,
        formula=(
            "[min {k : u(k') ≥ 0.99 for all k' ≥ k}, min {k : l(k') ≥ 0.99 for all k' ≥ k}], with "
            "[l, u] Wilson's 95 % interval of the agreement at k; at most all eigenfunctions"
        ),
        failure_modes=(
            "The eigenfunctions are held fixed. Below 381 samples no agreement is surely 99 %, and "
            "the upper bound is all eigenfunctions."
        ),
        reference="Wilson: JASA 22 (1927)",
    ),
)

_THRESHOLDS = {
    "mf_utilization": ("MF: Ũ' at least", "Lower bound of Ũ' from which MF is possible."),
    "mf_energy": ("MF: E at least", "Lower bound of E that confirms MF."),
    "mf_distance": ("MF: D at most", "Upper bound of D that confirms MF in place of E."),
    "mf_greatest_distance": (
        "MF: D at most in any case",
        "Upper bound of D beyond which features are not called minimal whatever E says.",
    ),
    "ef_utilization": ("EF: Ũ' at most", "Upper bound of Ũ' up to which the regime is EF."),
    "ef_energy": ("EF: E at most", "Upper bound of E that, together with D, shows EF."),
    "ef_distance": ("EF: D at least", "Lower bound of D that, together with E, shows EF."),
    "ef_certain_distance": (
        "EF: D at least, alone",
        "Lower bound of D that shows EF by itself.",
    ),
    "min_samples": ("Samples at least", "Below this many samples nothing is decided."),
    "min_samples_per_dimension": (
        "Samples per dimension at least",
        "Samples needed for each of the r dimensions of the learned space.",
    ),
    "min_rank_share": (
        "r at least, as a share",
        "Below this share of the outputs less one, r is too small to decide anything.",
    ),
    "min_rank_ratio": (
        "Directions at least, in multiples of r",
        "With fewer directions to use the width alone forces minimality.",
    ),
    "warn_samples": ("Warn of few samples below", "Fewer samples than this are warned of."),
    "warn_imbalance": (
        "Warn of imbalance above",
        "Ratio of the largest class to the smallest above which imbalance is warned of.",
    ),
    "warn_saturation": (
        "Warn of saturation from",
        "Rank as a share of n − 1 from which the features are said to be saturated.",
    ),
    "poor_quality": (
        "Poor quality below",
        "Π*(C) corrected for chance below which a minimal network is called poor.",
    ),
    "good_quality": (
        "Good quality from",
        "Π*(C) corrected for chance from which answers no better than guessing are warned of.",
    ),
    "accurate_skill": (
        "Accurate from",
        "Skill from which an extended network is called accurate.",
    ),
}


def _threshold(name: str, title: str, definition: str) -> MetricCard:
    return MetricCard(
        key=f"verdict.thresholds.{name}",
        title=f"Threshold: {title}",
        definition=definition,
        formula="constant of the rule named by verdict.rule",
        range="fixed for a version of the rule",
        reading=(
            "Compare it with the bounds in `verdict.confidence_interval`; `reasons` does so in "
            "words."
        ),
        failure_modes="Set by evidence on image classifiers; other domains may need other values.",
        reference=RULE,
    )


def _interval(card: MetricCard) -> MetricCard:
    found = interval(card, card.key.replace(".minimality.", ".confidence_interval."))
    if ".k9" not in card.key:
        return found
    found = replace(
        found,
        formula=(
            f"{found.formula}; x is k interpolated between cumulative shares, and the bounds are "
            "rounded up"
        ),
    )
    return of_the_tail(found) if card.key.endswith("k95_energy") else found


CARDS = (
    _REGIME,
    *_ASSESSMENT,
    *_ASSESSMENT_INTERVALS,
    *_MINIMALITY,
    *map(_interval, _MINIMALITY),
    *(_threshold(name, *texts) for name, texts in _THRESHOLDS.items()),
)
