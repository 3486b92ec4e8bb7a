"""Effective ranks: how many directions a spectrum fills, by several definitions."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from workers.diagnostics.figures import Values, effective, figure, undefined

RANKME_OFFSET = 1e-7  # part of the definition (Garrido et al. 2023, eq. 1)
NEARLY_ALL = 0.95  # the share that the k95 figures ask for
# A cumulative sum that misses a bound by rounding alone counts as reaching it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class EffectiveRank:
    """Effective ranks of a spectrum; each lies between 1 and the number of eigenvalues.

    Attributes:
        participation_ratio: `(Σρ)² / Σρ²`.
        entropy: `exp(−Σ p ln p)` with `p = ρ/Σρ` (Roy & Vetterli 2007).
        rankme: The same on singular values, `p = S/ΣS + 1e-7` (Garrido et al. 2023).
        stable: `Σρ / ρ_1`.
    """

    participation_ratio: float = figure(effective)
    entropy: float = figure(effective, of_tail=True)
    rankme: float = figure(effective, of_tail=True)
    stable: float = figure(effective)


def effective_ranks(eigenvalues: Tensor) -> Values:
    """Compute the effective ranks of spectra.

    Args:
        eigenvalues: Decreasing, `(..., rank)`; those that are not positive are ignored.

    Returns:
        The fields of `EffectiveRank`; NaN if no eigenvalue is positive.

    Example:
        >>> float(effective_ranks(torch.tensor([2.0, 2.0, 2.0]))["stable"])
        3.0
    """
    if not eigenvalues.shape[-1]:
        nothing = eigenvalues.new_full(eigenvalues.shape[:-1], torch.nan)
        return dict.fromkeys(("participation_ratio", "entropy", "rankme", "stable"), nothing)
    # Only ratios are used, so the scale of the features cannot cause over- or underflow.
    relative = (eigenvalues / eigenvalues[..., :1]).clamp(min=0.0)
    total = relative.sum(-1)
    empty = ~(eigenvalues[..., 0] > 0)
    found = {
        "participation_ratio": total.square() / relative.square().sum(-1),
        "entropy": entropy(relative / total[..., None]).exp(),
        "rankme": entropy(singular_shares(relative)).exp(),
        "stable": total,
    }
    return {name: undefined(values, empty) for name, values in found.items()}


def entropy(shares: Tensor) -> Tensor:
    """Return `−Σ p ln p` of shares `(..., m)`, where `0 ln 0 = 0`."""
    return -torch.xlogy(shares, shares).sum(-1)


def singular_shares(eigenvalues: Tensor) -> Tensor:
    """Return `S/ΣS + 1e-7`, the shares whose entropy RankMe uses; 0 for zero eigenvalues."""
    singular = eigenvalues.sqrt()
    shares = singular / singular.sum(-1, keepdim=True) + RANKME_OFFSET
    return torch.where(eigenvalues > 0, shares, 0.0)


def reach(cumulative: Tensor, bound: float) -> Tensor:
    """Return where cumulative shares `(..., m)` reach a bound, interpolated in `(k − 1, k]`.

    k is the smallest number with `cumulative[k − 1] ≥ bound`. The result is NaN if there is none.
    """
    reached = cumulative >= bound - _ROUNDING
    place = reached.to(torch.uint8).argmax(-1, keepdim=True)
    at = cumulative.gather(-1, place)
    before = torch.where(place > 0, cumulative.gather(-1, (place - 1).clamp(min=0)), 0.0)
    k = place + ((bound - before) / (at - before)).clamp(max=1.0)
    return undefined(k, ~reached.any(-1, keepdim=True))[..., 0]


def energy_reach(eigenvalues: Tensor, trace: Tensor) -> Tensor:
    """Return how many eigenfunctions hold 95 % of the variance, interpolated, `(...,)`.

    Args:
        eigenvalues: Decreasing, `(..., rank)`.
        trace: Sum of all eigenvalues, `(...,)`.
    """
    if not eigenvalues.shape[-1]:
        return torch.full_like(trace, torch.nan)
    largest = eigenvalues[..., :1]  # ratios neither over- nor underflow
    held = (eigenvalues / largest).cumsum(-1) / (trace[..., None] / largest)
    return undefined(reach(held, NEARLY_ALL), ~(eigenvalues[..., 0] > 0))


class Slopes(NamedTuple):
    """Derivatives of figures of a whole spectrum by each eigenvalue, `(rank,)` each."""

    entropy: Tensor
    rankme: Tensor
    k95_energy: Tensor
    singular: Tensor


def slopes(eigenvalues: Tensor) -> Slopes:
    """Compute the derivatives of the figures that depend on all eigenvalues.

    With `H = −Σ q ln q`, `∂H/∂ρ_k = −(ln q_k + H)/Σρ` for `q = ρ/Σρ`; for RankMe's shares
    `u = S/ΣS + ε`, `∂H/∂S_k = −(ln u_k − Σ_j (S_j/ΣS) ln u_j)/ΣS` and `∂S_k/∂ρ_k = 1/(2 S_k)`,
    which is the derivative of ΣS, too. 95 % of the variance are reached at `k − 1 + s`, with
    `s = (0.95 Σρ − Σ_{j<k} ρ_j)/ρ_k`.

    Args:
        eigenvalues: Positive, decreasing, `(rank,)`.
    """
    total = eigenvalues.sum()
    shares = eigenvalues / total
    disorder = entropy(shares)
    of_entropy = -(shares.log() + disorder) / total * disorder.exp()
    singular = eigenvalues.sqrt()
    sum_of_singular = singular.sum()
    terms = singular_shares(eigenvalues)
    logs = terms.log()
    mean = (logs * singular).sum() / sum_of_singular
    of_singular = -(logs - mean) / sum_of_singular * entropy(terms).exp()
    reached = float(energy_reach(eigenvalues, total))
    last = min(math.ceil(reached), len(eigenvalues)) - 1
    of_reach = torch.full_like(eigenvalues, NEARLY_ALL)
    of_reach[:last] -= 1.0
    of_reach[last] -= reached - last
    return Slopes(
        of_entropy,
        of_singular / (2 * singular),
        of_reach / eigenvalues[last],
        1 / (2 * singular),
    )
