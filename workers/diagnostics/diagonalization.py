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

# Residuals, as a share of the first ones, at which the iteration has found what it is for; and as a
# share of the first eigenvalue, below which there is nothing left to find.
_ENOUGH = 0.03
_ROUNDING = 1e-14
_MAX_STEPS = 40


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues ρ_k in decreasing order, and the coefficients v_k of their eigenfunctions.

    `T e_k = ρ_k e_k` with `e_k(x) = v_kᵀ Φ(x) / √ρ_k`, for any x (Nam et al. 2024, §2).

    Of one set of samples, or of several at once: then there is an axis more at the front, and sets
    that have fewer pairs than others have zeros for eigenvalues at the end.

    Attributes:
        eigenvalues: `(..., rank)` float64, positive, decreasing; in units of the features squared.
        eigenvectors: `(..., p, rank)` float64, orthonormal columns. The entry of largest magnitude
            of each is positive, which makes the sign, otherwise arbitrary, the same on every
            machine.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor

    @property
    def rank(self) -> int:
        """Number of pairs held, of whichever set."""
        return self.eigenvalues.shape[-1]

    @cached_property
    def ranks(self) -> Tensor:
        """Number of pairs of each set, `(...,)` float64."""
        return (self.eigenvalues > 0).sum(-1).double()

    @cached_property
    def inverse_roots(self) -> Tensor:
        """`1/√ρ_k`, and 0 where there is no pair, `(..., rank)`."""
        positive = self.eigenvalues > 0
        return torch.where(positive, self.eigenvalues, torch.inf).rsqrt()

    def leading(self, count: int) -> Self:
        """The first `count` pairs."""
        return type(self)(self.eigenvalues[..., :count], self.eigenvectors[..., :count])


def diagonalize(
    gram: Tensor, *, rows: float, noise: Tensor | float = 0.0, features: int | None = None
) -> Eigenpairs:
    """Eigenpairs of a Gram matrix of features, up to its numerical rank.

    Args:
        gram: `⟨Φ_k|Φ_l⟩`, symmetric `(p, p)`, float64.
        rows: Number of rows it was averaged over, which the rank cannot exceed.
        noise: Eigenvalues at or below this are rounding too (see `Averages`).
        features: Number of features p, where the matrix is of fewer coordinates of them.

    Returns:
        Eigenpairs in decreasing order; none if the matrix is zero or all noise.
    """
    return up_to_rank(*eigh(gram), rows=rows, noise=noise, features=features or len(gram))


def up_to_rank(
    ascending: Tensor, vectors: Tensor, *, rows: float, noise: Tensor | float, features: int
) -> Eigenpairs:
    """What `eigh` found of a Gram matrix, up to its numerical rank; the rest as of `diagonalize`.

    Args:
        ascending: All eigenvalues, in increasing order, `(p,)`.
        vectors: The eigenvectors as columns, `(p, p)`.
        rows: Number of rows it was averaged over.
        noise: Eigenvalues at or below this are rounding too.
        features: Number of features p.
    """
    eigenvalues = ascending.flip(0)
    rank = int(numerical_rank(eigenvalues, features=features, rows=rows, noise=noise))
    return Eigenpairs(eigenvalues[:rank], oriented(vectors.flip(1)[:, :rank]))


def numerical_rank(
    eigenvalues: Tensor, *, features: int, rows: Tensor | float, noise: Tensor | float = 0.0
) -> Tensor:
    """How many eigenvalues are more than the rounding of features that are float32 as a rule.

    Counted are the singular values `S_k = √ρ_k` with `S_k > S_1 · p · eps(float32)`, and the first
    if it is not zero. The usual bound has max(n, p) for p; but rounding of the features does not
    grow with their number of rows. Of ReLU networks on 20,000 images, singular values were right to
    1 % down to 1e-5 of the first, a hundredth of that bound.

    Args:
        eigenvalues: In decreasing order, `(..., ≥ 1)` float64; those past the rank may be negative.
        features: Number of features, p.
        rows: Number of rows they are averages over, which the rank cannot exceed, `(...,)`.
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
    """The first eigenpairs of a symmetric matrix, given those of a similar one.

    By locally optimal block iteration (Knyazev 2001, without preconditioner) from the known
    eigenvectors, until every residual `‖Av − ρv‖` is a hundredth of what it was: the eigenvectors'
    change is known to about a hundredth of itself then, and the eigenvalues' far better.

    Args:
        product: Gives `A X` for X `(p, m)`; A is positive semidefinite.
        count: How many pairs are wanted.
        near: Eigenpairs of a similar matrix to start from, more than are wanted: spare vectors keep
            the last wanted one from being the slowest to converge.

    Returns:
        `count` pairs, of arbitrary sign; None if they are not found in a few steps.
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
        # QR of all three blocks: its first columns span the basis itself, the rest is orthogonal to
        # it.
        added = torch.linalg.qr(torch.cat([basis, residual, directions], 1))[0][:, block:]
        added_image = product(added)
        trial, trial_image = torch.cat([basis, added], 1), torch.cat([image, added_image], 1)
        all_values, rotation = eigh(trial.T @ trial_image)
        values, rotation = all_values[-block:], rotation[:, -block:]
        directions = added @ rotation[block:]
        basis, image = trial @ rotation, trial_image @ rotation
    return None


def oriented(vectors: Tensor) -> Tensor:
    """Make the entry of largest magnitude positive, the first of them on a near tie."""
    magnitudes = vectors.abs()
    near_largest = magnitudes >= (1 - 1e-6) * magnitudes.amax(0, keepdim=True)
    pivots = near_largest.to(torch.uint8).argmax(0, keepdim=True)
    return vectors * vectors.gather(0, pivots).sign()
