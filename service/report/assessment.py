"""The second axis beside the regime."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from service.contract.rule import THRESHOLDS
from service.report.card import PAPER, RULE, MetricCard, interval
from service.report.figures import Figure, Intervals, Part, with_intervals
from service.report.parts import Count, Share

_SUMMARY = MetricCard(
    title="Both axes in words",
    definition="The regime, and whether its features or answers are good.",
    formula=(
        f"MF: poor if quality_corrected < {THRESHOLDS.poor_quality:g}, else good. EF: accurate if "
        f"skill ≥ {THRESHOLDS.accurate_skill:g}, else inaccurate"
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
)
_QUALITY = MetricCard(
    title="Quality that the summary rests on",
    definition="Π*(dim H*), on the held-out probe where there is one.",
    formula="projections.quality_at_dim_target, or that of held_out",
    range="[0, 1]; null without targets",
    reading="Are the strongest features the right ones?",
    failure_modes="Depends on how hard the task is: compare models on one probe only.",
    reference=f"{PAPER}, §2",
)
_QUALITY_CHANCE = MetricCard(
    title="Chance level of that quality",
    definition="What it would be on average if the targets were shuffled.",
    formula="quality_at_dim_target_chance",
    range="[0, 1]; null without targets",
    reading="Quality at this level is no quality.",
    failure_modes="An average over shuffles.",
    reference="Exact average over all permutations of the targets",
)
_QUALITY_CORRECTED = MetricCard(
    title="Quality above chance",
    definition="Quality, rescaled so that shuffled targets score 0.",
    formula="(quality − chance)/(1 − chance)",
    range="at most 1, 0 at chance; null without targets",
    reading=f"Below {THRESHOLDS.poor_quality:g} minimal features are called poor.",
    failure_modes="Noisy on small probes.",
    reference=RULE,
)
_SKILL = MetricCard(
    title="Skill of the answers",
    definition="How far the answers are from guessing towards perfect.",
    formula=(
        "(accuracy − a)/(1 − a) with a the share of the largest class; R² of f for regression; "
        "mean over labels of (true positive rate + true negative rate − 1)"
    ),
    range="at most 1, 0 for guessing; null without targets, or where there is no accuracy",
    reading=f"From {THRESHOLDS.accurate_skill:g} on extended networks are called accurate.",
    failure_modes=(
        "Negative where a model is worse than always naming the largest class. Of labels that "
        "all samples have, or none, nothing can be said: they are left out."
    ),
    reference="Phiscope; of labels: Youden: Cancer 3 (1950)",
)
_K99_AGREEMENT = MetricCard(
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
)


def _interval_of_corrected_quality(card: MetricCard) -> MetricCard:
    return replace(
        interval(card),
        formula="Bounds of the interval of quality, each (bound − chance)/(1 − chance)",
    )


def _interval_of_skill(card: MetricCard) -> MetricCard:
    found = interval(card)
    return replace(
        found,
        formula=(
            "(bound − a)/(1 − a), of both bounds of the interval of accuracy; for regression and "
            f"labels {found.formula}"
        ),
        failure_modes=(
            "It covers the choice of samples, not that of the training seed. The share a of the "
            "largest class is taken for given."
        ),
        reference="Wilson: JASA 22 (1927); Busing et al.: Statistics and Computing 9 (1999)",
    )


def _interval_of_k99(card: MetricCard) -> MetricCard:
    return replace(
        interval(card),
        formula=(
            "[min {k : u(k') ≥ 0.99 for all k' ≥ k}, min {k : l(k') ≥ 0.99 for all k' ≥ k}], with "
            "[l, u] Wilson's 95 % interval of the agreement at k; at most all eigenfunctions"
        ),
        failure_modes=(
            "The eigenfunctions are held fixed. Below 381 samples no agreement is surely 99 %, and "
            "the upper bound is all eigenfunctions."
        ),
        reference="Wilson: JASA 22 (1927)",
    )


@with_intervals()
class Assessment(Part):
    """The second axis: how good the features and the answers are. It never enters the regime."""

    summary: Annotated[
        Literal[
            "minimal and good",
            "minimal but poor",
            "extended but accurate",
            "extended and inaccurate",
        ]
        | None,
        Figure(_SUMMARY),
    ]
    quality: Annotated[Share | None, Figure(_QUALITY, interval)]
    quality_chance: Annotated[Share | None, Figure(_QUALITY_CHANCE)]
    quality_corrected: Annotated[
        Annotated[float, Field(le=1)] | None,
        Figure(_QUALITY_CORRECTED, _interval_of_corrected_quality),
    ]
    skill: Annotated[Annotated[float, Field(le=1)] | None, Figure(_SKILL, _interval_of_skill)]
    held_out: Annotated[bool, Field(description="Whether the figures are of the held-out probe.")]
    k99_agreement: Annotated[Count | None, Figure(_K99_AGREEMENT, _interval_of_k99)]
    # Reports written before the second axis had intervals lack it.
    confidence_interval: Intervals | None = None
