"""The rule at its edges, and the intervals it stands on."""

import math
from dataclasses import replace

import numpy as np
import pytest

from workers.diagnostics import (
    RULE_VERSION,
    THRESHOLDS,
    Interval,
    Minimality,
    Regime,
    Verdict,
)
from workers.diagnostics.intervals import (
    jackknife_interval,
    share_interval,
    t_quantile,
    wilson_interval,
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


@pytest.mark.parametrize(
    ("degrees", "exact"),
    [(1, 12.7062), (4, 2.77645), (5, 2.57058), (9, 2.26216), (19, 2.09302), (1000, 1.96234)],
)
def test_quantiles_of_student_t(degrees: int, exact: float) -> None:
    assert t_quantile(degrees) == pytest.approx(exact, abs=3e-4)


def test_jackknife_of_a_mean_is_its_textbook_interval() -> None:
    """For a mean, equal folds give the t interval of the fold means; unequal ones nearly so."""
    values = np.random.default_rng(0).normal(3.0, 1.0, 200)
    folds = values.reshape(10, 20)
    left_out = [float(np.delete(folds, i, 0).mean()) for i in range(10)]
    found = jackknife_interval(float(values.mean()), left_out, [20] * 10)
    half = 2.262157 * folds.mean(1).std(ddof=1) / math.sqrt(10)
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-4)


def test_jackknife_covers_with_unequal_folds() -> None:
    rng = np.random.default_rng(1)
    sizes = [30, 30, 30, 30, 30, 30, 30, 30, 30, 5]
    bounds = np.cumsum([0, *sizes])
    hits = 0
    for _ in range(1000):
        values = rng.normal(0.0, 1.0, bounds[-1])
        left_out = [
            float(np.delete(values, np.arange(*bounds[i : i + 2])).mean()) for i in range(10)
        ]
        interval = jackknife_interval(float(values.mean()), left_out, sizes)
        assert interval is not None
        hits += interval[0] <= 0.0 <= interval[1]
    assert hits / 1000 == pytest.approx(0.95, abs=0.025)


def test_an_interval_spans_the_figure_and_the_figure_without_its_bias() -> None:
    """The variance with n in the denominator is biased by −σ²/n, which the jackknife takes off."""
    values = np.random.default_rng(2).normal(0.0, 1.0, 50)
    folds = values.reshape(10, 5)
    left_out = [float(np.delete(folds, i, 0).var()) for i in range(10)]
    point = float(values.var())
    found = jackknife_interval(point, left_out, [5] * 10, lowest=0.0)
    assert found is not None
    spread = math.sqrt(9 / 10 * np.square(left_out - np.mean(left_out)).sum())
    unbiased = 10 * point - 9 * float(np.mean(left_out))
    assert point < unbiased == pytest.approx(values.var(ddof=1), rel=0.02)
    assert found[0] == pytest.approx(point - 2.262157 * spread, abs=1e-4)
    assert found[1] == pytest.approx(unbiased + 2.262157 * spread, abs=1e-4)


def test_a_share_of_one_has_an_interval_of_some_width() -> None:
    found = share_interval(1.0, [1.0] * 10, [10] * 10)
    assert found == pytest.approx((1 / (1 + 1.959964**2 / 100), 1.0))
    assert share_interval(0.0, [0.0] * 10, [10] * 10) == pytest.approx((0.0, 1 - found[0]))
    assert share_interval(None, [None] * 10, [10] * 10) is None


def test_alike_positions_count_for_as_many_rows_as_the_folds_show() -> None:
    """Ten positions a sample: all alike they are one row, all independent they are ten."""
    rng = np.random.default_rng(3)
    samples, positions = 400, 10
    alike = np.repeat(rng.random((samples, 1)) < 0.8, positions, 1)
    apart = rng.random((samples, positions)) < 0.8
    widths = []
    for right in (alike, apart):
        folds = right.reshape(10, -1)
        left_out = [float(np.delete(folds, i, 0).mean()) for i in range(10)]
        share = float(right.mean())
        found = share_interval(share, left_out, [400] * 10, positions=positions)
        assert found is not None
        widths.append(found[1] - found[0])
        assert found[0] < 0.8 < found[1]
        fewest, most = wilson_interval(share, samples), wilson_interval(share, right.size)
        assert most[1] - most[0] <= widths[-1] <= fewest[1] - fewest[0]
    assert widths[0] > 2 * widths[1]


def test_jackknife_is_clipped_and_refuses_the_undefined() -> None:
    assert jackknife_interval(0.99, [0.9, 1.0, 0.95], [5, 5, 5], highest=1.0) == pytest.approx(
        (0.99 - 4.3027 * math.sqrt(2 / 3 * 0.005), 1.0)
    )
    assert jackknife_interval(None, [0.9, 1.0], [5, 5]) is None
    assert jackknife_interval(0.9, [0.9, None], [5, 5]) is None
