"""Effective ranks: how many directions a spectrum fills, by four definitions."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Those that the weakest eigenvalues take part in as the strongest do.
TAIL_RANKS = ("entropy", "rankme")

_RANKME_OFFSET = 1e-7  # of the definition (Garrido et al. 2023, eq. 1)


@dataclass(frozen=True)
class EffectiveRank:
    """Effective ranks of a spectrum; each lies between 1 and the number of eigenvalues.

    Attributes:
        participation_ratio: `(Σρ)² / Σρ²`.
        entropy: `exp(−Σ p ln p)` with `p = ρ/Σρ` (Roy & Vetterli 2007).
        rankme: The same on singular values, `p = S/ΣS + 1e-7` (Garrido et al. 2023).
        stable: `Σρ / ρ_1`.
    """

    participation_ratio: float
    entropy: float
    rankme: float
    stable: float


def effective_rank(eigenvalues: Tensor) -> EffectiveRank | None:
    """Effective ranks of positive eigenvalues in decreasing order; None of no eigenvalues.

    Example:
        >>> effective_rank(torch.tensor([2.0, 2.0, 2.0])).stable
        3.0
    """
    if not eigenvalues.shape[0]:
        return None
    relative = (
        eigenvalues / eigenvalues[0]
    )  # ratios only: no scale of the features over- or underflows
    total = relative.sum()
    singular = relative.sqrt()
    return EffectiveRank(
        participation_ratio=float(total.square() / relative.square().sum()),
        entropy=_exponentiated_entropy(relative / total),
        rankme=_exponentiated_entropy(singular / singular.sum() + _RANKME_OFFSET),
        stable=float(total),
    )


def _exponentiated_entropy(shares: Tensor) -> float:
    return float(torch.exp(-(shares * shares.log()).sum()))
