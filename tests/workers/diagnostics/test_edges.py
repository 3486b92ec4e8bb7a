"""Samples at the edges of what can be judged: right, against an SVD by numpy, or refused."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from samples import Sample, diagnosed, minimal, normal
from torch import Tensor

from workers.diagnostics import (
    DegenerateFeaturesError,
    Diagnosis,
    NonFiniteError,
)
from workers.diagnostics.folds import Folds

FLOAT32_EPS = float(np.finfo(np.float32).eps)


def network(n: int = 600, p: int = 30, classes: int = 4, *, noise: float = 1.0) -> Sample:
    """A minimal network with features of a mean and of several sizes."""
    counts = torch.full((classes,), n // classes)
    found = minimal(counts, p=p, noise=noise)
    phi = (found.phi + 0.2) * torch.logspace(0, -1, p, dtype=torch.float64)
    return replace(found, phi=phi, outputs=phi @ normal(p, classes, seed=9))


def centered_svd(phi: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues up to the rank, and eigenfunction values of unit norm, without the mean."""
    values = phi.double().numpy()
    left, singular, _ = np.linalg.svd(
        (values - values.mean(0)) / len(phi) ** 0.5, full_matrices=False
    )
    rank = int((singular > singular[0] * phi.shape[1] * FLOAT32_EPS).sum())
    return singular[:rank] ** 2, left[:, :rank]


def basis_of(functions: Tensor, tolerance: float) -> np.ndarray:
    values = functions.double().numpy()
    left, singular, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return left[:, singular > tolerance * singular[0]]


def assert_right(sample: Sample, found: Diagnosis) -> None:
    """Centred spectrum, projections, U, E and D are those of the definitions."""
    eigenvalues, functions = centered_svd(sample.phi)
    assert found.spectrum.centered.rank == len(eigenvalues)
    np.testing.assert_allclose(found.spectrum.centered.eigenvalues, eigenvalues, rtol=1e-8)
    quality = ((functions.T @ basis_of(sample.targets, 1e-6)) ** 2).sum(1)
    # Sums over all eigenfunctions do not depend on how degenerate ones are turned.
    assert found.centered_projections.quality is not None
    assert found.centered_projections.quality.sum() == pytest.approx(quality.sum(), abs=1e-8)
    learned = basis_of(sample.outputs - sample.outputs.mean(1, keepdim=True), 1e-3)
    figures = found.verdict.minimality
    r = learned.shape[1]
    assert figures.rank == r
    utilization = ((functions.T @ learned) ** 2).sum(1)
    total = float((sample.phi.double() - sample.phi.double().mean(0)).square().sum(1).mean())
    assert figures.utilization == pytest.approx(utilization[:r].sum() / r, abs=1e-8)
    assert figures.energy == pytest.approx(eigenvalues[:r].sum() / total, abs=1e-9)
    centred = (sample.phi.double() - sample.phi.double().mean(0)).numpy()
    cka = ((learned.T @ centred) ** 2).sum() / np.linalg.norm(centred.T @ centred) / r**0.5
    assert figures.distance == pytest.approx(1 - cka, abs=1e-9)


def test_the_usual() -> None:
    sample = network()
    assert_right(sample, sample.dealt())


@pytest.mark.parametrize("more", ["dead", "constant", "duplicated"])
def test_units_that_add_nothing(more: str) -> None:
    sample = network()
    n = len(sample.phi)
    units = {
        "dead": torch.zeros(n, 7, dtype=torch.float64),
        "constant": torch.full((n, 7), 0.7, dtype=torch.float64),
        "duplicated": sample.phi[:, :7],
    }
    changed = replace(sample, phi=torch.cat([units[more], sample.phi], 1))
    found = changed.dealt()
    assert_right(changed, found)
    assert found.spectrum.rank == 30 + (more == "constant")
    if more != "duplicated":
        plain = sample.dealt().verdict.minimality
        assert asdict(found.verdict.minimality) == pytest.approx(asdict(plain), abs=1e-9)


def test_constant_features_have_no_centred_spectrum() -> None:
    sample = network()
    constant = replace(sample, phi=torch.full_like(sample.phi, 0.3))
    for found in (constant.dealt(), replace(constant, outputs=constant.phi[:, :4]).dealt()):
        assert found.spectrum.rank == 1
        assert found.spectrum.eigenvalues[0] == pytest.approx(30 * 0.09)
        assert found.spectrum.centered.rank == 0
        assert found.effective_rank is None
        assert found.verdict.regime == "undetermined"


@pytest.mark.parametrize("n", [600, 20])
def test_dead_features_are_refused(n: int) -> None:
    sample = network(n)
    with pytest.raises(DegenerateFeaturesError, match="All 30 features are zero on all"):
        replace(sample, phi=torch.zeros_like(sample.phi)).dealt()


def test_duplicated_samples_change_no_figure() -> None:
    sample = network()
    twice = Sample(
        *(torch.cat([each, each]) for each in (sample.phi, sample.outputs, sample.targets))
    )
    once, found = sample.dealt(), twice.dealt()
    assert_right(twice, found)
    np.testing.assert_allclose(found.spectrum.eigenvalues, once.spectrum.eigenvalues, rtol=1e-10)
    assert asdict(found.verdict.minimality) == pytest.approx(
        asdict(once.verdict.minimality), abs=1e-9
    )


def test_a_class_without_samples() -> None:
    sample = network()
    missing = replace(sample, targets=torch.cat([sample.targets, torch.zeros(600, 1)], 1))
    found = missing.dealt()
    assert_right(missing, found)
    assert found.projections.dim_target == 4
    assert found.centered_projections.dim_target == 3
    assert "1 of 5 classes have no sample" in found.verdict.warnings[0]


def test_all_samples_of_one_class() -> None:
    sample = network()
    one = replace(sample, targets=torch.eye(4, dtype=torch.float64)[torch.zeros(600).long()])
    found = one.dealt()
    assert found.projections.dim_target == 1
    assert found.projections.cumulative_quality is not None
    assert found.projections.cumulative_quality[-1] == pytest.approx(basis_share(one.phi), abs=1e-9)
    assert found.centered_projections.dim_target == 0
    assert found.centered_projections.quality_at_dim_target is None
    assert found.verdict.minimality == sample.dealt().verdict.minimality
    assert "3 of 4 classes have no sample" in found.verdict.warnings[0]


def basis_share(phi: Tensor) -> float:
    """How much of the constant function the features span."""
    left, singular, _ = np.linalg.svd(phi.numpy(), full_matrices=False)
    kept = left[:, singular > singular[0] * phi.shape[1] * FLOAT32_EPS]
    return float((kept.sum(0) ** 2).sum() / len(phi))


def test_a_thousand_classes() -> None:
    """Five samples each; features too narrow to tell the classes apart, outputs that do."""
    sample = minimal(torch.full((1000,), 5), p=96 + 1000, noise=0.5)
    outputs = sample.outputs + 0.1 * normal(5000, 1000, seed=3)
    narrow = replace(sample, phi=sample.phi[:, :96], outputs=outputs)
    found = narrow.primal(folds=2)
    assert_right(narrow, found)
    assert found.verdict.minimality.rank == 999
    assert found.projections.dim_target == 1000
    assert found.projections.quality_at_dim_target == pytest.approx(
        found.projections.cumulative_quality[-1]
    )
    assert "could use only 96" in found.verdict.reasons[0]


@pytest.mark.parametrize("scale", [1e-150, 1e-6, 1e6, 1e150])
@pytest.mark.parametrize("n", [600, 24])
def test_no_share_depends_on_the_scale_of_features(n: int, scale: float) -> None:
    """Squares of 1e±150 are the last that float64 holds."""
    sample = network(n)
    plain, found = sample.dealt(), replace(sample, phi=scale * sample.phi).dealt()
    np.testing.assert_allclose(found.spectrum.relative, plain.spectrum.relative, rtol=1e-9)
    np.testing.assert_allclose(
        found.spectrum.eigenvalues / scale**2, plain.spectrum.eigenvalues, rtol=1e-9
    )
    for name, value in asdict(plain.projections).items():
        np.testing.assert_allclose(getattr(found.projections, name), value, atol=1e-9)
    assert asdict(found.alignment) == pytest.approx(asdict(plain.alignment), abs=1e-9)
    first, second = found.verdict, plain.verdict
    assert asdict(first.minimality) == pytest.approx(asdict(second.minimality), abs=1e-9)
    assert first.regime == second.regime
    for name, interval in second.confidence_interval.items():
        assert first.confidence_interval[name] == pytest.approx(interval, abs=1e-8), name


@pytest.mark.parametrize("n", [600, 24])
@pytest.mark.parametrize(
    ("scale", "error"), [(1e160, NonFiniteError), (1e-170, DegenerateFeaturesError)]
)
def test_features_whose_squares_float64_does_not_hold_are_refused(
    n: int, scale: float, error: type[Exception]
) -> None:
    sample = network(n)
    with pytest.raises(error):
        replace(sample, phi=scale * sample.phi).dealt()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_of_reduced_precision_are_right_and_say_from_where_they_are_rounding(
    dtype: torch.dtype,
) -> None:
    sample = network(4000, noise=3.0)
    spread = torch.logspace(0, -5, 30, dtype=torch.float64)
    reduced = replace(sample, phi=(sample.phi * spread).to(dtype))
    eps = torch.finfo(dtype).eps
    found = reduced.dealt(precision=eps)
    assert_right(reduced, found)
    relative = found.spectrum.relative
    (warning,) = (w for w in found.verdict.warnings if w.startswith("Saturated precision"))
    k = int(np.argmax(relative <= eps**2)) + 1
    assert f"from k = {k} on" in warning
    assert relative[k - 2] > eps**2
    assert not any("precision" in w for w in reduced.dealt().verdict.warnings)
    assert not any("precision" in w for w in sample.dealt(precision=eps).verdict.warnings)


def test_many_more_samples_than_features() -> None:
    n, p = 1_000_000, 16
    labels = torch.arange(n) % 4
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(n, p, generator=generator) + torch.randn(4, p, generator=generator)[labels]
    head = torch.randn(p, 4, generator=generator)
    sample = Sample(phi, phi @ head, torch.eye(4)[labels])
    found = sample.dealt(batch=50_000)
    centred = phi.double() - phi.double().mean(0)
    expected = torch.linalg.svdvals(centred / n**0.5).square().numpy()
    np.testing.assert_allclose(found.spectrum.centered.eigenvalues, expected, rtol=1e-8)
    energy = found.verdict.minimality.energy
    assert energy == pytest.approx(expected[:3].sum() / expected.sum(), abs=1e-9)
    assert found.verdict.warnings == ()


@pytest.mark.parametrize("n", [600, 24])
def test_one_output(n: int) -> None:
    sample = network(n)
    one = replace(sample, outputs=sample.outputs[:, :1])
    found = one.dealt()
    eigenvalues, functions = centered_svd(one.phi)
    inner = functions.T @ basis_of(one.outputs, 1e-3)
    assert found.verdict.minimality.rank == 1
    assert found.verdict.minimality.utilization == pytest.approx(inner[0, 0] ** 2, abs=1e-8)
    np.testing.assert_allclose(found.spectrum.centered.eigenvalues, eigenvalues, rtol=1e-8)


def test_one_feature() -> None:
    phi = normal(300, 1) + 2
    targets = torch.eye(2, dtype=torch.float64)[(phi[:, 0] > 2).long()]
    found = Sample(phi, phi @ normal(1, 2, seed=1), targets).dealt()
    assert found.spectrum.eigenvalues == pytest.approx([float(phi.square().mean())])
    variance = float(phi.var(correction=0))
    assert found.spectrum.centered.eigenvalues == pytest.approx([variance])
    assert found.verdict.minimality.utilization == pytest.approx(1)
    assert found.verdict.minimality.utilization_corrected is None
    assert found.verdict.regime == "undetermined"
    assert "Not applicable" in found.verdict.reasons[0]
    assert found.projections.quality is not None
    class_means = [float(phi[targets[:, k] == 1].sum()) for k in (0, 1)]
    in_target = sum(s**2 / float(targets[:, k].sum()) for k, s in enumerate(class_means))
    assert found.projections.quality[0] == pytest.approx(
        in_target / float(phi.square().sum()), abs=1e-9
    )


@pytest.mark.parametrize("positions", [1, 5])
def test_batches_are_of_no_account(positions: int) -> None:
    sample = network(300)
    found = []
    for batch in (1, 7, 300):
        folds = Folds(300 // positions, positions=positions, seed=4)
        for start in range(0, 300, batch * positions):
            rows = slice(start, start + batch * positions)
            folds.update(sample.phi[rows], sample.outputs[rows], sample.targets[rows])
        found.append(diagnosed(folds.moments(), task="classification", positions=positions))
    for other in found[1:]:
        np.testing.assert_allclose(
            other.spectrum.eigenvalues, found[0].spectrum.eigenvalues, rtol=1e-10
        )
        assert asdict(other.verdict.minimality) == pytest.approx(
            asdict(found[0].verdict.minimality), abs=1e-10
        )


def test_features_without_outputs_have_the_figures_that_need_none() -> None:
    sample = network()
    alone, both = replace(sample, outputs=sample.outputs[:, :0]).dealt(), sample.dealt()
    np.testing.assert_array_equal(alone.spectrum.eigenvalues, both.spectrum.eigenvalues)
    np.testing.assert_array_equal(alone.projections.quality, both.projections.quality)
    assert alone.effective_rank == both.effective_rank
    assert alone.alignment.cka_target == pytest.approx(both.alignment.cka_target)
    assert alone.neural_collapse is not None
    assert both.neural_collapse is not None
    assert alone.neural_collapse.nc1 == pytest.approx(both.neural_collapse.nc1)
    assert (alone.projections.utilization, alone.projections.dim_learned) == (None, None)
    assert (alone.alignment.d_lr, alone.alignment.cka_outputs, alone.nc4) == (None, None, None)
    assert alone.compression == ()
    assert alone.verdict.regime == "undetermined"
    assert alone.verdict.reasons[0].startswith("No verdict: the model returns features")
