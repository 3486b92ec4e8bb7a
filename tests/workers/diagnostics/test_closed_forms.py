"""Cases whose figures are known without computing them."""

import math

import numpy as np
import pytest
import torch
from samples import diagnosed
from torch import Tensor

from workers.diagnostics import (
    DegenerateFeaturesError,
    Diagnosis,
    IncompatibleShapesError,
    Moments,
    NonFiniteError,
    Task,
    TooFewSamplesError,
)


def _diagnose(
    phi: Tensor,
    outputs: Tensor,
    targets: Tensor | None,
    *,
    task: Task = "classification",
    folds: int = 10,
) -> Diagnosis:
    dealt = torch.randperm(len(phi), generator=torch.Generator().manual_seed(1))
    parts = [
        _moments(phi[rows], outputs[rows], None if targets is None else targets[rows])
        for rows in dealt.chunk(folds)
    ]
    return diagnosed(parts, task=task)


def _moments(phi: Tensor, outputs: Tensor, targets: Tensor | None = None) -> Moments:
    moments = Moments.zeros(
        phi.shape[1], outputs.shape[1], 0 if targets is None else targets.shape[1]
    )
    moments.update(phi, outputs, targets)
    return moments


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _labels(n: int, classes: int) -> Tensor:
    return torch.eye(classes, dtype=torch.float64)[torch.arange(n) % classes]


def _simplex(classes: int) -> Tensor:
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_exact_collapse_is_minimal(classes: int) -> None:
    """Features are the class means, a simplex; the width leaves room that they do not use."""
    y = _labels(1200, classes)
    embedding = torch.linalg.qr(_normal(64, classes))[0]
    phi = y @ _simplex(classes) @ embedding.T
    found = _diagnose(phi, 5 * y @ _simplex(classes), y)
    figures = found.verdict.minimality
    r = classes - 1
    assert found.spectrum.centered.rank == figures.rank == r
    assert figures.utilization == pytest.approx(1)
    assert figures.utilization_corrected == pytest.approx(1)
    assert figures.energy == pytest.approx(1)
    assert figures.distance == pytest.approx(0, abs=1e-9)
    assert figures.k95_utilization == figures.k95_energy == r
    assert found.effective_rank is not None
    assert found.effective_rank.participation_ratio == pytest.approx(r)
    np.testing.assert_allclose(found.spectrum.centered.eigenvalues, 1 / classes, rtol=1e-10)
    assert found.alignment.d_lr == pytest.approx(0, abs=1e-9)
    assert found.alignment.cka_target == pytest.approx(1)
    assert found.centered_projections.quality_at_dim_target == pytest.approx(1)
    assert found.verdict.regime == "MF"


def test_white_features_are_lazy() -> None:
    """Every direction alike: D = 1 − √(r/p), E = U = r/p up to sampling, U' = 0."""
    n, p, classes = 40_000, 20, 5
    white = torch.linalg.qr(_normal(n, p))[0] * math.sqrt(n)
    outputs = white @ _normal(p, classes, seed=1)
    found = _diagnose(white, outputs, _labels(n, classes))
    figures = found.verdict.minimality
    # Centring shifts eigenvalues by O(1/n), so which white directions lead is an accident.
    assert figures.distance == pytest.approx(1 - math.sqrt(4 / p), abs=1e-3)
    assert figures.energy == pytest.approx(4 / p, abs=1e-3)
    assert figures.alignment == pytest.approx(1, abs=1e-3)
    assert found.effective_rank is not None
    for rank in (
        found.effective_rank.participation_ratio,
        found.effective_rank.entropy,
        found.effective_rank.rankme,
        found.effective_rank.stable,
    ):
        assert rank == pytest.approx(p, rel=1e-3)
    assert found.verdict.regime == "EF"


def test_planted_spectrum_and_outputs() -> None:
    """Outputs are known eigenfunctions of a known spectrum, so every figure has a closed form."""
    n, p = 2000, 30
    functions = torch.linalg.qr(_normal(n, p) - _normal(n, p).mean(0))[0] * math.sqrt(n)
    functions = functions - functions.mean(0)
    functions = torch.linalg.qr(functions)[0] * math.sqrt(n)
    spectrum = torch.logspace(0, -3, p, dtype=torch.float64)
    rotation = torch.linalg.qr(_normal(p, p, seed=2))[0]
    phi = functions * spectrum.sqrt() @ rotation.T
    chosen = [0, 3, 4]
    found = _diagnose(phi, functions[:, chosen], functions[:, [1]], task="regression")
    np.testing.assert_allclose(found.spectrum.eigenvalues, spectrum, rtol=1e-10)
    expected = np.zeros(p)
    expected[chosen] = 1
    np.testing.assert_allclose(found.projections.utilization, expected, atol=1e-9)
    assert found.projections.quality is not None
    np.testing.assert_allclose(found.projections.quality, np.eye(p)[1], atol=1e-9)
    figures = found.verdict.minimality
    assert figures.rank == 3
    assert figures.utilization == pytest.approx(1 / 3)
    assert figures.k90_utilization == figures.k95_utilization == 5
    leading = float(spectrum[:3].sum())
    assert figures.energy == pytest.approx(leading / float(spectrum.sum()))
    assert figures.alignment == pytest.approx(float(spectrum[chosen].sum()) / leading)
    assert figures.shape == pytest.approx(leading / float(spectrum.norm()) / math.sqrt(3))


def test_two_levels_of_effective_rank() -> None:
    """Spectrum (4, 1, 1, 1, 1) by hand."""
    scaled = torch.linalg.qr(_normal(500, 5) - _normal(500, 5).mean(0))[0]
    scaled = torch.linalg.qr(scaled - scaled.mean(0))[0] * math.sqrt(500)
    scaled[:, 0] *= 2
    rank = _diagnose(scaled, scaled[:, :1], None, task="regression").effective_rank
    assert rank is not None
    assert rank.participation_ratio == pytest.approx(64 / 20)
    assert rank.stable == pytest.approx(2)
    assert rank.entropy == pytest.approx(math.exp(0.5 * math.log(2) + 0.5 * math.log(8)))
    singular = np.array([2, 1, 1, 1, 1]) / 6
    assert rank.rankme == pytest.approx(math.exp(-(singular * np.log(singular)).sum()), rel=1e-5)


def test_the_mean_logit_does_not_count() -> None:
    y = _labels(1000, 4)
    phi = y @ _normal(4, 32) + 0.1 * _normal(1000, 32, seed=3)
    clean = y @ _simplex(4)
    clean = phi @ torch.linalg.lstsq(phi, clean).solution
    with_mean = clean + phi @ _normal(32, 1, seed=4)
    plain, shifted = _diagnose(phi, clean, y), _diagnose(phi, with_mean, y)
    assert shifted.projections.dim_learned == plain.projections.dim_learned + 1
    assert shifted.verdict.minimality.utilization == pytest.approx(
        plain.verdict.minimality.utilization, abs=1e-6
    )


def test_dead_duplicated_and_constant_units_change_nothing_but_scale() -> None:
    y = _labels(800, 3)
    phi = y @ _normal(3, 20) + 0.5 * _normal(800, 20, seed=1)
    outputs = phi @ _normal(20, 3, seed=2)
    bare = _diagnose(phi, outputs, y)
    cluttered = torch.cat([phi, phi, torch.zeros(800, 5), torch.full((800, 2), 3.0)], 1)
    found = _diagnose(cluttered, outputs, y)
    np.testing.assert_allclose(
        found.spectrum.centered.eigenvalues, 2 * bare.spectrum.centered.eigenvalues, rtol=1e-9
    )
    assert found.verdict.minimality.energy == pytest.approx(bare.verdict.minimality.energy)
    assert found.verdict.regime == bare.verdict.regime


def test_a_unit_that_lives_in_one_fold_alone() -> None:
    phi = _normal(300, 12)
    phi[:, 11] = 0
    phi[7, 11] = 40
    found = _diagnose(phi, phi[:, :3], _labels(300, 3))
    assert all(
        interval is None or all(map(math.isfinite, interval))
        for interval in found.verdict.confidence_interval.values()
    )
    assert found.verdict.confidence_interval["utilization"] is not None


def test_a_class_without_samples_is_not_counted() -> None:
    labels = _labels(600, 4)
    y = torch.cat([labels, torch.zeros(600, 1)], 1)
    phi = y @ _normal(5, 24) + _normal(600, 24, seed=1)
    found = _diagnose(phi, phi @ _normal(24, 5, seed=2), y)
    assert found.projections.dim_target == 4
    assert found.centered_projections.dim_target == 3
    assert any("1 of 5 classes" in warning for warning in found.verdict.warnings)


def test_without_targets_all_else_comes_out() -> None:
    phi = _normal(600, 16) @ torch.diag(torch.logspace(0, -1, 16)).double()
    outputs = phi @ _normal(16, 3, seed=2)
    with_targets, without = _diagnose(phi, outputs, _labels(600, 3)), _diagnose(phi, outputs, None)
    projections = without.projections
    for absent in ("quality", "cumulative_quality", "quality_chance_level", "dim_target"):
        assert getattr(projections, absent) is None
    assert without.alignment.cka_target is None
    assert without.confidence_interval["alignment"]["cka_target"] is None
    assert without.alignment.d_lr == with_targets.alignment.d_lr
    assert without.verdict.minimality == with_targets.verdict.minimality
    assert without.verdict.regime == with_targets.verdict.regime


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_one_output(task: Task) -> None:
    phi = _normal(500, 10) @ torch.diag(torch.logspace(0, -1, 10)).double()
    target = (phi[:, :1] > 0).double()
    found = _diagnose(phi, phi[:, :1] + 3, target, task=task)
    assert found.verdict.minimality.rank == 1
    assert found.verdict.minimality.utilization == pytest.approx(1, abs=0.01)


def test_constant_outputs_are_undetermined_with_a_reason() -> None:
    found = _diagnose(_normal(300, 8), torch.full((300, 3), 1e4), _labels(300, 3))
    assert found.verdict.regime == "undetermined"
    assert found.alignment.d_lr is found.alignment.cka_outputs is None
    assert found.verdict.minimality.rank == 0
    assert found.verdict.confidence_interval["rank"] == (0, 0)
    assert "do not vary" in found.verdict.reasons[0]


def test_constant_features_have_no_centred_spectrum() -> None:
    phi = torch.full((300, 8), 0.1) * torch.arange(1, 9)
    found = _diagnose(phi, phi[:, :3], _labels(300, 3))
    assert found.spectrum.rank == 1
    assert found.spectrum.centered.rank == 0
    assert found.effective_rank is None
    assert found.alignment.d_lr is None
    assert found.verdict.regime == "undetermined"


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_of_features_and_outputs_does_not_matter(scale: float) -> None:
    y = _labels(500, 3)
    phi = (y @ _normal(3, 16) + 0.3 * _normal(500, 16, seed=1)).relu()
    outputs = phi @ _normal(16, 3, seed=2)
    plain, scaled = _diagnose(phi, outputs, y), _diagnose(phi * scale, outputs / scale, y)
    assert scaled.spectrum.rank == plain.spectrum.rank
    np.testing.assert_allclose(scaled.spectrum.relative, plain.spectrum.relative, rtol=1e-9)
    np.testing.assert_allclose(
        scaled.projections.utilization, plain.projections.utilization, atol=1e-9
    )
    for name in ("utilization", "energy", "distance"):
        assert getattr(scaled.verdict.minimality, name) == pytest.approx(
            getattr(plain.verdict.minimality, name), abs=1e-9
        )
    assert scaled.alignment.d_lr == pytest.approx(plain.alignment.d_lr, abs=1e-9)


def test_a_mean_far_above_the_spread_leaves_the_centred_figures_right() -> None:
    y = _labels(2000, 3)
    small = y @ _normal(3, 16) + 0.3 * _normal(2000, 16, seed=1)
    outputs = small @ _normal(16, 3, seed=2)
    plain, shifted = _diagnose(small, outputs, y), _diagnose(small + 1e4, outputs, y)
    np.testing.assert_allclose(
        shifted.spectrum.centered.eigenvalues, plain.spectrum.centered.eigenvalues, rtol=1e-4
    )
    assert shifted.verdict.minimality.energy == pytest.approx(
        plain.verdict.minimality.energy, abs=1e-5
    )


def test_fewer_samples_than_features() -> None:
    phi = _normal(60, 200)
    found = _diagnose(phi, phi @ _normal(200, 3, seed=1), _labels(60, 3))
    assert found.spectrum.rank == 60
    assert found.spectrum.centered.rank == 59
    assert found.projections.cumulative_quality is not None
    assert found.projections.cumulative_quality[-1] == pytest.approx(1)
    assert found.verdict.regime == "undetermined"
    assert "Too few samples" in found.verdict.reasons[0]
    assert any("Fewer samples (60) than features (200)" in w for w in found.verdict.warnings)
    assert any("Saturated" in warning for warning in found.verdict.warnings)


def test_inputs_that_cannot_be_diagnosed() -> None:
    few = _normal(9, 4)
    with pytest.raises(TooFewSamplesError, match="9 samples, at least 10"):
        _diagnose(few, few, None, folds=3)
    with pytest.raises(TooFewSamplesError, match="Only 1 fold"):
        _diagnose(_normal(50, 4), _normal(50, 2), None, folds=1)
    with pytest.raises(DegenerateFeaturesError, match="All 4 features are zero"):
        _diagnose(torch.zeros(50, 4), _normal(50, 2), None)
    with pytest.raises(NonFiniteError, match="too large to be squared"):
        _diagnose(_normal(50, 4) * 1e200, _normal(50, 2), None)
    with pytest.raises(IncompatibleShapesError, match="equal shape"):
        diagnosed(
            [_moments(_normal(20, 3), _normal(20, 2)), _moments(_normal(20, 4), _normal(20, 2))],
            task="regression",
        )
