"""Intervals: the textbook's where it has them, and what they say of counts and shares."""

import math

import numpy as np
import pytest

from workers.diagnostics.intervals import (
    jackknife_interval,
    outwards,
    share_interval,
    t_quantile,
    unbiased_share_interval,
    upwards,
    wilson_interval,
)


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


def test_bounds_of_counts_are_whole() -> None:
    assert outwards((2.4, 3.0)) == (2, 3)
    assert outwards((3.0 - 1e-9, 3.0 + 1e-9)) == (3, 3)
    assert outwards(None) is None


@pytest.mark.parametrize(
    ("smooth", "interval", "expected"),
    [
        (2.7, (2.4, 3.0), (3, 3)),
        (2.7, (1.9, 3.1), (2, 4)),
        (3.0, (3.0 - 1e-12, 3.0 + 1e-12), (3, 3)),
        # Just above a whole number it is the next count, however narrow the interval.
        (3.0 + 1e-9, (3.0, 3.0 + 1e-8), (3, 4)),
    ],
)
def test_a_count_that_is_rounded_up_lies_in_its_interval(
    smooth: float, interval: tuple[float, float], expected: tuple[float, float]
) -> None:
    found = upwards(smooth, interval)
    assert found == expected
    assert found[0] <= math.ceil(smooth) <= found[1]


def test_a_share_that_is_biased_has_an_interval_about_both() -> None:
    """Without a tenth of the samples the share is 10/9 as far from 10 %."""
    n, truth = 1000, 0.1
    bias = 0.02
    found = unbiased_share_interval(truth + bias, [truth + bias * 10 / 9] * 10, [100] * 10, n)
    low, high = wilson_interval(truth, n)[0], wilson_interval(truth + bias, n)[1]
    assert found == pytest.approx((low, high))
    assert unbiased_share_interval(0.1, [0.1, None], [5, 5], 10) is None
    assert unbiased_share_interval(None, [None] * 2, [5, 5], 10) is None
