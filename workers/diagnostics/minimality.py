"""How minimal the features are: do the learned functions live in the leading eigenfunctions?"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import Eigenpairs
from workers.diagnostics.orthonormal import orthonormal_coefficients
from workers.diagnostics.output_space import OutputSpace
from workers.diagnostics.performance import Task
from workers.diagnostics.projections import squared_projections

_MOST, _NEARLY_ALL = 0.90, 0.95  # the shares that the k90 and k95 figures ask for
# A cumulative sum that is one share short of a bound by rounding alone has reached it.
_ROUNDING = 1e-9
# Beyond r, eigenfunctions count less and less over r/2 more of them, and at least over this many.
_SHORTEST_TAPER = 2.0


@dataclass(frozen=True)
class Minimality:
    """Figures of the cleaned learned space, of dimension r, against the centred features.

    All are None, except the rank, where the outputs or the features do not vary over the samples.

    Attributes:
        rank: r, the dimension of the cleaned learned space.
        utilization: `U = (1/r) Σ_{j≤r} Q̂_j`, in [0, 1].
        utilization_corrected: `U' = (U − r/m)/(1 − r/m)`, at most 1; `r/m` is what features of m
            independent directions have by chance. None if m ≤ r.
        utilization_tapered: `Ũ' = (Ũ − c)/(1 − c)`, at most 1, with `Ũ = (1/r) Σ_j w_j Q̂_j` and
            `c = Σ_j w_j/m`, where `w_j` is 1 up to r and falls to 0 over r/2 more eigenfunctions.
            U' jumps where eigenvalues nearly coincide about r; this does not. None if m ≤ Σ w_j.
        energy: `E = Σ_{j≤r} ρ_j / Σρ`, in [0, 1].
        distance: `D = 1 − CKA(T, P_Ĥ) = 1 − shape · alignment`, in [0, 1].
        alignment: `Σ ρ_j Q̂_j / Σ_{j≤r} ρ_j`, in [0, 1].
        shape: `Σ_{j≤r} ρ_j / (‖ρ‖_2 √r)`, in [0, 1].
        k90_utilization, k95_utilization: Eigenfunctions that hold 90 % and 95 % of the cleaned
            learned space. None if the eigenfunctions at hand hold less.
        k95_energy: Eigenfunctions that hold 95 % of the centred feature variance; None likewise.
    """

    rank: int
    utilization: float | None = None
    utilization_corrected: float | None = None
    utilization_tapered: float | None = None
    energy: float | None = None
    distance: float | None = None
    alignment: float | None = None
    shape: float | None = None
    k90_utilization: int | None = None
    k95_utilization: int | None = None
    k95_energy: int | None = None


@dataclass(frozen=True)
class Reaches:
    """Where cumulative shares reach their bounds, interpolated between eigenfunctions.

    The k figures are these, rounded up. Counts jump from one whole number to the next, so that
    leaving out a fold mostly changes nothing; these move with every sample.

    Attributes:
        k90_utilization, k95_utilization, k95_energy: As in `Minimality`, in `(k − 1, k]`.
    """

    k90_utilization: float | None = None
    k95_utilization: float | None = None
    k95_energy: float | None = None


def without_mean_output(centered: Averages, task: Task, space: OutputSpace) -> Averages:
    """The cleaned outputs: of a classifier, without each sample's mean over classes.

    Softmax ignores that mean, so in a trained network it is left-over initialisation; yet P_Ĥ would
    give it full weight. Regression outputs, and a single logit, are kept as they are.

    Args:
        centered: Centred inner products.
        task: What the outputs are.
        space: Whose coordinates the inner products are of.
    """
    if task != "classification" or space.outputs == 1:
        return centered
    f_f = space.without_mean(space.without_mean(centered.f_f).T)
    return replace(centered, f_f=f_f, phi_f=space.without_mean(centered.phi_f))


def learned_basis(cleaned: Averages, *, tolerance: float) -> Tensor:
    """An orthonormal basis of the cleaned learned space in terms of the cleaned outputs, `(c, r)`.

    Args:
        cleaned: Centred inner products with cleaned outputs.
        tolerance: r counts singular values of the cleaned outputs above this share of the first.
    """
    return orthonormal_coefficients(cleaned.f_f, tolerance=tolerance, noise=cleaned.f_noise)


def minimality(
    cleaned: Averages, pairs: Eigenpairs, basis: Tensor, reached: Reaches, *, directions: int
) -> Minimality:
    """The figures of the cleaned learned space.

    Args:
        cleaned: Centred inner products with cleaned outputs.
        pairs: Leading eigenpairs of `cleaned.phi_phi`, at least `needed_for(r)` where there are so
            many. The k figures are found only as far as these reach.
        basis: Basis of the cleaned learned space, `(c, r)`.
        reached: What the k figures are before they are rounded up: `reaches` of the same.
        directions: m, the independent directions the features could use.
    """
    r = basis.shape[1]
    if not r or not pairs.rank:
        return Minimality(rank=r)
    squared = squared_projections(pairs, cleaned.phi_f @ basis)
    largest = pairs.eigenvalues[0]  # ratios to it neither over- nor underflow when squared
    spectrum = pairs.eigenvalues / largest
    variance = cleaned.phi_phi.trace() / largest
    leading = spectrum[:r].sum()
    # Σ ρ_j Q̂_j over all j, tail included, is the variance of the features within the learned
    # space.
    learned = (cleaned.phi_f @ basis / largest.sqrt()).square().sum()
    norm = (cleaned.phi_phi / largest).norm()
    shape = _unit(leading / (norm * r**0.5))
    alignment = _unit(learned / leading)
    utilization = _unit(squared[:r].sum() / r)
    return Minimality(
        rank=r,
        utilization=utilization,
        utilization_corrected=chance_corrected(utilization, r / directions),
        utilization_tapered=_tapered(squared, r, directions),
        energy=_unit(leading / variance),
        distance=1.0 - shape * alignment,
        alignment=alignment,
        shape=shape,
        k90_utilization=_rounded_up(reached.k90_utilization),
        k95_utilization=_rounded_up(reached.k95_utilization),
        k95_energy=_rounded_up(reached.k95_energy),
    )


def reaches(cleaned: Averages, pairs: Eigenpairs, basis: Tensor) -> Reaches:
    """Where the k figures come from.

    Args:
        cleaned: Centred inner products with cleaned outputs.
        pairs: Leading eigenpairs of `cleaned.phi_phi`.
        basis: Basis of the cleaned learned space, `(c, r)`.
    """
    r = basis.shape[1]
    if not r or not pairs.rank:
        return Reaches()
    held = squared_projections(pairs, cleaned.phi_f @ basis).cumsum(0) / r
    largest = pairs.eigenvalues[0]
    energy = (pairs.eigenvalues / largest).cumsum(0) / (cleaned.phi_phi.trace() / largest)
    return Reaches(
        k90_utilization=_reach(held, _MOST),
        k95_utilization=_reach(held, _NEARLY_ALL),
        k95_energy=_reach(energy, _NEARLY_ALL),
    )


def needed_for(r: int) -> int:
    """Eigenfunctions that the figures but k need, for a learned space of dimension r."""
    return r + math.ceil(_taper(r)) - 1


def _taper(r: int) -> float:
    return max(r / 2, _SHORTEST_TAPER)


def _tapered(squared: Tensor, r: int, directions: int) -> float | None:
    beyond = torch.arange(1, len(squared) + 1, dtype=torch.float64) - r
    weights = (1 - beyond.clamp(min=0) / _taper(r)).clamp(min=0)
    # Directions that the samples do not show would have weights, too.
    every = r + sum(1 - step / _taper(r) for step in range(1, math.ceil(_taper(r))))
    return chance_corrected(_unit((weights * squared).sum() / r), every / directions)


def chance_corrected(share: float, chance: float) -> float | None:
    """`(share − chance)/(1 − chance)`: 0 at chance, 1 at best; None where chance is certainty."""
    return None if chance >= 1 else (share - chance) / (1 - chance)


def _unit(value: Tensor) -> float:
    return float(value.clamp(0.0, 1.0))


def _reach(cumulative: Tensor, share: float) -> float | None:
    """In `(k − 1, k]`, k the smallest with `cumulative[k − 1] ≥ share`; None if there is none."""
    reached = torch.nonzero(cumulative >= share - _ROUNDING)
    if not reached.shape[0]:
        return None
    k = int(reached[0]) + 1
    before = float(cumulative[k - 2]) if k > 1 else 0.0
    return k - 1 + min((share - before) / (float(cumulative[k - 1]) - before), 1.0)


def _rounded_up(reach: float | None) -> int | None:
    return None if reach is None else math.ceil(reach)
