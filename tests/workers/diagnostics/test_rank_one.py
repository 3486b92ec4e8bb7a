"""Eigenpairs of a matrix less a product, against those that are solved for and closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import normal
from torch import Tensor

from workers.diagnostics.rank_one import downdated

_EPS = torch.finfo(torch.float64).eps


def assert_solves(matrix: Tensor, direction: Tensor) -> Tensor:
    """What is found is as good as what solving the difference finds; returns the eigenvalues."""
    found = downdated(*torch.linalg.eigh(matrix), direction)
    assert found is not None
    values, vectors = found
    less = matrix - torch.outer(direction, direction)
    largest = float(torch.linalg.matrix_norm(matrix, 2).maximum(direction.square().sum()))
    rounding = 200 * _EPS * max(largest, 1e-300)
    expected = torch.linalg.eigvalsh(less)
    torch.testing.assert_close(values, expected, atol=rounding, rtol=0)
    torch.testing.assert_close(less @ vectors, vectors * values, atol=rounding, rtol=0)
    identity = torch.eye(len(values), dtype=torch.float64)
    torch.testing.assert_close(vectors.T @ vectors, identity, atol=200 * _EPS, rtol=0)
    assert bool((values.diff() >= 0).all())
    return values


def decaying(n: int, p: int, power: float) -> Tensor:
    """Features with a mean whose eigenvalues fall with a power of their number."""
    spread = torch.arange(1, p + 1, dtype=torch.float64) ** -power
    return normal(n, p, seed=1) * spread + normal(p, seed=2).abs()


FEATURES = {
    "one": decaying(50, 1, 0),
    "two": decaying(50, 2, 0),
    "plain": decaying(900, 300, 0),
    "rectified": decaying(900, 300, 0.5).relu(),
    "falling to below rounding": decaying(900, 300, 4),
    "fewer samples than features": decaying(80, 300, 0),
    "dead features": torch.cat([decaying(900, 100, 0), torch.zeros(900, 60).double()], 1),
    "repeated features": decaying(900, 60, 0).repeat(1, 3),
    "a large mean": decaying(900, 100, 0) + 1e6,
    "a mean of rounding": decaying(900, 100, 0) - decaying(900, 100, 0).mean(0),
    "no mean": normal(300, 40) - normal(300, 40).mean(0),
    "equal eigenvalues": 3 * torch.linalg.qr(normal(200, 90))[0] + 0.1,
    "tiny": 1e-120 * decaying(900, 50, 0),
    "zero": torch.zeros(30, 8, dtype=torch.float64),
}


@pytest.mark.parametrize("name", FEATURES)
def test_centred_features_from_those_as_given(name: str) -> None:
    phi = FEATURES[name]
    assert_solves(phi.T @ phi / len(phi), phi.mean(0))


@pytest.mark.parametrize("p", [1, 5, 300])
def test_of_the_identity_one_eigenvalue_falls_by_the_square(p: int) -> None:
    direction = normal(p, seed=3) / (2 * p**0.5)
    values = assert_solves(torch.eye(p, dtype=torch.float64), direction)
    assert float(values[0]) == pytest.approx(1 - float(direction.square().sum()), abs=1e-14)
    assert values[1:].tolist() == pytest.approx([1.0] * (p - 1), abs=1e-14)


@given(
    st.lists(st.sampled_from([0.0, 1e-16, 1e-9, 0.5, 1.0, 1 + 1e-15, 1 + 1e-13, 2.0]), min_size=1),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 1e-9, 0.3, 1.0]),
)
def test_whatever_lies_together(values: list[float], seed: int, length: float) -> None:
    """Also where components of the direction differ by many orders of magnitude."""
    p = len(values)
    basis = torch.linalg.qr(normal(p, p, seed=seed))[0]
    matrix = basis * torch.tensor(values, dtype=torch.float64) @ basis.T
    components = normal(p, seed=seed + 1) * 10 ** (6 * normal(p, seed=seed + 2)).clamp(max=0)
    assert_solves((matrix + matrix.T) / 2, length * components)
