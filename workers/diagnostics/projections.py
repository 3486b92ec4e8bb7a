"""Projections of the eigenfunctions on the target space and on the learned space."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import Eigenpairs
from workers.diagnostics.figures import (
    Values,
    counted_outputs,
    counted_targets,
    figure,
    filled,
    share,
    undefined,
)
from workers.diagnostics.orthonormal import orthonormal
from workers.diagnostics.target_space import TargetSpace, target_space


@dataclass(frozen=True, eq=False)
class Projections:
    """Quality and utilization of each eigenfunction, in order of decreasing eigenvalue.

    All vectors are float64 `(rank,)`. Fields that need targets are None without targets, and those
    that need outputs are None without outputs.

    Attributes:
        quality: `Q*_k = ‖P_{H*} e_k‖²`, in [0, 1].
        utilization: `Q̂_k = ‖P_Ĥ e_k‖²`, in [0, 1].
        cumulative_quality: `Π*(k) = (1/dim H*) Σ_{j≤k} Q*_j`.
        cumulative_utilization: `Π̂(k) = (1/dim Ĥ) Σ_{j≤k} Q̂_j`.
        quality_chance_level: Expected `Π*(k)` if the targets are shuffled over samples.
        dim_target: `dim H*`; for classification the number of classes present (one fewer if
            centred).
        dim_learned: `dim Ĥ`.
        quality_at_dim_target: `Π*(dim H*)`, the share of the target space in the first `dim H*`
            eigenfunctions, the fewest that could hold it.
        quality_at_dim_target_chance: The chance level of that figure.
    """

    quality: np.ndarray | None = None
    utilization: np.ndarray | None = None
    cumulative_quality: np.ndarray | None = None
    cumulative_utilization: np.ndarray | None = None
    quality_chance_level: np.ndarray | None = None
    dim_target: int | None = figure(counted_targets, rounding="outwards", default=None)
    dim_learned: int | None = figure(counted_outputs, rounding="outwards", default=None)
    quality_at_dim_target: float | None = figure(share, default=None)
    quality_at_dim_target_chance: float | None = None


def squared_projections(pairs: Eigenpairs, cross: Tensor) -> Tensor:
    """Compute `‖P_H e_k‖² = Σ_i ⟨e_k|b_i⟩²`, `(..., rank)` in [0, 1].

    Args:
        pairs: Eigenpairs of the features.
        cross: `⟨Φ_k|b_i⟩` of features and an orthonormal basis `b_i` of H, `(..., p, dim)`.
    """
    inner = (pairs.eigenvectors.mT @ cross) * pairs.inverse_roots[..., None]
    return inner.square().sum(-1).clamp(0.0, 1.0)


def project(averages: Averages, pairs: Eigenpairs, *, output_tolerance: float) -> Projections:
    """Compute quality and utilization on one set of samples; arguments as for `projected`."""
    return filled(Projections, projected(averages, pairs, output_tolerance=output_tolerance))


def projected(averages: Averages, pairs: Eigenpairs, *, output_tolerance: float) -> Values:
    """Compute quality and utilization of the eigenfunctions, and their cumulative sums.

    Args:
        averages: Inner products, centred or not; the eigenpairs must come from the same ones.
        pairs: Eigenpairs of `averages.phi_phi`, at least the leading ones.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.

    Returns:
        The fields of `Projections`; those that need outputs or targets only if there are any.
    """
    values = _on_outputs(averages, pairs, output_tolerance)
    if not averages.y.shape[-1]:
        return values
    target = target_space(averages)
    quality = squared_projections(pairs, target.cross)
    cumulative = _cumulative(quality, target.dimension)
    chance = _chance_level(averages, pairs, target)
    needed = torch.minimum(target.dimension, pairs.ranks)
    return {
        **values,
        "quality": quality,
        "cumulative_quality": cumulative,
        "quality_chance_level": chance,
        "dim_target": target.dimension,
        "quality_at_dim_target": _at(cumulative, needed),
        "quality_at_dim_target_chance": _at(chance, needed),
    }


def _on_outputs(averages: Averages, pairs: Eigenpairs, tolerance: float) -> dict[str, Tensor]:
    """Compute the fields that need no targets."""
    if not averages.f.shape[-1]:
        return {}
    learned = orthonormal(averages.f_f, tolerance=tolerance, noise=averages.f_noise)
    utilization = squared_projections(pairs, averages.phi_f @ learned.coefficients)
    return {
        "utilization": utilization,
        "cumulative_utilization": _cumulative(utilization, learned.dimension),
        "dim_learned": learned.dimension,
    }


def _cumulative(squared: Tensor, dimension: Tensor) -> Tensor:
    return (squared.cumsum(-1) / dimension.clamp(min=1)[..., None]).clamp(max=1.0)


def _at(cumulative: Tensor, count: Tensor) -> Tensor:
    """Return the cumulative share at each count, `(...,)`; NaN if the count is 0."""
    if not cumulative.shape[-1]:
        return torch.full_like(count, torch.nan)
    held = cumulative.gather(-1, (count - 1).clamp(min=0).long()[..., None])[..., 0]
    return undefined(held, count < 1)


def _chance_level(averages: Averages, pairs: Eigenpairs, target: TargetSpace) -> Tensor:
    """Compute the expected `Π*(k)` over all permutations of the targets among the samples.

    Averaged over permutations, P_{H*} becomes `t` on the constant function and
    `(dim H* − t)/(n − 1)` on its orthogonal complement, where `t = ‖P_{H*} 1‖²` (1 for class
    indicators, 0 once centred).

    Samples weighted by class are shuffled together with their weights. If the weights give all
    classes the same total, any e of variance 1 has, on average, `Σ_b ⟨e|b⟩² = (dim H* − t)/n_eff`
    over an orthonormal basis b of H* with its mean removed, and `‖e − ⟨1|e⟩‖² = 1 − 1/n_eff`: n_eff
    replaces n. This neglects that leading eigenfunctions lean towards heavy samples, which raises
    Π*(k) a little for small k.
    """
    constant = target.constant[..., None]
    along = (averages.phi[..., None, :] @ pairs.eigenvectors)[..., 0, :]
    in_constant = (along * pairs.inverse_roots).square().clamp(max=1.0)
    elsewhere = (target.dimension - target.constant) / (averages.effective_n - 1).clamp(min=1.0)
    shares = in_constant * constant + (1 - in_constant) * elsewhere[..., None]
    return _cumulative(shares, target.dimension)
