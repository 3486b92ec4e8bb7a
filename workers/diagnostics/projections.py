"""How the eigenfunctions lie to the target functions and to the learned ones."""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import Eigenpairs
from workers.diagnostics.orthonormal import orthonormal_coefficients
from workers.diagnostics.target_space import TargetSpace, target_space


@dataclass(frozen=True, eq=False)
class Projections:
    """Quality and utilization of each eigenfunction, in order of decreasing eigenvalue.

    All vectors are float64 `(rank,)`. What needs targets is None where there are none; what needs
    outputs likewise.

    Attributes:
        quality: `Q*_k = ‖P_{H*} e_k‖²`, in [0, 1].
        utilization: `Q̂_k = ‖P_Ĥ e_k‖²`, in [0, 1].
        cumulative_quality: `Π*(k) = (1/dim H*) Σ_{j≤k} Q*_j`.
        cumulative_utilization: `Π̂(k) = (1/dim Ĥ) Σ_{j≤k} Q̂_j`.
        quality_chance_level: What `Π*(k)` is on average once the targets are shuffled over samples.
        dim_target: `dim H*`; for classification the number of classes present (one less if
            centred).
        dim_learned: `dim Ĥ`.
        quality_at_dim_target: `Π*(dim H*)`, the share of the target in as many eigenfunctions as it
            needs at least.
        quality_at_dim_target_chance: The chance level of that figure.
    """

    quality: np.ndarray | None = None
    utilization: np.ndarray | None = None
    cumulative_quality: np.ndarray | None = None
    cumulative_utilization: np.ndarray | None = None
    quality_chance_level: np.ndarray | None = None
    dim_target: int | None = None
    dim_learned: int | None = None
    quality_at_dim_target: float | None = None
    quality_at_dim_target_chance: float | None = None


def squared_projections(pairs: Eigenpairs, cross: Tensor) -> Tensor:
    """`‖P_H e_k‖² = Σ_i ⟨e_k|b_i⟩²` for an orthonormal basis `b_i` of H, `(rank,)` in [0, 1].

    Args:
        pairs: Eigenpairs of the features.
        cross: `⟨Φ_k|b_i⟩` of features and the basis, `(p, dim)`.
    """
    inner = (pairs.eigenvectors.T @ cross) / pairs.eigenvalues.sqrt()[:, None]
    return inner.square().sum(1).clamp(0.0, 1.0)


def project(averages: Averages, pairs: Eigenpairs, *, output_tolerance: float) -> Projections:
    """Quality and utilization of the eigenfunctions, and their cumulative sums.

    Args:
        averages: Inner products, centred or not; the eigenpairs must be of the same.
        pairs: Eigenpairs of `averages.phi_phi`.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.
    """
    projections = _on_outputs(averages, pairs, output_tolerance)
    if not averages.y.shape[0]:
        return projections
    target = target_space(averages)
    quality = squared_projections(pairs, target.cross)
    cumulative = _cumulative(quality, target.dimension)
    chance = _chance_level(averages, pairs, target)
    needed = min(target.dimension, pairs.rank)
    return replace(
        projections,
        quality=quality.numpy(),
        cumulative_quality=cumulative,
        quality_chance_level=chance,
        dim_target=target.dimension,
        quality_at_dim_target=float(cumulative[needed - 1]) if needed else None,
        quality_at_dim_target_chance=float(chance[needed - 1]) if needed else None,
    )


def _on_outputs(averages: Averages, pairs: Eigenpairs, tolerance: float) -> Projections:
    """What needs no targets."""
    if not averages.f.shape[0]:
        return Projections()
    learned = orthonormal_coefficients(averages.f_f, tolerance=tolerance, noise=averages.f_noise)
    utilization = squared_projections(pairs, averages.phi_f @ learned)
    return Projections(
        utilization=utilization.numpy(),
        cumulative_utilization=_cumulative(utilization, learned.shape[1]),
        dim_learned=learned.shape[1],
    )


def _cumulative(squared: Tensor, dimension: int) -> np.ndarray:
    share: np.ndarray = (squared.cumsum(0) / max(dimension, 1)).clamp(max=1.0).numpy()
    return share


def _chance_level(averages: Averages, pairs: Eigenpairs, target: TargetSpace) -> np.ndarray:
    """Expected `Π*(k)` over all permutations of the targets among the samples.

    Averaged over permutations, P_{H*} becomes `t` on the constant and `(dim H* − t)/(n − 1)` on all
    that is orthogonal to it, where `t = ‖P_{H*} 1‖²` (1 for class indicators, 0 once centred).

    Samples that weigh by their class are shuffled with their weights. Where these make all classes
    alike heavy, b of H* without mean and any e of variance 1 have `Σ_b ⟨e|b⟩² = (dim H* − t)/n_eff`
    and `‖e − ⟨1|e⟩‖² = 1 − 1/n_eff` on average: n_eff takes the place of n. That leaves out that
    leading eigenfunctions lean to heavy samples, which lifts Π*(k) a little for small k.
    """
    constant = target.constant
    in_constant = ((averages.phi @ pairs.eigenvectors).square() / pairs.eigenvalues).clamp(max=1.0)
    elsewhere = (target.dimension - constant) / max(averages.effective_n - 1, 1.0)
    return _cumulative(in_constant * constant + (1 - in_constant) * elsewhere, target.dimension)
