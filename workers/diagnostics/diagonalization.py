"""Eigenfunctions of the operator T = Σ_k |Φ_k⟩⟨Φ_k|, from the Gram matrix of the features."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.linear_algebra import eigh, eigvalsh

_FLOAT32_EPS = float(np.finfo(np.float32).eps)
_FLOAT64_EPS = float(np.finfo(np.float64).eps)

# Below this size a dense solver takes milliseconds, and so does the iteration's overhead.
_SMALL = 256
# Blocks wider than this share of the matrix make the iteration dearer than the dense solver.
_WIDEST_BLOCK = 1 / 32
# Residual relative to the first eigenvalue. Errors of eigenvalues are its square over the gap, so
# this leaves every figure of the verdict far better known than its sampling error.
_RESIDUAL = 1e-8
_MAX_ITERATIONS = 80


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues ρ_k in decreasing order, and the coefficients v_k of their eigenfunctions.

    `T e_k = ρ_k e_k` with `e_k(x) = v_kᵀ Φ(x) / √ρ_k`, for any x (Nam et al. 2024, §2).

    Attributes:
        eigenvalues: `(rank,)` float64, positive, decreasing; in units of the features squared.
        eigenvectors: `(p, rank)` float64, orthonormal columns. The entry of largest magnitude of
            each is positive, which makes the sign, otherwise arbitrary, the same on every machine.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor

    @property
    def rank(self) -> int:
        """Number of pairs held."""
        return self.eigenvalues.shape[0]

    def leading(self, count: int) -> Self:
        """The first `count` pairs."""
        return type(self)(self.eigenvalues[:count], self.eigenvectors[:, :count])


def diagonalize(
    gram: Tensor, *, rows: int, noise: float = 0.0, features: int | None = None
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
    ascending, vectors = eigh(gram)
    eigenvalues = ascending.flip(0)
    rank = numerical_rank(
        eigenvalues,
        features=gram.shape[0] if features is None else features,
        rows=rows,
        noise=noise,
    )
    return Eigenpairs(eigenvalues[:rank], oriented(vectors.flip(1)[:, :rank]))


def numerical_rank(eigenvalues: Tensor, *, features: int, rows: int, noise: float = 0.0) -> int:
    """How many eigenvalues are more than the rounding of features that are float32 as a rule.

    Counted are the singular values `S_k = √ρ_k` with `S_k > S_1 · p · eps(float32)`, and the first
    if it is not zero. The usual bound has max(n, p) for p; but rounding of the features does not
    grow with their number of rows. Of ReLU networks on 20,000 images, singular values were right to
    1 % down to 1e-5 of the first, a hundredth of that bound.

    Args:
        eigenvalues: In decreasing order, `(≥ 1,)` float64; those past the rank may be negative.
        features: Number of features, p.
        rows: Number of rows they are averages over, which the rank cannot exceed.
        noise: Eigenvalues at or below this are rounding too (see `Averages`).
    """
    largest = float(eigenvalues[0])
    cut = (features * _FLOAT32_EPS) ** 2 * largest
    kept = (eigenvalues > max(cut, noise)) | ((eigenvalues == largest) & (largest > noise))
    return min(int(kept.sum()), rows)


def leading_eigenpairs(gram: Tensor, count: int, *, near: Eigenpairs) -> Eigenpairs:
    """At least the first `count` eigenpairs of a matrix, given those of a similar one.

    A large matrix is solved by locally optimal block iteration (Knyazev 2001, without
    preconditioner) from the known eigenvectors, until every residual `‖Av − ρv‖` is below 1e-8 ρ_1.
    Where that does not pay or does not converge, the dense solver finds all pairs that are not
    rounding. Signs are arbitrary.

    Args:
        gram: Symmetric positive semidefinite `(p, p)`, float64.
        count: How many pairs are wanted, at most `p`.
        near: Eigenpairs of a similar matrix to start from.
    """
    p = gram.shape[0]
    # Spare vectors keep the last wanted one from being the slowest to converge.
    block = count + max(4, count // 4)
    if p > _SMALL and block <= _WIDEST_BLOCK * p and block <= near.rank:
        found = _iterate(gram, count, near.eigenvectors[:, :block])
        if found is not None:
            return found
    ascending, vectors = eigh(gram)
    signal = int((ascending > p * _FLOAT64_EPS * ascending[-1]).sum())
    return Eigenpairs(ascending.flip(0), vectors.flip(1)).leading(signal)


def leading_eigenvalues(gram: Tensor, count: int) -> Tensor:
    """The first eigenvalues as far as they are positive, in decreasing order, `(≤ count,)`.

    They cost a fraction of what eigenpairs do, and less will not do for intervals: to first order
    eigenvalues move by `vᵀ A v`, but their bias is of second order.

    Args:
        gram: Symmetric `(p, p)`, float64.
        count: How many are wanted, at most `p`.
    """
    eigenvalues: Tensor = eigvalsh(gram).flip(0)[:count]
    return eigenvalues[eigenvalues > 0]


def _iterate(gram: Tensor, count: int, start: Tensor) -> Eigenpairs | None:
    block = start.shape[1]
    values, rotation = eigh(start.T @ gram @ start)
    basis = start @ rotation
    image = gram @ basis
    directions = basis[:, :0]
    for _ in range(_MAX_ITERATIONS):
        residual = image - basis * values
        worst = residual.norm(dim=0)[-count:].max()
        if worst <= _RESIDUAL * values[-1]:
            return Eigenpairs(values.flip(0), basis.flip(1)).leading(count)
        # QR of all three blocks: its first columns span the basis itself, the rest is orthogonal to
        # it.
        added = torch.linalg.qr(torch.cat([basis, residual, directions], 1))[0][:, block:]
        added_image = gram @ added
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
