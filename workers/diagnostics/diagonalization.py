"""Eigenfunctions of the operator T = Σ_k |Φ_k⟩⟨Φ_k|, from the Gram matrix of the features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.linear_algebra import eigh

_FLOAT32_EPS = float(np.finfo(np.float32).eps)

# The iteration has converged once residuals fall to _ENOUGH of the initial ones, or to _ROUNDING of
# the first eigenvalue, below which they are rounding.
_ENOUGH = 0.03
_ROUNDING = 1e-14
_MAX_STEPS = 40


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues ρ_k in decreasing order, and the coefficients v_k of their eigenfunctions.

    `T e_k = ρ_k e_k` with `e_k(x) = v_kᵀ Φ(x) / √ρ_k`, for any x (Nam et al. 2024, §2).

    They belong to one set of samples, or to several at once: there is then one more axis at the
    front, and sets with fewer pairs than others have trailing eigenvalues of zero.

    Attributes:
        eigenvalues: `(..., rank)` float64, positive, decreasing; in units of the features squared.
        eigenvectors: `(..., p, rank)` float64, orthonormal columns. The entry of largest magnitude
            in each is positive, which fixes the otherwise arbitrary sign in the same way on every
            machine.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor

    @property
    def rank(self) -> int:
        """Number of pairs held for each set, the zeros at the end of some included."""
        return self.eigenvalues.shape[-1]

    @cached_property
    def ranks(self) -> Tensor:
        """Number of pairs of each set, `(...,)` float64."""
        return (self.eigenvalues > 0).sum(-1).double()

    @cached_property
    def inverse_roots(self) -> Tensor:
        """`1/√ρ_k`, `(..., rank)`; 0 where a set has no such pair."""
        positive = self.eigenvalues > 0
        return torch.where(positive, self.eigenvalues, torch.inf).rsqrt()

    def leading(self, count: int) -> Self:
        """Return the first `count` pairs."""
        return type(self)(self.eigenvalues[..., :count], self.eigenvectors[..., :count])


def diagonalize(
    gram: Tensor, *, rows: float, noise: Tensor | float = 0.0, features: int | None = None
) -> Eigenpairs:
    """Compute the eigenpairs of a Gram matrix of features, up to its numerical rank.

    Args:
        gram: `⟨Φ_k|Φ_l⟩`, symmetric `(p, p)`, float64.
        rows: Number of rows that the matrix averages over, which the rank cannot exceed.
        noise: Eigenvalues at or below this are rounding too (see `Averages`).
        features: Number of features p, if the matrix is over fewer coordinates of them.

    Returns:
        Eigenpairs in decreasing order; none if the matrix is zero or all noise.
    """
    return up_to_rank(*eigh(gram), rows=rows, noise=noise, features=features or len(gram))


def up_to_rank(
    ascending: Tensor, vectors: Tensor, *, rows: float, noise: Tensor | float, features: int
) -> Eigenpairs:
    """Cut the eigenpairs that `eigh` found for a Gram matrix at its numerical rank.

    Args:
        ascending: All eigenvalues, in increasing order, `(p,)`.
        vectors: The eigenvectors as columns, `(p, p)`.
        rows: Number of rows that the matrix averages over.
        noise: Eigenvalues at or below this are rounding too.
        features: Number of features p.
    """
    eigenvalues = ascending.flip(0)
    rank = int(numerical_rank(eigenvalues, features=features, rows=rows, noise=noise))
    return Eigenpairs(eigenvalues[:rank], oriented(vectors.flip(1)[:, :rank]))


def numerical_rank(
    eigenvalues: Tensor, *, features: int, rows: Tensor | float, noise: Tensor | float = 0.0
) -> Tensor:
    """Count the eigenvalues that exceed the rounding of features, assumed to be float32.

    Eigenvalue k counts if its singular value `S_k = √ρ_k` has `S_k > S_1 · p · eps(float32)`, and
    the first one if it is not zero. The usual bound has max(n, p) in place of p, but the rounding
    of features does not grow with the number of rows: for ReLU networks on 20,000 images, singular
    values were accurate to 1 % down to 1e-5 of the first, a hundredth of that bound.

    Args:
        eigenvalues: In decreasing order, `(..., ≥ 1)` float64; those past the rank may be negative.
        features: Number of features, p.
        rows: Number of rows that the Gram matrix averages over, which the rank cannot exceed,
            `(...,)`.
        noise: Eigenvalues at or below this are rounding too (see `Averages`), `(...,)`.

    Returns:
        `(...,)` float64.
    """
    largest = eigenvalues[..., :1]
    noise = torch.as_tensor(noise, dtype=largest.dtype, device=largest.device)[..., None]
    cut = ((features * _FLOAT32_EPS) ** 2 * largest).maximum(noise)
    kept = (eigenvalues > cut) | ((eigenvalues == largest) & (largest > noise))
    return (
        kept.sum(-1)
        .double()
        .clamp(max=torch.as_tensor(rows, dtype=largest.dtype, device=largest.device))
    )


def leading_eigenpairs(
    product: Callable[[Tensor], Tensor], count: int, *, near: Eigenpairs
) -> Eigenpairs | None:
    """Compute the leading eigenpairs of a symmetric matrix from those of a nearby one.

    Locally optimal block iteration (Knyazev 2001, without preconditioner) runs from the known
    eigenvectors until every residual `‖Av − ρv‖` is at most 3 % of the largest initial one. The
    change of the eigenvectors is then known to about 3 % of itself, and the eigenvalues far better.

    Args:
        product: Maps X `(p, m)` to `A X`; A is positive semidefinite.
        count: How many pairs are wanted.
        near: Eigenpairs of a nearby matrix to start from, more than are wanted: spare vectors keep
            the last wanted one from being the slowest to converge.

    Returns:
        `count` pairs, of arbitrary sign; None if the iteration does not converge in 40 steps.
    """
    start = near.eigenvectors
    block = start.shape[1]
    image = product(start)
    values, rotation = eigh(start.T @ image)
    basis, image = start @ rotation, image @ rotation
    directions = basis[:, :0]
    enough = 0.0
    for step in range(_MAX_STEPS):
        residual = image - basis * values
        worst = float(residual.norm(dim=0)[-count:].max())
        if not step:
            enough = max(_ENOUGH * worst, _ROUNDING * float(values[-1]))
        if worst <= enough:
            return Eigenpairs(values.flip(0), basis.flip(1)).leading(count)
        # QR of all three blocks together: the first columns of Q span the basis, the others are
        # orthogonal to it.
        added = torch.linalg.qr(torch.cat([basis, residual, directions], 1))[0][:, block:]
        added_image = product(added)
        trial, trial_image = torch.cat([basis, added], 1), torch.cat([image, added_image], 1)
        all_values, rotation = eigh(trial.T @ trial_image)
        values, rotation = all_values[-block:], rotation[:, -block:]
        directions = added @ rotation[block:]
        basis, image = trial @ rotation, trial_image @ rotation
    return None


def oriented(vectors: Tensor) -> Tensor:
    """Make the entry of largest magnitude in each column positive, the first one on a near tie."""
    magnitudes = vectors.abs()
    near_largest = magnitudes >= (1 - 1e-6) * magnitudes.amax(0, keepdim=True)
    pivots = near_largest.to(torch.uint8).argmax(0, keepdim=True)
    return vectors * vectors.gather(0, pivots).sign()
