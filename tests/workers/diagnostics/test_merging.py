"""However samples are split into batches, folds and shards, a report has the same figures."""

from dataclasses import asdict
from functools import reduce
from operator import add
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import Sample, diagnosed, minimal, normal, unequal

from workers.diagnostics import Diagnosis, Moments

N, FOLDS = 240, 5


def sample(*, balanced: bool) -> Sample:
    """Features whose eigenvalues are well apart, so that each eigenfunction is determined."""
    found = minimal(unequal(3, N, 4), p=9, noise=1, balanced=balanced)
    phi = (found.phi + 0.3) * torch.logspace(0, -2, 9, dtype=torch.float64)
    weights = None if found.weights is None else found.weights[:N]
    return Sample(phi[:N], (phi @ normal(9, 3))[:N], found.targets[:N], weights)


PLAIN, BALANCED = sample(balanced=False), sample(balanced=True)


def grouped(of: Sample, groups: list[np.ndarray]) -> list[Moments]:
    """Sums over each group of samples."""
    return [of.sums(torch.from_numpy(rows)) for rows in groups if len(rows)]


def assert_same(found: Diagnosis, expected: Diagnosis, *, intervals: bool) -> None:
    for spectrum, wanted in (
        (found.spectrum, expected.spectrum),
        (found.spectrum.centered, expected.spectrum.centered),
    ):
        assert spectrum.rank == wanted.rank
        np.testing.assert_allclose(spectrum.eigenvalues, wanted.eigenvalues, rtol=1e-10)
    for projections, wanted_projections in (
        (found.projections, expected.projections),
        (found.centered_projections, expected.centered_projections),
    ):
        for name, value in asdict(wanted_projections).items():
            np.testing.assert_allclose(getattr(projections, name), value, atol=1e-10, err_msg=name)
    pairs = [
        (found.alignment, expected.alignment),
        (found.effective_rank, expected.effective_rank),
        (found.uncentered_effective_rank, expected.uncentered_effective_rank),
        (found.verdict.minimality, expected.verdict.minimality),
    ]
    for figures, wanted_figures in pairs:
        assert figures is not None
        assert wanted_figures is not None
        assert asdict(figures) == pytest.approx(asdict(wanted_figures), rel=1e-10, abs=1e-10)
    assert found.verdict.warnings == expected.verdict.warnings
    if intervals:
        assert found.verdict.regime == expected.verdict.regime
        for name, interval in expected.verdict.confidence_interval.items():
            assert found.verdict.confidence_interval[name] == pytest.approx(interval, abs=1e-9)


def test_the_samples_are_as_many_as_meant() -> None:
    assert len(PLAIN.phi) == len(BALANCED.phi) == N


@settings(deadline=None, max_examples=20)
@given(random=st.randoms(use_true_random=False), parts=st.integers(1, 9), weighted=st.booleans())
def test_folds_gathered_from_any_shards_and_batches_give_the_same_report(
    random: Random, parts: int, *, weighted: bool
) -> None:
    of = BALANCED if weighted else PLAIN
    order = np.array(random.sample(range(N), N))
    folds = np.array_split(order, FOLDS)
    expected = diagnosed(grouped(of, folds), task="classification")
    merged = []
    for rows in folds:
        cuts = sorted(random.randrange(len(rows) + 1) for _ in range(parts - 1))
        shards = grouped(of, np.split(np.array(random.sample(rows.tolist(), len(rows))), cuts))
        random.shuffle(shards)
        merged.append(reduce(add, shards))
    assert_same(diagnosed(merged, task="classification"), expected, intervals=True)


@settings(deadline=None, max_examples=20)
@given(random=st.randoms(use_true_random=False), folds=st.integers(2, 12), weighted=st.booleans())
def test_figures_do_not_depend_on_how_samples_are_dealt(
    random: Random, folds: int, *, weighted: bool
) -> None:
    of = BALANCED if weighted else PLAIN
    expected = diagnosed(grouped(of, np.array_split(np.arange(N), FOLDS)), task="classification")
    dealt = np.array_split(np.array(random.sample(range(N), N)), folds)
    found = diagnosed(grouped(of, dealt), task="classification")
    assert_same(found, expected, intervals=False)


@settings(deadline=None, max_examples=15)
@given(batch=st.integers(1, 50), n=st.integers(20, 60))
def test_batches_of_fewer_samples_than_features_are_of_no_account(batch: int, n: int) -> None:
    phi = normal(n, 70) * torch.logspace(0, -2, 70, dtype=torch.float64)
    of = Sample(phi, phi @ normal(70, 3), torch.eye(3, dtype=torch.float64)[torch.arange(n) % 3])
    assert_same(of.dealt(batch), of.dealt(n), intervals=True)
