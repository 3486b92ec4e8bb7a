"""Projections of targets and outputs on one probe onto the eigenfunctions of another.

On a second probe the eigenfunctions `e_k(x) = v_kᵀΦ(x)/√ρ_k` are neither normalised nor orthogonal.
For the figures of a single eigenfunction, it is renormalised there. Cumulative figures are those of
the span of the first k, by Gram–Schmidt in order: a plain sum would count twice what two of them
share. Where they are orthogonal, as on the first probe, the figure equals the plain sum.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.figures import counted_outputs, counted_targets, figure, share
from workers.diagnostics.orthonormal import orthonormal
from workers.diagnostics.target_space import TargetSpace, target_space

# Added to the squared norm, 1, of each renormalised eigenfunction. Of each, only the remainder
# orthogonal to those before it counts, and it fades out as its squared norm falls below this. A
# linearly dependent eigenfunction leaves only rounding, about 1e-14; there are such eigenfunctions
# whenever there are more of them than samples.
_RIDGE = 1e-10
_MORE_RIDGE = 100.0


@dataclass(frozen=True, eq=False)
class HeldOutProjections:
    """Projections on the second probe, with the eigenfunctions in their order on the first one.

    All vectors are float64 `(rank,)`. Figures that need targets are None without targets, and
    figures that need outputs are None without outputs.

    Attributes:
        eigenvalues: `v_kᵀ M v_k`, M the features' inner products there: the energy of each
            eigenfunction, in units of the features squared. They need not decrease.
        energy_outside: Share of the features' energy outside the span of all v_k, in [0, 1]; None
            if the features are zero there, or constant where they are centred.
        utilization: `Q̂_k = ‖P_Ĥ e_k‖² / ‖e_k‖²`, in [0, 1]; 0 if e_k vanishes there.
        cumulative_utilization: `Π̂(k) = (1/dim Ĥ) tr(P_Ĥ P_k)`, P_k on the span of the first k.
        dim_learned: `dim Ĥ` there.
        quality: `Q*_k = ‖P_{H*} e_k‖² / ‖e_k‖²`, in [0, 1]; 0 if e_k vanishes there.
        cumulative_quality: `Π*(k) = (1/dim H*) tr(P_{H*} P_k)`.
        quality_chance_level: Mean of `Π*(k)` over all permutations of the targets among samples.
        dim_target: `dim H*` there.
        quality_at_dim_target: `Π*(dim H*)`.
        quality_at_dim_target_chance: The chance level of that figure.
    """

    eigenvalues: np.ndarray
    energy_outside: float | None = figure(share)
    utilization: np.ndarray | None = None
    cumulative_utilization: np.ndarray | None = None
    dim_learned: int | None = figure(counted_outputs, rounding="outwards", default=None)
    quality: np.ndarray | None = None
    cumulative_quality: np.ndarray | None = None
    quality_chance_level: np.ndarray | None = None
    dim_target: int | None = figure(counted_targets, rounding="outwards", default=None)
    quality_at_dim_target: float | None = figure(share, default=None)
    quality_at_dim_target_chance: float | None = None


class HeldOutFunctions:
    """Eigenfunctions on the second probe, renormalised there; one that vanishes there stays 0.

    Args:
        averages: Inner products of the coordinates `z_k(x) = v_kᵀΦ(x)`.
        noise: Energy at or below this is rounding.

    Attributes:
        energy: `⟨z_k|z_k⟩`, `(rank,)`.
        norms: 1 for each eigenfunction, 0 for one that vanishes, `(rank,)`.
    """

    def __init__(self, averages: Averages, noise: float) -> None:
        self.energy = averages.phi_phi.diagonal().clamp(min=0.0)
        self.norms = (self.energy > noise).double()
        self._scale = torch.where(self.energy > noise, self.energy.rsqrt(), 0.0)
        gram = averages.phi_phi * torch.outer(self._scale, self._scale)
        self._factor, self._ridge = _factorized(gram)

    def inner(self, cross: Tensor) -> Tensor:
        """Return `⟨e_k|u⟩` with e_k renormalised, given `⟨z_k|u⟩`; both are `(rank, m)`."""
        return cross * self._scale[:, None]

    def in_order(self, inner: Tensor) -> Tensor:
        """Return the inner products after Gram–Schmidt in order, given those of `inner`."""
        left: Tensor = torch.linalg.solve_triangular(self._factor, inner, upper=False)
        return left

    def norms_in_order(self) -> Tensor:
        """Return squared norms after Gram–Schmidt: 1, or 0 for linearly dependent functions."""
        inverse = self.in_order(
            torch.eye(len(self.norms), dtype=torch.float64, device=self.norms.device)
        )
        added = (
            1.0 + self._ridge - self.norms
        )  # by this much the diagonal of the factorized matrix exceeds the true squared norms
        return (1.0 - inverse.square() @ added).clamp(0.0, 1.0)


def _factorized(gram: Tensor) -> tuple[Tensor, float]:
    """Return the Cholesky factor of a Gram matrix, and the ridge added to its unit diagonal.

    Functions that hardly vary on the second probe have inner products of few digits, and rounding
    may make the matrix indefinite. The ridge is raised until the factorization succeeds.
    """
    ridge = _RIDGE
    while True:
        gram.diagonal().fill_(1.0 + ridge)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if not int(failed):
            return factor, ridge
        ridge *= _MORE_RIDGE


def project_held_out(
    averages: Averages, *, energy: float, noise: float, output_tolerance: float
) -> HeldOutProjections:
    """Project the eigenfunctions on targets and outputs.

    Args:
        averages: Inner products of coordinates `z_k(x) = v_kᵀΦ(x)`, outputs and targets, centred or
            not.
        energy: Mean `‖Φ‖²`, or the variance of Φ if centred.
        noise: Energy at or below this is rounding.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.
    """
    functions = HeldOutFunctions(averages, noise)
    projections = HeldOutProjections(
        eigenvalues=functions.energy.cpu().numpy(),
        energy_outside=energy_outside(float(functions.energy.sum()), energy, noise),
    )
    if averages.f.shape[0]:
        learned = orthonormal(
            averages.f_f, tolerance=output_tolerance, noise=averages.f_noise
        ).coefficients
        utilization = functions.inner(averages.phi_f @ learned)
        projections = replace(
            projections,
            utilization=_squares(utilization).cpu().numpy(),
            cumulative_utilization=_cumulative(
                _squares(functions.in_order(utilization)), learned.shape[1]
            ),
            dim_learned=learned.shape[1],
        )
    if not averages.y.shape[0]:
        return projections
    target = target_space(averages)
    dimension = int(target.dimension)
    quality = functions.inner(target.cross)
    cumulative = _cumulative(_squares(functions.in_order(quality)), dimension)
    chance = _chance_level(averages, functions, target)
    needed = min(dimension, len(cumulative))
    return replace(
        projections,
        quality=_squares(quality).cpu().numpy(),
        cumulative_quality=cumulative,
        quality_chance_level=chance,
        dim_target=dimension,
        quality_at_dim_target=float(cumulative[needed - 1]) if needed else None,
        quality_at_dim_target_chance=float(chance[needed - 1]) if needed else None,
    )


def _squares(inner: Tensor) -> Tensor:
    return inner.square().sum(1).clamp(max=1.0)


def _cumulative(squares: Tensor, dimension: int) -> np.ndarray:
    shares: np.ndarray = (squares.cumsum(0) / max(dimension, 1)).clamp(max=1.0).cpu().numpy()
    return shares


def _chance_level(
    averages: Averages, functions: HeldOutFunctions, target: TargetSpace
) -> np.ndarray:
    """Return the expected `Π*(k)` over all permutations of the targets, as on the first probe.

    After Gram–Schmidt, the k-th eigenfunction has a share `a_k` of the constant function, and
    `‖·‖² − a_k` of the functions orthogonal to it.
    """
    constant = float(target.constant)
    in_constant = _squares(functions.in_order(functions.inner(averages.phi[:, None])))
    elsewhere = (functions.norms_in_order() - in_constant).clamp(min=0.0)
    each = (float(target.dimension) - constant) / max(float(averages.effective_n) - 1, 1.0)
    return _cumulative(in_constant * constant + elsewhere * each, int(target.dimension))


def energy_outside(inside: float, energy: float, noise: float) -> float | None:
    """Return the share of the energy outside a span; None if the energy is only noise."""
    return min(max(1.0 - inside / energy, 0.0), 1.0) if energy > noise else None
