"""The second axis beside the regime: are the answers, and the features behind them, any good?

A minimal network may have learned the wrong thing, shuffled labels or a watermark, and an extended
one may still be accurate. Nothing here enters the regime.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from workers.diagnostics.compression import CompressedModel, features_needed
from workers.diagnostics.minimality import chance_corrected
from workers.diagnostics.moments import Moments
from workers.diagnostics.performance import Performance, Task
from workers.diagnostics.verdict import THRESHOLDS, Regime

Summary = Literal[
    "minimal and good",
    "minimal but poor",
    "extended but accurate",
    "extended and inaccurate",
]


class Qualities(Protocol):
    """What projections on targets tell, of whichever probe."""

    @property
    def quality_at_dim_target(self) -> float | None:
        """`Π*(dim H*)`."""

    @property
    def quality_at_dim_target_chance(self) -> float | None:
        """Its chance level."""

    @property
    def dim_target(self) -> int | None:
        """`dim H*`."""


@dataclass(frozen=True)
class Evidence:
    """How good features and answers are on a probe, each with what chance gives.

    Attributes:
        quality: `Π*(dim H*)`: the target's share in as many leading eigenfunctions as it needs;
            None without targets.
        quality_chance: What shuffled targets would give.
        dim_target: `dim H*`.
        skill: How far the answers are from guessing (0) towards perfect (1): accuracy above the
            largest class, or R² for regression. None without targets. Negative is worse than
            guessing.
        held_out: Whether the probe is another one than the eigenfunctions come from.
    """

    quality: float | None
    quality_chance: float | None
    dim_target: int | None
    skill: float | None
    held_out: bool


@dataclass(frozen=True)
class Assessment:
    """The second axis.

    Attributes:
        summary: The two axes in words; None without targets, or where the regime is undetermined.
        quality: `Π*(dim H*)`; None without targets.
        quality_chance: Its chance level.
        quality_corrected: `(quality − chance)/(1 − chance)`: 0 at chance, 1 at best.
        skill: As in `Evidence`.
        held_out: Whether these figures are of the held-out probe.
        k99_agreement: Eigenfunctions that keep 99 % of the model's answers; None if there are no
            answers to keep.
        reasons: Sentences with figures.
        warnings: What to mind.
    """

    summary: Summary | None
    quality: float | None
    quality_chance: float | None
    quality_corrected: float | None
    skill: float | None
    held_out: bool
    k99_agreement: int | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def gather(
    projections: Qualities,
    performance: Performance | None,
    total: Moments,
    *,
    task: Task,
    held_out: bool = False,
) -> Evidence:
    """The evidence of one probe.

    Args:
        projections: Of the eigenfunctions on it, uncentred.
        performance: Sums over all its rows; None without targets.
        total: Moments of all its rows.
        task: What the targets are.
        held_out: Whether the eigenfunctions come from another probe.
    """
    largest_class = variance = 0.0
    if total.d and task == "classification":
        largest_class = float(total.y_count.max() / total.y_count.sum())
    elif total.d:
        mean = total.y / total.weight
        variance = float(total.y_y.trace() / total.weight - mean @ mean) / total.d
    return Evidence(
        quality=projections.quality_at_dim_target,
        quality_chance=projections.quality_at_dim_target_chance,
        dim_target=projections.dim_target,
        skill=skill_of(performance, task=task, largest_class=largest_class, variance=variance),
        held_out=held_out,
    )


def skill_of(
    performance: Performance | None, *, task: Task, largest_class: float, variance: float
) -> float | None:
    """How far answers are from guessing towards perfect.

    Args:
        performance: Sums over the probe; None without targets.
        task: What the targets are.
        largest_class: Share of the largest class, which guessing it scores.
        variance: Variance of the targets, averaged over their dimensions; 0 if not of use.
    """
    if performance is None or performance.loss is None:
        return None
    if task == "classification":
        accuracy = performance.accuracy
        return None if accuracy is None else chance_corrected(accuracy, largest_class)
    return 1 - performance.loss / variance if variance > 0 else None


def assess(
    regime: Regime, evidence: Evidence, *, curve: Sequence[CompressedModel] = ()
) -> Assessment:
    """Put the second axis beside the regime.

    Args:
        regime: The verdict, which stays as it is.
        evidence: Figures of the held-out probe if there is one, of the probe itself otherwise.
        curve: The compression curve.
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
        reasons=(*_reasons(summary, evidence), *_remark_on_width(needed, curve)),
        warnings=_warnings(corrected, evidence.skill),
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


def _warnings(corrected: float | None, skill: float | None) -> tuple[str, ...]:
    """A model that tells classes apart and answers worse than a guess may count them otherwise."""
    if corrected is None or skill is None or skill > 0 or corrected < THRESHOLDS.good_quality:
        return ()
    warning = (
        "The features tell the classes apart, and the answers are no better than guessing: the "
        "probe's labels may number the classes in another order than the model does."
    )
    return (warning,)
