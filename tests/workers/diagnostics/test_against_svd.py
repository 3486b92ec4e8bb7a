"""The figures from moments against the definitions on full matrices, by a float64 SVD in numpy."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from samples import diagnosed

from workers.diagnostics import Diagnosis, Moments
from workers.diagnostics.folds import Folds
from workers.diagnostics.plan import Problem
from workers.diagnostics.spectra import FEW_FEATURES


@dataclass(frozen=True)
class Sample:
    phi: np.ndarray
    outputs: np.ndarray
    targets: np.ndarray

    def diagnose(self, folds: int = 10) -> Diagnosis:
        return diagnosed(_folds(self, folds), task="classification")


def _folds(sample: Sample, folds: int) -> list[Moments]:
    found = []
    order = np.random.default_rng(5).permutation(len(sample.phi))
    for rows in np.array_split(order, folds):
        moments = Moments.zeros(
            sample.phi.shape[1], sample.outputs.shape[1], sample.targets.shape[1]
        )
        moments.update(
            *(torch.from_numpy(a[rows]) for a in (sample.phi, sample.outputs, sample.targets))
        )
        found.append(moments)
    return found


def _network(
    seed: int, *, n: int = 900, p: int = 40, classes: int = 5, noise: float = 1.0
) -> Sample:
    """ReLU features around class means, float32 as a network gives them, and a head with a bias."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    means = rng.normal(size=(classes, p))
    scales = np.logspace(0, -1.5, p)
    phi = np.maximum(means[labels] + noise * rng.normal(size=(n, p)) * scales, 0).astype(np.float32)
    outputs = (phi @ rng.normal(size=(p, classes)) + rng.normal(size=classes)).astype(np.float32)
    return Sample(phi, outputs, np.eye(classes)[labels])


def _basis(functions: np.ndarray, tolerance: float) -> np.ndarray:
    """Orthonormal columns that span the functions' columns."""
    left, singular, _ = np.linalg.svd(functions, full_matrices=False)
    return left[:, singular > tolerance * singular[0]]


def _features(phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenfunction values (n, rank), scaled so that the columns have unit norm."""
    left, singular, _ = np.linalg.svd(phi / np.sqrt(len(phi)), full_matrices=False)
    rank = (singular > singular[0] * phi.shape[1] * np.finfo(np.float32).eps).sum()
    return singular[:rank] ** 2, left[:, :rank]


def _double(sample: Sample, *, center: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = [a.astype(np.float64) for a in (sample.phi, sample.outputs, sample.targets)]
    if center:
        arrays = [a - a.mean(0) for a in arrays]
    return arrays[0], arrays[1], arrays[2]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("center", [False, True])
def test_spectrum_and_projections_equal_the_definitions(seed: int, center: bool) -> None:
    sample = _network(seed)
    phi, outputs, targets = _double(sample, center=center)
    eigenvalues, functions = _features(phi)
    quality = (functions.T @ _basis(targets, 1e-6)) ** 2
    utilization = (functions.T @ _basis(outputs, 1e-6)) ** 2

    found = sample.diagnose()
    spectrum = found.spectrum.centered if center else found.spectrum
    projections = found.centered_projections if center else found.projections

    assert spectrum.rank == len(eigenvalues) == len(spectrum.eigenvalues)
    np.testing.assert_allclose(spectrum.eigenvalues, eigenvalues, rtol=1e-10)
    np.testing.assert_allclose(spectrum.relative, eigenvalues / eigenvalues[0], rtol=1e-10)
    assert projections.quality is not None
    assert projections.cumulative_quality is not None
    np.testing.assert_allclose(projections.quality, quality.sum(1), atol=1e-9)
    np.testing.assert_allclose(projections.utilization, utilization.sum(1), atol=1e-9)
    assert projections.dim_target == quality.shape[1]
    assert projections.dim_learned == utilization.shape[1]
    np.testing.assert_allclose(
        projections.cumulative_quality, quality.sum(1).cumsum() / quality.shape[1], atol=1e-9
    )
    np.testing.assert_allclose(
        projections.cumulative_utilization,
        utilization.sum(1).cumsum() / utilization.shape[1],
        atol=1e-9,
    )
    assert projections.quality_at_dim_target == pytest.approx(
        quality.sum(1)[: quality.shape[1]].sum() / quality.shape[1], abs=1e-9
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_alignments_equal_their_definition_on_kernel_matrices(seed: int) -> None:
    sample = _network(seed, n=300)
    phi, outputs, targets = _double(sample, center=False)
    center = np.eye(len(phi)) - 1 / len(phi)

    def cka(first: np.ndarray, second: np.ndarray) -> float:
        a, b = center @ first @ center, center @ second @ center
        return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))

    basis = _basis(outputs, 1e-6)
    found = sample.diagnose().alignment
    kernel = phi @ phi.T
    assert found.d_lr == pytest.approx(1 - cka(kernel, basis @ basis.T), abs=1e-10)
    # a_1 drops out and a_2 cancels, whatever they are.
    minimal = 7.0 * np.ones_like(kernel) + 0.3 * basis @ basis.T
    assert found.d_lr == pytest.approx(1 - cka(kernel, minimal), abs=1e-10)
    assert found.cka_target == pytest.approx(cka(kernel, targets @ targets.T), abs=1e-10)
    assert found.cka_outputs == pytest.approx(cka(kernel, outputs @ outputs.T), abs=1e-10)


@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_minimality_equals_its_definition_on_the_cleaned_space(noise: float) -> None:
    sample = _network(3, noise=noise)
    phi, outputs, _ = _double(sample, center=True)
    eigenvalues, functions = _features(phi)
    basis = _basis(outputs - outputs.mean(1, keepdims=True), 1e-3)
    r = basis.shape[1]
    utilization = ((functions.T @ basis) ** 2).sum(1)
    kernel, projection = phi @ phi.T, basis @ basis.T
    cka = (kernel * projection).sum() / np.linalg.norm(kernel) / np.linalg.norm(projection)

    found = sample.diagnose().verdict.minimality
    U = utilization[:r].mean()
    assert found.rank == r == 4
    assert found.utilization == pytest.approx(U, abs=1e-9)
    chance = r / len(eigenvalues)
    assert found.utilization_corrected == pytest.approx((U - chance) / (1 - chance), abs=1e-9)
    total = (phi**2).sum() / len(phi)
    assert found.energy == pytest.approx(eigenvalues[:r].sum() / total, abs=1e-9)
    assert found.distance == pytest.approx(1 - cka, abs=1e-9)
    assert found.shape is not None
    assert found.alignment is not None
    assert found.distance == pytest.approx(1 - found.shape * found.alignment)
    for share, k in ((0.9, found.k90_utilization), (0.95, found.k95_utilization)):
        assert k == np.argmax(utilization.cumsum() / r >= share) + 1
    assert found.k95_energy == np.argmax(eigenvalues.cumsum() / total >= 0.95) + 1


def test_eigenvectors_give_the_eigenfunctions_and_a_fixed_sign() -> None:
    sample = _network(4)
    found = sample.diagnose()
    phi = sample.phi.astype(np.float64)
    values = phi @ found.eigenvectors / np.sqrt(found.spectrum.eigenvalues)
    np.testing.assert_allclose(values.T @ values / len(phi), np.eye(found.spectrum.rank), atol=1e-8)
    operator = phi @ phi.T / len(phi)
    np.testing.assert_allclose(
        operator @ values, values * found.spectrum.eigenvalues, atol=1e-9 * len(phi)
    )
    pivots = np.abs(found.eigenvectors).argmax(0)
    assert (found.eigenvectors[pivots, range(found.spectrum.rank)] > 0).all()


def test_chance_level_is_the_mean_over_shuffled_labels() -> None:
    sample = _network(6, n=120, p=12, classes=4)
    promised = sample.diagnose().projections.quality_chance_level
    assert promised is not None
    rng = np.random.default_rng(0)
    functions = _features(sample.phi.astype(np.float64))[1]
    shuffled = []
    for _ in range(3000):
        basis = _basis(rng.permutation(sample.targets), 1e-6)
        shuffled.append(((functions.T @ basis) ** 2).sum(1).cumsum() / basis.shape[1])
    # The standard error of 3000 shuffles is below 3e-4.
    np.testing.assert_allclose(promised, np.mean(shuffled, axis=0), atol=1.5e-3)


@pytest.mark.parametrize(("p", "tolerance"), [(FEW_FEATURES, 1e-4), (640, 0.05)])
def test_each_left_out_fold_is_solved_as_a_full_problem_would_be(p: int, tolerance: float) -> None:
    """For many features only nearly: bounds are off by up to a twentieth of their distance."""
    sample = _network(7, n=1500, p=p, classes=6, noise=0.7)
    found = sample.diagnose()
    r = 5
    utilizations, entropies, rankmes = [], [], []
    order = np.random.default_rng(5).permutation(len(sample.phi))
    for rows in np.array_split(order, 10):
        kept = np.setdiff1d(order, rows)
        part = Sample(sample.phi[kept], sample.outputs[kept], sample.targets[kept])
        phi, outputs, _ = _double(part, center=True)
        functions, singular, _ = np.linalg.svd(phi, full_matrices=False)
        basis = _basis(outputs - outputs.mean(1, keepdims=True), 1e-3)
        utilizations.append(((functions[:, :r].T @ basis) ** 2).sum() / r)
        for shares, values in (
            (singular**2 / (singular**2).sum(), entropies),
            (singular / singular.sum() + 1e-7, rankmes),
        ):
            values.append(np.exp(-(shares * np.log(shares)).sum()))
    ranks = found.effective_rank
    assert ranks is not None
    for part_name, name, point, left_out in (
        ("verdict", "utilization", found.verdict.minimality.utilization, utilizations),
        ("effective_rank", "entropy", ranks.entropy, entropies),
        ("effective_rank", "rankme", ranks.rankme, rankmes),
    ):
        assert point is not None
        mean = np.mean(left_out)
        spread = np.sqrt(9 / 10 * ((np.array(left_out) - mean) ** 2).sum())
        unbiased = 10 * point - 9 * mean
        expected = (
            min(point, unbiased) - 2.262157 * spread,
            max(point, unbiased) + 2.262157 * spread,
        )
        # Rounding of the features is magnified tenfold where the bias is estimated.
        off = tolerance * (expected[1] - expected[0])
        assert found.confidence_interval[part_name][name] == pytest.approx(expected, abs=off)


def _spread(
    singular: np.ndarray, *, n: int, p: int, outputs: int = 3, seed: int = 0
) -> tuple[Sample, np.ndarray]:
    """Float64 features of given singular values, and their eigenfunctions `(n, rank)`."""
    rng = np.random.default_rng(seed)
    functions = np.linalg.qr(rng.normal(size=(n, len(singular))))[0]
    directions = np.linalg.qr(rng.normal(size=(p, len(singular))))[0]
    phi = np.sqrt(n) * (functions * singular) @ directions.T
    # Outputs and targets use strong and weak eigenfunctions alike.
    mixed = (
        functions @ rng.normal(size=(len(singular), outputs)) + rng.normal(size=(n, outputs)) / 9
    )
    targets = np.eye(outputs)[mixed.argmax(1)]
    return Sample(phi, mixed, targets), functions


def _dealt(sample: Sample) -> Diagnosis:
    """The smaller problem, as a pass over the samples would solve it."""
    folds = Folds(len(sample.phi))
    folds.update(*(torch.from_numpy(a) for a in (sample.phi, sample.outputs, sample.targets)))
    moments = folds.moments()
    return diagnosed(moments, task="classification", basis=folds.basis)


@pytest.mark.parametrize(
    ("n", "p", "size"), [(300, 40, 40), (5000, 40, 40), (1500, 250, 250), (100, 700, 100)]
)
def test_eigenvalues_down_to_1e_8_of_the_first_are_exact_to_8_digits(
    n: int, p: int, size: int
) -> None:
    """Sums of squares round at eps of the first: 2e-9 is what remains of it at 1e-8 of it."""
    sample, _ = _spread(np.logspace(0, -4, size), n=n, p=p)
    exact = np.linalg.svd(sample.phi / np.sqrt(n), compute_uv=False) ** 2
    found = _dealt(sample).spectrum.eigenvalues
    rank = len(found)
    # The rank cut, at float32 rounding of p features, may come before 1e-8.
    assert rank == (np.sqrt(exact / exact[0]) > p * np.finfo(np.float32).eps).sum()
    np.testing.assert_allclose(found, exact[:rank], rtol=1e-8)
    accuracy = Problem(n, p, 3, 3).accuracy
    assert np.abs(found - exact[:rank]).max() < accuracy * exact[0]


@pytest.mark.parametrize(("n", "p"), [(600, 30), (60, 90)])
def test_projections_of_well_separated_eigenfunctions_are_exact(n: int, p: int) -> None:
    sample, functions = _spread(np.logspace(0, -3.5, 20), n=n, p=p)
    found = _dealt(sample).projections
    assert found.quality is not None
    rank = len(found.quality)
    for projections, space in (
        (found.quality, sample.targets),
        (found.utilization, sample.outputs),
    ):
        expected = ((functions.T @ _basis(space, 1e-6)) ** 2).sum(1)
        np.testing.assert_allclose(projections, expected[:rank], atol=1e-8)


@pytest.mark.parametrize(("n", "p"), [(600, 30), (60, 90)])
def test_degenerate_eigenvalues_are_right_as_a_space(n: int, p: int) -> None:
    """Within equal eigenvalues any basis will do; the space and sums over it are determined."""
    singular = np.repeat([1.0, 0.5, 0.1], [3, 4, 5])
    sample, functions = _spread(singular, n=n, p=p)
    found = _dealt(sample)
    np.testing.assert_allclose(found.spectrum.eigenvalues, singular**2, rtol=1e-10)
    values = sample.phi @ found.eigenvectors / np.sqrt(n * found.spectrum.eigenvalues)
    assert found.projections.quality is not None
    quality = ((functions.T @ _basis(sample.targets, 1e-6)) ** 2).sum(1)
    for space in (slice(0, 3), slice(3, 7), slice(7, 12)):
        overlap = np.linalg.svd(functions[:, space].T @ values[:, space], compute_uv=False)
        np.testing.assert_allclose(overlap, 1, atol=1e-10)
        total = quality[space].sum()
        assert found.projections.quality[space].sum() == pytest.approx(total, abs=1e-8)


def test_float32_features_tell_singular_values_to_their_rounding() -> None:
    """Rounding to float32 moves each singular value by at most eps₃₂/2 of the features' norm."""
    n, size = 400, 30
    sample, _ = _spread(np.logspace(0, -3.5, size), n=n, p=size)
    exact = np.linalg.svd(sample.phi / np.sqrt(n), compute_uv=False)
    rounded = Sample(sample.phi.astype(np.float32), sample.outputs, sample.targets)
    found = np.sqrt(_dealt(rounded).spectrum.eigenvalues)
    bound = np.finfo(np.float32).eps / 2 * np.linalg.norm(exact)
    off = np.abs(found - exact[: len(found)]).max()
    assert off < bound
    # The solver adds nothing to it: against the SVD of the rounded features 8 digits are right.
    again = np.linalg.svd(rounded.phi.astype(np.float64) / np.sqrt(n), compute_uv=False)
    np.testing.assert_allclose(found**2, again[: len(found)] ** 2, rtol=1e-8)
