"""Neural collapse from moments against its definitions on single samples, and where it is known."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from workers.diagnostics import Moments
from workers.diagnostics.figures import filled
from workers.diagnostics.nearest_means import nearest_mean_mismatches
from workers.diagnostics.neural_collapse import NeuralCollapse
from workers.diagnostics.neural_collapse import neural_collapse as figures


def neural_collapse(
    moments: Moments, head: torch.Tensor | None, *, basis: torch.Tensor | None = None
) -> NeuralCollapse:
    raw, centered = moments.averages(), moments.centered_averages()
    return filled(NeuralCollapse, figures(raw, centered, head, basis=basis))


def summed(phi: np.ndarray, labels: np.ndarray, classes: int, outputs: int) -> Moments:
    moments = Moments.zeros(phi.shape[1], outputs, classes)
    moments.update(
        torch.from_numpy(phi),
        torch.zeros(len(phi), outputs),
        torch.eye(classes)[torch.from_numpy(labels)],
    )
    return moments


def network(
    seed: int, *, n: int, p: int, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, p), labels of unequal classes (n,), head (classes, p)."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, classes, n) * rng.integers(0, 2, n))
    means = rng.normal(size=(classes, p)) + 3.0
    phi = means[labels] + 0.3 * rng.normal(size=(n, p)) * np.logspace(0, -1, p)
    return phi, labels, means + 0.5 * rng.normal(size=(classes, p))


def by_definition(phi: np.ndarray, labels: np.ndarray, head: np.ndarray) -> NeuralCollapse:
    """Sample by sample and pair by pair; nothing is shared with the product's way."""
    present = [c for c in range(len(head)) if (labels == c).any()]
    means = {c: phi[labels == c].mean(axis=0) for c in present}
    centre = sum(means.values()) / len(present)
    between = np.array([means[c] - centre for c in present])
    deviations = np.array([x - means[c] for x, c in zip(phi, labels, strict=True)])
    sigma_w = np.atleast_2d(np.cov(deviations.T, bias=True))
    sigma_b = sum(np.outer(m, m) for m in between) / len(present)
    values, vectors = np.linalg.eigh(sigma_b)
    order = np.argsort(values)[::-1][: len(present) - 1]
    inverse = vectors[:, order] / values[order] @ vectors[:, order].T
    norms = [np.sqrt(m @ m) for m in between]
    cosines = [
        between[i] @ between[j] / norms[i] / norms[j]
        for i in range(len(present))
        for j in range(len(present))
        if i != j
    ]
    gram = between @ between.T
    count = len(present)
    simplex = (np.eye(count) - np.ones((count, count)) / count) / np.sqrt(count - 1)
    weights = head[present]
    return NeuralCollapse(
        nc1=np.trace(sigma_w @ inverse) / count,
        nc1_quotient=np.trace(sigma_w) / np.trace(sigma_b),
        nc2_equinorm_means=np.std(norms) / np.mean(norms),
        nc2_equiangle_means=np.std(cosines),
        nc2_etf_means=np.linalg.norm(gram / np.linalg.norm(gram) - simplex),
        nc3=2 - 2 * np.sum(weights * between) / np.linalg.norm(weights) / np.linalg.norm(between),
    )


@pytest.mark.parametrize(
    ("n", "p", "classes"), [(500, 20, 4), (300, 8, 10), (60, 40, 3), (2000, 64, 25), (200, 1, 3)]
)
def test_figures_equal_their_definitions(n: int, p: int, classes: int) -> None:
    phi, labels, head = network(n, n=n, p=p, classes=classes)
    found = neural_collapse(summed(phi, labels, classes, classes), torch.from_numpy(head))
    if p < classes - 1:  # Σ_B has rank p: the definition's cut at C − 1 keeps its rounding
        found_dict, wanted = asdict(found), asdict(by_definition(phi, labels, head))
        del found_dict["nc1"], wanted["nc1"]
        assert found_dict == pytest.approx(wanted, abs=1e-8)
    else:
        assert asdict(found) == pytest.approx(asdict(by_definition(phi, labels, head)), abs=1e-8)


def test_nc1_is_a_pseudo_inverse_where_features_are_fewer_than_classes() -> None:
    phi, labels, head = network(0, n=400, p=3, classes=9)
    found = neural_collapse(summed(phi, labels, 9, 9), torch.from_numpy(head))
    means = np.array([phi[labels == c].mean(0) for c in range(9)])
    between = means - means.mean(0)
    within = np.mean([np.outer(d, d) for d in phi - means[labels]], axis=0)
    expected = np.trace(within @ np.linalg.inv(between.T @ between / 9)) / 9
    assert found.nc1 == pytest.approx(expected, rel=1e-10)


def test_a_collapsed_network_is_zero_throughout() -> None:
    simplex = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 6)))[0].T
    phi = np.repeat(simplex - simplex.mean(0) + 2.0, 50, axis=0)
    labels = np.repeat(np.arange(6), 50)
    found = neural_collapse(
        summed(phi, labels, 6, 6), torch.from_numpy(7.0 * (simplex - simplex.mean(0)))
    )
    assert asdict(found) == pytest.approx(dict.fromkeys(asdict(found), 0.0), abs=1e-8)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_figures_do_not_depend_on_scale(factor: float) -> None:
    phi, labels, head = network(1, n=400, p=12, classes=5)
    plain = neural_collapse(summed(phi, labels, 5, 5), torch.from_numpy(head))
    scaled = neural_collapse(summed(factor * phi, labels, 5, 5), torch.from_numpy(head / factor))
    assert asdict(scaled) == pytest.approx(asdict(plain), rel=1e-9)


def test_a_class_without_samples_is_left_out() -> None:
    phi, labels, head = network(2, n=300, p=10, classes=5)
    there = labels != 2
    found = neural_collapse(summed(phi[there], labels[there], 5, 5), torch.from_numpy(head))
    assert asdict(found) == pytest.approx(
        asdict(by_definition(phi[there], labels[there], head)), abs=1e-8
    )


def test_a_single_logit_has_two_classes() -> None:
    phi, labels, head = network(3, n=300, p=10, classes=2)
    logit = torch.from_numpy(head[1:] - head[:1])
    pair = np.stack([-logit[0] / 2, logit[0] / 2])
    found = neural_collapse(summed(phi, labels, 2, 1), logit)
    assert found.nc3 == pytest.approx(by_definition(phi, labels, pair).nc3, abs=1e-8)


def test_what_is_undefined_is_none() -> None:
    phi, labels, head = network(4, n=100, p=10, classes=4)
    weights = torch.from_numpy(head)
    nothing = NeuralCollapse()
    assert neural_collapse(summed(phi, np.zeros_like(labels), 4, 4), weights) == nothing
    assert neural_collapse(summed(np.ones_like(phi), labels, 4, 4), weights) == nothing
    assert neural_collapse(summed(phi, labels, 4, 4), None).nc3 is None
    assert neural_collapse(summed(phi, labels, 4, 4), torch.zeros(4, 10)).nc3 is None


def test_coordinates_give_the_same() -> None:
    phi, labels, head = network(5, n=30, p=50, classes=4)
    basis, rotated = np.linalg.qr(phi.T)
    plain = neural_collapse(summed(phi, labels, 4, 4), torch.from_numpy(head))
    reduced = neural_collapse(
        summed(rotated.T, labels, 4, 4), torch.from_numpy(head), basis=torch.from_numpy(basis)
    )
    assert asdict(reduced) == pytest.approx(asdict(plain), abs=1e-10)


def test_nc4_counts_answers_that_are_not_the_nearest_mean() -> None:
    phi, labels, _ = network(6, n=400, p=6, classes=5)
    answers = np.random.default_rng(0).integers(0, 5, len(phi))
    present = [c for c in range(5) if (labels == c).any()]
    means = {c: phi[labels == c].mean(0) for c in present}
    nearest = [min(present, key=lambda c: float(((x - means[c]) ** 2).sum())) for x in phi]
    found, _ = nearest_mean_mismatches(
        summed(phi, labels, 5, 5), (), torch.from_numpy(phi), torch.from_numpy(answers)
    )
    assert found == pytest.approx(np.mean(nearest != answers))
