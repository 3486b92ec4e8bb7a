"""How minimal the features are: do the learned functions live in the leading eigenfunctions?"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import Eigenpairs
from workers.diagnostics.figures import (
    Values,
    at_most_one,
    counted_directions,
    figure,
    share,
    undefined,
)
from workers.diagnostics.orthonormal import Basis, orthonormal
from workers.diagnostics.output_space import OutputSpace
from workers.diagnostics.performance import Task
from workers.diagnostics.projections import squared_projections
from workers.diagnostics.ranks import NEARLY_ALL, reach

_MOST = 0.90  # the share that the k90 figure asks for
# Beyond r, the weights of eigenfunctions fall to 0 over r/2 more of them, or over this many if
# more.
_SHORTEST_TAPER = 2.0


@dataclass(frozen=True)
class Minimality:
    """Figures of the cleaned learned space, of dimension r, against the centred features.

    All but the rank are None if the outputs or the features do not vary over the samples.
    `k90_utilization` and `k95_utilization` are found only as far as the available eigenpairs reach.
    For intervals, the k figures are interpolated between eigenfunctions, in `(k − 1, k]`. A count
    jumps from one whole number to the next, so leaving out a fold mostly changes nothing; the
    interpolated figure moves with every sample.

    Attributes:
        rank: r, the dimension of the cleaned learned space.
        utilization: `U = (1/r) Σ_{j≤r} Q̂_j`, in [0, 1].
        utilization_corrected: `U' = (U − r/m)/(1 − r/m)`, at most 1; `r/m` is the chance level for
            features that have m independent directions. None if m ≤ r.
        utilization_tapered: `Ũ' = (Ũ − c)/(1 − c)`, at most 1, with `Ũ = (1/r) Σ_j w_j Q̂_j` and
            `c = Σ_j w_j/m`, where `w_j` is 1 up to r and falls to 0 over r/2 more eigenfunctions.
            U' jumps if eigenvalues nearly coincide around the r-th; Ũ' does not. None if m ≤ Σ w_j.
        energy: `E = Σ_{j≤r} ρ_j / Σρ`, in [0, 1].
        distance: `D = 1 − CKA(T, P_Ĥ) = 1 − shape · alignment`, in [0, 1].
        alignment: `Σ ρ_j Q̂_j / Σ_{j≤r} ρ_j`, in [0, 1].
        shape: `Σ_{j≤r} ρ_j / (‖ρ‖_2 √r)`, in [0, 1].
        k90_utilization, k95_utilization: Number of eigenfunctions that hold 90 % and 95 % of the
            cleaned learned space. None if the available eigenfunctions hold less.
        k95_energy: Number of eigenfunctions that hold 95 % of the centred feature variance; None
            likewise.
    """

    rank: int = figure(counted_directions, rounding="outwards")
    utilization: float | None = figure(share, default=None)
    utilization_corrected: float | None = figure(at_most_one, default=None)
    utilization_tapered: float | None = figure(at_most_one, default=None)
    energy: float | None = figure(share, default=None)
    distance: float | None = figure(share, default=None)
    alignment: float | None = figure(share, default=None)
    shape: float | None = figure(share, default=None)
    k90_utilization: int | None = figure(counted_directions, rounding="upwards", default=None)
    k95_utilization: int | None = figure(counted_directions, rounding="upwards", default=None)
    k95_energy: int | None = figure(
        counted_directions, rounding="upwards", of_tail=True, default=None
    )


def without_mean_output(centered: Averages, task: Task, space: OutputSpace) -> Averages:
    """Clean the outputs: for a classifier, subtract each sample's mean over classes.

    Softmax ignores that mean, so in a trained network it is left over from initialisation; yet P_Ĥ
    would give it full weight. Outputs of other tasks, and a single logit, are kept as they are.

    Args:
        centered: Centred inner products.
        task: What the outputs predict.
        space: Output space in whose coordinates the inner products are.
    """
    if task != "classification" or space.outputs == 1:
        return centered
    f_f = space.without_mean(space.without_mean(centered.f_f).mT)
    return replace(centered, f_f=f_f, phi_f=space.without_mean(centered.phi_f))


def learned_basis(cleaned: Averages, *, tolerance: float) -> Basis:
    """Compute an orthonormal basis of the cleaned learned space, in terms of the cleaned outputs.

    Args:
        cleaned: Centred inner products with cleaned outputs.
        tolerance: r counts singular values of the cleaned outputs above this share of the first.
    """
    return orthonormal(cleaned.f_f, tolerance=tolerance, noise=cleaned.f_noise)


def minimality(
    cleaned: Averages,
    pairs: Eigenpairs,
    basis: Basis,
    *,
    directions: Tensor,
    k95_energy: Tensor,
) -> Values:
    """Compute the figures of the cleaned learned space.

    Args:
        cleaned: Centred inner products with cleaned outputs.
        pairs: Leading eigenpairs of `cleaned.phi_phi`: at least `needed_for(r)`, if there are that
            many.
        basis: Orthonormal basis of the cleaned learned space.
        directions: Number m of independent directions that the features could use, `(...,)`.
        k95_energy: The figure of that name, found with the spectrum, `(...,)`.

    Returns:
        The fields of `Minimality`.
    """
    r = basis.dimension
    if not pairs.eigenvalues.shape[-1]:
        return {"rank": r}
    place = torch.arange(1, pairs.eigenvalues.shape[-1] + 1, device=r.device)
    first = (place <= r[..., None]).to(pairs.eigenvalues.dtype)
    functions = cleaned.phi_f @ basis.coefficients
    squared = squared_projections(pairs, functions)
    largest = pairs.eigenvalues[..., 0]  # ratios to it neither over- nor underflow when squared
    spectrum = pairs.eigenvalues / largest[..., None]
    variance = cleaned.phi_size.trace / largest
    leading = (spectrum * first).sum(-1)
    # Σ ρ_j Q̂_j over all j, tail included, is the features' variance within the learned space.
    learned = (functions / largest.sqrt()[..., None, None]).square().sum((-2, -1))
    shape = (leading / (cleaned.phi_size.relative_norm * variance * r.sqrt())).clamp(0.0, 1.0)
    alignment = (learned / leading).clamp(0.0, 1.0)
    utilization = ((squared * first).sum(-1) / r).clamp(0.0, 1.0)
    held = squared.cumsum(-1) / r[..., None]
    found = {
        "utilization": utilization,
        "utilization_corrected": _corrected(utilization, r / directions),
        "utilization_tapered": _tapered(squared, r, directions),
        "energy": (leading / variance).clamp(0.0, 1.0),
        "distance": 1.0 - shape * alignment,
        "alignment": alignment,
        "shape": shape,
        "k90_utilization": reach(held, _MOST),
        "k95_utilization": reach(held, NEARLY_ALL),
        "k95_energy": k95_energy,
    }
    nothing = (r == 0) | (pairs.ranks == 0)
    return {"rank": r, **{name: undefined(values, nothing) for name, values in found.items()}}


def needed_for(r: int) -> int:
    """Return how many eigenfunctions the figures other than the k ones need at dimension r."""
    return r + math.ceil(max(r / 2, _SHORTEST_TAPER)) - 1


def chance_corrected(share: float, chance: float) -> float | None:
    """Return `(share − chance)/(1 − chance)`: 0 at chance, 1 at best; None if chance is 1."""
    return None if chance >= 1 else (share - chance) / (1 - chance)


def _corrected(shares: Tensor, chance: Tensor) -> Tensor:
    return undefined((shares - chance) / (1 - chance), chance >= 1)


def _tapered(squared: Tensor, r: Tensor, directions: Tensor) -> Tensor:
    taper = (r / 2).clamp(min=_SHORTEST_TAPER)
    beyond = torch.arange(1, squared.shape[-1] + 1, device=r.device) - r[..., None]
    weights = (1 - beyond.clamp(min=0) / taper[..., None]).clamp(min=0)
    # Chance counts the weights of all directions, 1 − j/taper for whole j, even of those that the
    # samples do not show.
    steps = taper.ceil() - 1
    every = r + steps - steps * (steps + 1) / (2 * taper)
    return _corrected(((weights * squared).sum(-1) / r).clamp(0.0, 1.0), every / directions)
