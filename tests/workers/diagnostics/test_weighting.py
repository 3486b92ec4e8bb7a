"""Samples that do not count alike: weights are repetitions, and balance undoes imbalance."""

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from samples import Sample, minimal, normal, unequal

from workers.diagnostics import DiagnosticsError, Moments, NonFiniteError
from workers.diagnostics.diagonalization import diagonalize
from workers.diagnostics.folds import Folds
from workers.diagnostics.layer_sums import LayerSums
from workers.diagnostics.layers import diagnose_layer
from workers.diagnostics.projections import project

CLASSES = 10


def sample(n: int = 400, p: int = 12) -> Sample:
    phi = normal(n, p).relu()
    targets = torch.eye(4, dtype=torch.float64)[torch.arange(n) % 4]
    return Sample(phi, phi @ normal(p, 4, seed=1), targets)


def test_a_weight_is_a_number_of_repetitions() -> None:
    single = sample()
    times = torch.arange(len(single.phi)) % 3 + 1
    weighted = replace(single, weights=times.double())
    repeated = Sample(
        *(each.repeat_interleave(times, 0) for each in (single.phi, single.outputs, single.targets))
    )
    found, expected = weighted.sums(slice(None)), repeated.sums(slice(None))
    assert found.n == len(single.phi)
    assert found.weight == expected.n == expected.weight
    assert found.effective_n == pytest.approx(len(single.phi) * 2**2 / (14 / 3), rel=2e-2)
    assert found.y_count.tolist() == single.targets.sum(0).tolist()
    for name in ("phi", "f", "y", "phi_phi", "f_f", "y_y", "phi_f", "phi_y"):
        for averages in ("averages", "centered_averages"):
            values, wanted = (getattr(getattr(m, averages)(), name) for m in (found, expected))
            torch.testing.assert_close(values, wanted, rtol=1e-12, atol=1e-12)


def test_equal_weights_change_nothing() -> None:
    plain = sample()
    weighted = replace(plain, weights=torch.full((len(plain.phi),), 7.0))
    first, second = plain.dealt(), weighted.dealt()
    assert second.verdict.warnings == first.verdict.warnings
    np.testing.assert_allclose(second.spectrum.eigenvalues, first.spectrum.eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(
        second.projections.quality_chance_level,
        first.projections.quality_chance_level,
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("noise", "figure", "least"), [(0.5, "distance", 0.3), (2, "utilization", 0.15)]
)
def test_balancing_restores_what_imbalance_moved(noise: float, figure: str, least: float) -> None:
    even = torch.full((CLASSES,), 500)
    uneven = unequal(CLASSES, 5000, 100)
    at_balance, moved, restored = (
        getattr(found.verdict.minimality, figure)
        for found in (
            minimal(even, noise=noise).dealt(),
            minimal(uneven, noise=noise).dealt(),
            minimal(uneven, noise=noise, balanced=True).dealt(),
        )
    )
    assert abs(moved - at_balance) > least
    assert abs(restored - at_balance) < least / 5


def test_imbalance_names_the_option_or_says_that_it_was_applied() -> None:
    counts = torch.tensor([1000, 400, 20])
    (warning,) = minimal(counts).dealt().verdict.warnings
    assert "has 50" in warning
    assert "the option class_weighting: balanced" in warning
    (warning,) = minimal(counts, balanced=True).dealt().verdict.warnings
    assert "has 50" in warning
    assert "Samples were weighted" in warning
    effective = minimal(counts, balanced=True).sums(slice(None)).effective_n
    assert f"as {effective:.0f} samples of equal weight" in warning


def test_chance_level_is_about_the_mean_over_shuffled_labels_and_weights() -> None:
    """Exact for functions that do not know the weights; eigenfunctions lean to heavy samples."""
    counts = unequal(CLASSES, 2000, 100)
    classes, p = len(counts), 40
    labelled = minimal(counts, p=p, noise=1)
    generator = torch.Generator().manual_seed(3)
    found, promised = [], []
    for _ in range(200):
        y = labelled.targets[torch.randperm(len(labelled.phi), generator=generator)]
        moments = Moments.zeros(p, classes, classes)
        moments.update(
            labelled.phi.relu(), labelled.outputs, y, y @ (len(y) / (classes * y.sum(0)))
        )
        raw = moments.averages()
        pairs = diagonalize(raw.phi_phi, rows=raw.n)
        projections = project(raw, pairs, output_tolerance=1e-6)
        found.append(projections.cumulative_quality)
        promised.append(projections.quality_chance_level)
    mean, level = np.mean(found, 0), np.mean(promised, 0)
    assert moments.effective_n == pytest.approx(320, abs=5)
    # With n in place of n_eff the excess over 1/C would be a sixth of what it is.
    assert mean[-1] - 1 / classes > 0.08
    np.testing.assert_allclose(mean, level, atol=0.02)
    np.testing.assert_allclose(mean[:classes], level[:classes], atol=0.007)


def test_layers_agree_with_the_main_spectrum_under_weights() -> None:
    weighted = minimal(unequal(CLASSES, 1000, 20), balanced=True)
    report = weighted.dealt()
    sums = LayerSums([weighted.phi.shape[1]], n=len(weighted.phi), in_folds=[True])
    for start in range(0, len(weighted.phi), 100):
        rows = slice(start, start + 100)
        assert weighted.weights is not None
        sums.update(
            [weighted.phi[rows]],
            weighted.outputs[rows],
            weighted.targets[rows],
            weighted.weights[rows],
        )
    (folds,) = sums.moments()
    layer = diagnose_layer(folds)
    assert layer is not None
    assert reduce(add, folds).effective_n == pytest.approx(
        weighted.sums(slice(None)).effective_n, rel=1e-12
    )
    for found, spectrum, projections in (
        (layer.uncentered, report.spectrum, report.projections),
        (layer.centered, report.spectrum.centered, report.centered_projections),
    ):
        np.testing.assert_allclose(found.eigenvalues, spectrum.eigenvalues, rtol=1e-10)
        for name in ("cumulative_quality", "cumulative_utilization"):
            expected = getattr(projections, name)
            np.testing.assert_allclose(getattr(found, name), expected, atol=1e-10)
    assert layer.alignment.d_lr == pytest.approx(report.alignment.d_lr, abs=1e-10)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_folds_hand_weights_to_their_rows(batch: int) -> None:
    weighted = minimal(unequal(4, 300, 10), p=9, balanced=True)
    folds = Folds(len(weighted.phi))
    assert weighted.weights is not None
    for start in range(0, len(weighted.phi), batch):
        rows = slice(start, start + batch)
        folds.update(
            weighted.phi[rows],
            weighted.outputs[rows],
            weighted.targets[rows],
            weighted.weights[rows],
        )
    total, expected = reduce(add, folds.moments()), weighted.sums(slice(None))
    for name, values in expected.to_arrays().items():
        np.testing.assert_allclose(total.to_arrays()[name], values, rtol=1e-11, atol=1e-10)


def test_moments_written_before_there_were_weights_are_read() -> None:
    plain = sample().sums(slice(None))
    arrays = plain.to_arrays()
    old = {name: arrays[name] for name in arrays.keys() - {"weight", "weight_squared", "y_count"}}
    restored = Moments.from_arrays(old)
    assert (restored.weight, restored.weight_squared) == (plain.n, plain.n)
    assert restored.y_count.tolist() == plain.y.tolist()


@pytest.mark.parametrize(
    ("weight", "error"),
    [(0.0, DiagnosticsError), (-1.0, DiagnosticsError), (np.nan, NonFiniteError)],
)
def test_weights_that_are_none_are_refused(weight: float, error: type[Exception]) -> None:
    plain = sample()
    weights = torch.ones(len(plain.phi))
    weights[3] = weight
    with pytest.raises(error, match="weights"):
        replace(plain, weights=weights).sums(slice(None))
