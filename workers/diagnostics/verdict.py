"""The MF/EF rule: is the network minimal (MF) or are its features expressive beyond need (EF)?

The rule is implemented here alone, with its constants in `service.contract.rule`. It never uses
accuracy or quality: a network that fits shuffled labels is minimal too, which is why quality is a
second axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.contract.rule import RULE_VERSION, THRESHOLDS, Thresholds
from workers.diagnostics.intervals import Interval
from workers.diagnostics.minimality import Minimality

Regime = Literal["MF", "EF", "undetermined"]


@dataclass(frozen=True)
class Verdict:
    """The regime, and everything that led to it.

    Attributes:
        regime: "MF", "EF" or "undetermined".
        rule: Version of the rule.
        minimality: The figures judged.
        confidence_interval: 95 % interval of each of them by name, None where it is undefined.
        reasons: Why the regime was found, in sentences with figures.
        thresholds: What the figures were compared with.
        warnings: Caveats for the reader of the figures.
    """

    regime: Regime
    rule: str
    minimality: Minimality
    confidence_interval: Mapping[str, Interval | None]
    reasons: tuple[str, ...]
    thresholds: Thresholds
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Circumstances:
    """Facts that the rule needs besides the figures.

    Attributes:
        n: Number of samples. Positions of one sample are alike, so more of them make no figure more
            certain.
        p: Number of features.
        outputs: Number of outputs of the model.
        directions: Number of independent directions that the features could use.
        feature_rank: Numerical rank of the centred features.
        class_counts: Number of labels of each class, `(d,)`; None for regression or without
            targets.
        classes: Number of classes that the model distinguishes, those of the labels included; None
            if not known.
        exclusive: Whether the classes are mutually exclusive; if not, samples may have several
            labels.
        positions: Rows per sample, on average: 1 unless the model is dense.
        effective_n: Number of samples of equal weight that would have the same sampling error; None
            if all weigh the same.
        rounded_from: The first k whose eigenvalue is within the rounding of the features; None if
            all are above it.
    """

    n: int
    p: int
    outputs: int
    directions: int
    feature_rank: int
    class_counts: np.ndarray | None
    classes: int | None = None
    exclusive: bool = True
    positions: float = 1
    effective_n: float | None = None
    rounded_from: int | None = None


def judge(
    figures: Minimality,
    intervals: Mapping[str, Interval | None],
    circumstances: Circumstances,
) -> Verdict:
    """Apply the rule to the figures and their intervals.

    Args:
        figures: Minimality of the features.
        intervals: 95 % interval of each of its fields, by name.
        circumstances: Sizes and counts that decide whether the rule applies, and what to warn
            about.
    """
    obstacle = _obstacle(figures, circumstances)
    if obstacle is None:
        regime, reasons = _compare(figures, intervals)
    else:
        regime, reasons = "undetermined", [obstacle]
    return Verdict(
        regime=regime,
        rule=RULE_VERSION,
        minimality=figures,
        confidence_interval=intervals,
        reasons=tuple(reasons),
        thresholds=THRESHOLDS,
        warnings=tuple(_warnings(circumstances)),
    )


def _obstacle(figures: Minimality, circumstances: Circumstances) -> str | None:
    """Return why the rule cannot be applied; None if it can."""
    r, n, limits = figures.rank, circumstances.n, THRESHOLDS
    if not circumstances.outputs:
        return (
            "No verdict: the model returns features and no outputs, so nothing shows which of its "
            "features it uses. Save it with its last linear layer for a verdict."
        )
    if figures.utilization is None:
        return (
            "The outputs, once the mean is removed, do not vary over the probe: nothing was "
            "learned that this probe could show."
        )
    if circumstances.directions < limits.min_rank_ratio * r:
        return (
            f"Not applicable: the learned functions span r = {r} dimensions and the features could "
            f"use only {circumstances.directions}. Below {limits.min_rank_ratio:g}·r the width "
            "alone forces minimality."
        )
    needed = max(limits.min_samples, limits.min_samples_per_dimension * r)
    if n < needed:
        return (
            f"Too few samples to judge: {n}, and the rule needs {needed} (at least "
            f"{limits.min_samples}, and {limits.min_samples_per_dimension} for each of r = {r} "
            "dimensions)."
        )
    if r < limits.min_rank_share * (circumstances.outputs - 1):
        return (
            f"The learned functions span only r = {r} dimensions of the "
            f"{circumstances.outputs - 1} that {circumstances.outputs} outputs allow: some outputs "
            "are copies or combinations of others on this probe."
        )
    return None


def _compare(
    figures: Minimality, intervals: Mapping[str, Interval | None]
) -> tuple[Regime, list[str]]:
    utilization = intervals["utilization_tapered"]
    energy = intervals["energy"]
    distance = intervals["distance"]
    if utilization is None or energy is None or distance is None:
        missing = (
            "The figures have no interval, because some are undefined once a fold of the probe is "
            "left out. A larger probe would settle it."
        )
        return "undetermined", [missing]
    regime, conclusion = _decide(utilization, energy, distance)
    limits = THRESHOLDS
    return regime, [
        (
            f"Ũ' = {_with_interval(figures.utilization_tapered, utilization)} (MF from "
            f"{limits.mf_utilization:g}, EF up to {limits.ef_utilization:g}): the first "
            f"{figures.rank} eigenfunctions hold {figures.utilization:.1%} of what the outputs "
            "express, and those next to them count in part."
        ),
        (
            f"E = {_with_interval(figures.energy, energy)} (MF from {limits.mf_energy:g}, EF up to "
            f"{limits.ef_energy:g}): their share of the features' variance."
        ),
        (
            f"D = {_with_interval(figures.distance, distance)} (MF up to {limits.mf_distance:g}, "
            f"or {limits.mf_greatest_distance:g} with E; EF from {limits.ef_distance:g} with E, or "
            f"{limits.ef_certain_distance:g}): distance from the minimal operator."
        ),
        conclusion,
    ]


def _decide(utilization: Interval, energy: Interval, distance: Interval) -> tuple[Regime, str]:
    """Return the regime and why, from the intervals of Ũ', E and D."""
    limits = THRESHOLDS
    used = utilization[0] >= limits.mf_utilization
    confirmed = energy[0] >= limits.mf_energy or distance[1] <= limits.mf_distance
    if used and confirmed and distance[1] <= limits.mf_greatest_distance:
        return "MF", "Ũ' is above its band, and E or D confirms it: the features are minimal."
    if utilization[1] <= limits.ef_utilization:
        return "EF", "Ũ' is below its band: the outputs draw on many weak features."
    if energy[1] <= limits.ef_energy and distance[0] >= limits.ef_distance:
        return "EF", "E and D both show features that go far beyond what the outputs use."
    if distance[0] >= limits.ef_certain_distance:
        return "EF", "D is far from minimal: a few directions outweigh what the outputs use."
    return (
        "undetermined",
        "An interval reaches into the band between the regimes, or the figures disagree.",
    )


def _with_interval(value: float | None, interval: Interval) -> str:
    return f"{value:.3f}, 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"


def _warnings(circumstances: Circumstances) -> list[str]:
    n, p, limits = circumstances.n, circumstances.p, THRESHOLDS
    found = []
    if n < limits.warn_samples:
        found.append(
            f"Few samples: {n}. Intervals are wide below {limits.warn_samples}, and E is biased "
            "upwards."
        )
    if n < p:
        found.append(
            f"Fewer samples ({n}) than features ({p}): E is biased upwards, and the trailing "
            "eigenfunctions are an accident of the sample."
        )
    dimensions = round(n * circumstances.positions) - 1
    if circumstances.feature_rank >= limits.warn_saturation * dimensions:
        found.append(
            f"Saturated: the features span {circumstances.feature_rank} of {dimensions} dimensions "
            "of all functions on the probe, so far down the list any target at all is captured."
        )
    if circumstances.rounded_from is not None:
        found.append(
            "Saturated precision: the model gives features in a reduced precision, and from k = "
            f"{circumstances.rounded_from} on eigenvalues are no larger than its rounding. Save "
            "the model in float32 to see what lies below."
        )
    return found + _class_warnings(circumstances)


def _class_warnings(circumstances: Circumstances) -> list[str]:
    counts, effective = circumstances.class_counts, circumstances.effective_n
    if counts is None:
        return []
    found = []
    present = counts[counts > 0]
    many = "classes" if circumstances.exclusive else "labels"
    classes = max(len(counts), circumstances.classes or 0)
    if len(present) < classes:
        found.append(
            f"{classes - len(present):,} of {classes:,} {many} have no sample in the probe."
        )
    imbalance = float(present.max() / present.min()) if len(present) else 1.0
    if imbalance <= THRESHOLDS.warn_imbalance:
        return found
    unequal = (
        f"Class imbalance: the largest class has {imbalance:.3g} times the labels of the smallest."
        if circumstances.exclusive
        else f"Label imbalance: the most frequent label has {imbalance:.3g} times the samples of "
        "the rarest."
    )
    if effective is None:
        found.append(
            f"{unequal} Imbalance lowers U and raises D; the option class_weighting: balanced, or "
            "a balanced probe, judges more fairly."
        )
    else:
        found.append(
            f"{unequal} Samples were weighted so that all {many} count alike (class_weighting: "
            f"balanced); that leaves as much to chance as {effective:.0f} samples of equal weight."
        )
    return found
