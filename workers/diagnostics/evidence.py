"""How good features and answers are on a probe: the evidence for the second axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol

from workers.diagnostics.averages import CENTRING_NOISE
from workers.diagnostics.intervals import Interval, jackknife, jackknife_interval
from workers.diagnostics.minimality import chance_corrected
from workers.diagnostics.moments import Moments
from workers.diagnostics.performance import Performance, Task
from workers.diagnostics.uncertainty import performance_intervals


class Qualities(Protocol):
    """Figures of projections on the target space, on the probe itself or a held-out one."""

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
    """Evidence of how good features and answers are on a probe, with chance levels.

    Attributes:
        quality: `Π*(dim H*)`: the share of the target space in the first `dim H*` eigenfunctions;
            None without targets.
        quality_chance: Expected quality for shuffled targets.
        dim_target: `dim H*`.
        skill: Rating of the answers from guessing (0) to perfect (1), negative if worse than
            guessing: accuracy corrected for always naming the largest class, the labels' mean
            informedness, or R² for regression. None without targets or decisions.
        held_out: Whether the probe differs from the one that the eigenfunctions come from.
        of_values: Whether the targets are regression values, not classes or labels.
        quality_interval, skill_interval: 95 % intervals; that of a classifier's skill treats the
            class shares as known.
    """

    quality: float | None
    quality_chance: float | None
    dim_target: int | None
    skill: float | None
    held_out: bool
    quality_interval: Interval | None = None
    skill_interval: Interval | None = None
    of_values: bool = False


def gather(
    projections: Qualities,
    performances: Sequence[Performance],
    folds: Sequence[Moments],
    *,
    task: Task,
    positions: float = 1,
    quality_interval: Interval | None = None,
    held_out: bool = False,
) -> Evidence:
    """Gather the evidence of one probe.

    Args:
        projections: Quality figures of the uncentred eigenfunctions on the probe.
        performances: Sums over the rows of each fold; none without targets.
        folds: Moments of each fold, at least one.
        task: Kind of the targets.
        positions: Rows per sample, on average; whole samples are in one fold.
        quality_interval: 95 % interval of `Π*(dim H*)`.
        held_out: Whether the eigenfunctions come from another probe.
    """
    skill, skill_interval = None, None
    if performances and task == "classification":
        skill, skill_interval = _skill_of_classifier(performances, folds, positions)
    elif performances and task == "multilabel":
        skill, skill_interval = _skill_of_labels(performances)
    elif performances:
        skill, skill_interval = _skill_of_regression(performances, folds)
    return Evidence(
        quality=projections.quality_at_dim_target,
        quality_chance=projections.quality_at_dim_target_chance,
        dim_target=projections.dim_target,
        skill=skill,
        held_out=held_out,
        quality_interval=quality_interval,
        skill_interval=skill_interval,
        of_values=task == "regression",
    )


def rescaled(interval: Interval | None, chance: float) -> Interval | None:
    """Correct the interval of a share for a known chance level."""
    if interval is None:
        return None
    low, high = (chance_corrected(bound, chance) for bound in interval)
    return None if low is None or high is None else (low, high)


def _skill_of_classifier(
    performances: Sequence[Performance], folds: Sequence[Moments], positions: float
) -> tuple[float | None, Interval | None]:
    """Return accuracy, rescaled so that naming the largest class scores 0, and its interval."""
    accuracy = sum(performances, Performance()).accuracy
    if accuracy is None:
        return None, None
    counts = reduce(add, (fold.y_count for fold in folds))
    largest = float(counts.max() / counts.sum())
    bounds = performance_intervals(performances, positions=positions)
    return chance_corrected(accuracy, largest), rescaled(bounds["accuracy"], largest)


def _skill_of_labels(
    performances: Sequence[Performance],
) -> tuple[float | None, Interval | None]:
    """Return the labels' mean informedness, 0 for guessing in any proportion, and its interval."""
    total = sum(performances, Performance())
    skill, left_out = _informedness(total), jackknife(total, performances, _informedness)
    sizes = [performance.n for performance in performances]
    return skill, jackknife_interval(skill, left_out, sizes, lowest=-1.0, highest=1.0)


def _informedness(performance: Performance) -> float | None:
    return None if performance.labels is None else performance.labels.informedness


def _skill_of_regression(
    performances: Sequence[Performance], folds: Sequence[Moments]
) -> tuple[float | None, Interval | None]:
    """Return R², one minus the loss as a share of the targets' variance, and its interval."""
    skill = _r_squared(performances, folds)
    left_out = [
        _r_squared([*performances[:j], *performances[j + 1 :]], [*folds[:j], *folds[j + 1 :]])
        for j in range(len(folds))
    ]
    interval = jackknife_interval(
        skill, left_out, [fold.n for fold in folds], lowest=-math.inf, highest=1.0
    )
    return skill, interval


def _r_squared(performances: Sequence[Performance], folds: Sequence[Moments]) -> float | None:
    loss = sum(performances, Performance()).loss
    if loss is None:
        return None
    weight = sum(fold.weight for fold in folds)
    mean = reduce(add, (fold.y for fold in folds)) / weight
    squares = sum(fold.y_squares for fold in folds) / weight
    of_mean = float(mean @ mean)
    variance = squares - of_mean
    if variance <= CENTRING_NOISE * of_mean:
        return None
    return 1 - loss * len(mean) / variance
