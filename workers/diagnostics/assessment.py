"""The second axis beside the regime: are the answers, and the features behind them, any good?

A minimal network may have learned the wrong thing, shuffled labels or a watermark, and an extended
one may still be accurate. Nothing here enters the regime.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.contract.rule import THRESHOLDS
from workers.diagnostics.compression import (
    CompressedModel,
    features_needed,
    features_needed_interval,
)
from workers.diagnostics.evidence import Evidence, rescaled
from workers.diagnostics.intervals import Interval
from workers.diagnostics.minimality import chance_corrected
from workers.diagnostics.verdict import Regime

Summary = Literal[
    "minimal and good",
    "minimal but poor",
    "extended but accurate",
    "extended and inaccurate",
]


@dataclass(frozen=True)
class Assessment:
    """The second axis.

    Attributes:
        summary: The two axes in words; None without targets, or where the regime is undetermined.
        quality: `Π*(dim H*)`; None without targets.
        quality_chance: Its chance level.
        quality_corrected: `(quality − chance)/(1 − chance)`: 0 at chance, 1 at best.
        skill: As in `Evidence`.
        held_out: Whether these figures come from the held-out probe.
        k99_agreement: Number of eigenfunctions that keep 99 % of the model's answers; None if there
            are no answers to keep.
        confidence_interval: 95 % interval of quality, quality_corrected, skill and k99_agreement,
            by name; None where there is none.
        reasons: Sentences with figures.
        warnings: Caveats for the reader.
    """

    summary: Summary | None
    quality: float | None
    quality_chance: float | None
    quality_corrected: float | None
    skill: float | None
    held_out: bool
    k99_agreement: int | None
    confidence_interval: dict[str, Interval | None]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def assess(
    regime: Regime,
    evidence: Evidence,
    *,
    curve: Sequence[CompressedModel] = (),
    trials: int = 0,
) -> Assessment:
    """Assess the second axis of a model whose regime is decided.

    Args:
        regime: The verdict, which is not changed.
        evidence: Figures of the held-out probe if there is one, of the probe itself otherwise.
        curve: The compression curve.
        trials: Number of independent rows that the curve is computed from.
    """
    needed = features_needed(curve)
    quality, chance = evidence.quality, evidence.quality_chance
    corrected = None if quality is None or chance is None else chance_corrected(quality, chance)
    summary = _summarise(regime, corrected, evidence.skill)
    return Assessment(
        summary=summary,
        quality=quality,
        quality_chance=chance,
        quality_corrected=corrected,
        skill=evidence.skill,
        held_out=evidence.held_out,
        k99_agreement=needed,
        confidence_interval={
            "quality": evidence.quality_interval,
            "quality_corrected": None
            if chance is None
            else rescaled(evidence.quality_interval, chance),
            "skill": evidence.skill_interval,
            "k99_agreement": features_needed_interval(curve, trials),
        },
        reasons=(*_reasons(summary, evidence), *_remark_on_width(needed, curve)),
        warnings=_warnings(corrected, evidence),
    )


def _summarise(regime: Regime, corrected: float | None, skill: float | None) -> Summary | None:
    if regime == "MF" and corrected is not None:
        poor = corrected < THRESHOLDS.poor_quality
        return "minimal but poor" if poor else "minimal and good"
    if regime == "EF" and skill is not None:
        accurate = skill >= THRESHOLDS.accurate_skill
        return "extended but accurate" if accurate else "extended and inaccurate"
    return None


def _reasons(summary: Summary | None, evidence: Evidence) -> tuple[str, ...]:
    quality, chance = evidence.quality, evidence.quality_chance
    if quality is None or chance is None:
        return ()
    where = "On the held-out probe the" if evidence.held_out else "The"
    sentence = (
        f"{where} first {evidence.dim_target} eigenfunctions hold {quality:.1%} of the target, "
        f"{chance:.1%} by chance"
    )
    if evidence.skill is not None and evidence.skill > 0:
        sentence += f"; from guessing to perfect, the answers come {evidence.skill:.1%} of the way"
    elif evidence.skill is not None:
        sentence += "; the answers are no better than guessing"
    sentence += ". Neither enters the regime."
    if summary is None:
        return (sentence,)
    return (f"{summary[0].upper()}{summary[1:]}: {sentence[0].lower()}{sentence[1:]}",)


def _remark_on_width(needed: int | None, curve: Sequence[CompressedModel]) -> tuple[str, ...]:
    if needed is None:
        return ()
    return (f"The first {needed} of {curve[-1].k} eigenfunctions keep 99% of the answers.",)


def _warnings(corrected: float | None, evidence: Evidence) -> tuple[str, ...]:
    """Warn where the features are good and the answers no better than guessing.

    The probe may then number the classes, or scale the targets, otherwise than the model does.
    """
    skill = evidence.skill
    if corrected is None or skill is None or skill > 0 or corrected < THRESHOLDS.good_quality:
        return ()
    if evidence.of_values:
        warning = (
            "The features hold the target values, and the answers are no better than their mean: "
            "the targets may be on another scale than the model's outputs, or in another order."
        )
        return (warning,)
    warning = (
        "The features tell the classes apart, and the answers are no better than guessing: the "
        "probe's labels may number the classes in another order than the model does."
    )
    return (warning,)
