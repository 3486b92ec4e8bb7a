"""The rule at its edges."""

from dataclasses import replace

import numpy as np
import pytest

from service.contract.rule import RULE_VERSION, THRESHOLDS
from workers.diagnostics import (
    Interval,
    Minimality,
    Regime,
    Verdict,
)
from workers.diagnostics.verdict import Circumstances, judge

FIGURES = Minimality(
    rank=9,
    utilization=0.9,
    utilization_corrected=0.9,
    utilization_tapered=0.92,
    energy=0.8,
    distance=0.1,
    alignment=0.95,
    shape=0.95,
    k90_utilization=9,
    k95_utilization=12,
    k95_energy=20,
)
USUAL = Circumstances(
    n=1000, p=64, outputs=10, directions=60, feature_rank=60, class_counts=np.full(10, 100.0)
)


def _judge(
    utilization: Interval | None = (0.91, 0.95),
    energy: Interval | None = (0.8, 0.9),
    distance: Interval | None = (0.05, 0.1),
    *,
    figures: Minimality = FIGURES,
    circumstances: Circumstances = USUAL,
) -> Verdict:
    intervals = {"utilization_tapered": utilization, "energy": energy, "distance": distance}
    return judge(figures, intervals, circumstances)


@pytest.mark.parametrize(
    ("utilization", "energy", "distance", "regime"),
    [
        ((0.9, 1.0), (0.755, 0.9), (0.3, 0.32), "MF"),  # energy confirms
        ((0.9, 1.0), (0.1, 0.2), (0.0, 0.12), "MF"),  # distance confirms
        ((0.9, 1.0), (0.754, 0.9), (0.1, 0.121), "undetermined"),  # neither
        ((0.9, 1.0), (0.755, 0.9), (0.3, 0.321), "undetermined"),  # too far from minimal
        ((0.899, 1.0), (0.9, 1.0), (0.0, 0.1), "undetermined"),  # the interval reaches the band
        ((0.7, 0.84), (0.9, 1.0), (0.0, 0.1), "EF"),  # utilization alone
        ((0.7, 0.841), (0.9, 1.0), (0.0, 0.1), "undetermined"),
        ((0.9, 1.0), (0.6, 0.715), (0.2, 0.3), "EF"),  # energy and distance together
        ((0.9, 1.0), (0.6, 0.716), (0.2, 0.3), "undetermined"),
        ((0.9, 1.0), (0.6, 0.715), (0.19, 0.3), "undetermined"),
        ((0.9, 1.0), (0.9, 1.0), (0.4, 0.5), "EF"),  # distance alone
        ((0.9, 1.0), (0.9, 1.0), (0.399, 0.5), "undetermined"),
    ],
)
def test_bounds_decide_at_the_thresholds(
    utilization: Interval, energy: Interval, distance: Interval, regime: Regime
) -> None:
    verdict = _judge(utilization, energy, distance)
    assert verdict.regime == regime
    assert verdict.rule == RULE_VERSION
    assert verdict.thresholds == THRESHOLDS
    assert "Ũ' = 0.920, 95 % interval" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("circumstances", "reason"),
    [
        (replace(USUAL, directions=17), "Not applicable"),
        (replace(USUAL, n=99), "Too few samples to judge: 99, and the rule needs 100"),
        (replace(USUAL, outputs=12), "span only r = 9 dimensions of the 11"),
    ],
)
def test_where_the_rule_does_not_apply(circumstances: Circumstances, reason: str) -> None:
    verdict = _judge(circumstances=circumstances)
    assert verdict.regime == "undetermined"
    assert reason in verdict.reasons[0]


def test_samples_must_grow_with_the_learned_space() -> None:
    figures = replace(FIGURES, rank=99)
    at_limit = replace(USUAL, outputs=100, directions=300, n=495)
    assert _judge(figures=figures, circumstances=at_limit).regime == "MF"
    below = _judge(figures=figures, circumstances=replace(at_limit, n=494))
    assert "the rule needs 495" in below.reasons[0]


def test_without_an_interval_nothing_is_decided() -> None:
    verdict = _judge(utilization=None)
    assert verdict.regime == "undetermined"
    assert "no interval" in verdict.reasons[0]


def test_warnings_name_what_distorts_the_figures() -> None:
    counts = np.array([600.0, 6.0, 0.0])
    crowded = Circumstances(
        n=400, p=512, outputs=3, directions=399, feature_rank=399, class_counts=counts
    )
    warnings = " ".join(_judge(circumstances=crowded).warnings)
    for expected in ("Few samples: 400", "Fewer samples", "Saturated", "1 of 3", "100 times"):
        assert expected in warnings
    assert _judge().warnings == ()
