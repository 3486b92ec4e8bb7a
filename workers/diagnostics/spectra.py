"""Eigenpairs of all samples, and of all but those of a fold.

The first are solved for in full. So are the others where features are few. Where they are many,
ten more solutions would take ten times as long, for figures of which only the change matters:

- The leading eigenpairs follow from those of all samples by iteration (`leading_eigenpairs`).
- Participation ratio and stable rank need nothing else.
- Entropy and RankMe are functions θ of all eigenvalues ρ. To first order, without fold j,
  `θ_j − θ = Σ_k ∂θ/∂ρ_k v_kᵀ Δ_j v_k`, with Δ_j the change of the Gram matrix. What is left is the
  bias, of second order; it is a sum over all pairs of eigenfunctions, and so hardly differs from
  fold to fold: it is found for one fold, from all its eigenvalues, and taken for each. Of 300 to
  512 features it differed by 1 to 10 %, and the bounds of intervals by 1 to 3 % of their width.
- The numerical rank is that one fold's for all.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.diagonalization import (
    Eigenpairs,
    diagonalize,
    leading_eigenpairs,
    numerical_rank,
)
from workers.diagnostics.figures import Values
from workers.diagnostics.linear_algebra import eigh, eigvalsh
from workers.diagnostics.ranks import effective_ranks, slopes

# Up to this many features a full diagonalization for each fold costs little.
FEW_FEATURES = 256
# Iterating from this share of all eigenvectors or more would cost as much as the dense solver.
_WIDEST_BLOCK = 1 / 8
_FLOAT64_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What figures need of the eigenvalues and eigenfunctions of one set of samples or several.

    Attributes:
        pairs: Leading eigenpairs.
        effective: Effective ranks, the fields of `EffectiveRank`.
        rank: Numerical rank, `(...,)` float64.
    """

    pairs: Eigenpairs
    effective: Values
    rank: Tensor


class Pair(NamedTuple):
    """Of the same samples, with and without their mean."""

    raw: Spectrum
    centered: Spectrum


def spectrum(averages: Averages, features: int) -> Spectrum:
    """The spectrum of all samples, up to its numerical rank.

    Args:
        averages: Inner products of one set of samples.
        features: p, where the inner products are of fewer coordinates.
    """
    pairs = diagonalize(
        averages.phi_phi, rows=float(averages.n), noise=averages.phi_noise, features=features
    )
    return Spectrum(pairs, effective_ranks(pairs.eigenvalues), pairs.ranks)


def solved(averages: Averages, features: int, near: Eigenpairs) -> Spectrum:
    """Spectra of sets of samples that each lack a few, solved in full.

    Args:
        averages: Inner products of these sets.
        features: p.
        near: Eigenpairs of all samples: there are no more without some of them.
    """
    ascending, vectors = eigh(averages.phi_phi)
    values = ascending.flip(-1)[..., : near.rank]
    place = torch.arange(near.rank, device=values.device)
    # Of n samples without their mean n − 1 are independent.
    independent = averages.n - int(averages.is_centered)
    floor = averages.phi_phi.shape[-1] * _FLOAT64_EPS * values[..., :1]
    kept = (values > floor) & (place < independent[..., None])
    values = torch.where(kept, values, 0.0)
    pairs = Eigenpairs(values, vectors.flip(-1)[..., : near.rank])
    return Spectrum(pairs, effective_ranks(values), _rank(values, averages, features))


def _rank(values: Tensor, averages: Averages, features: int) -> Tensor:
    if not values.shape[-1]:
        return torch.zeros_like(averages.n)
    return numerical_rank(values, features=features, rows=averages.n, noise=averages.phi_noise)


class Neighbours:
    """Spectra near that of all samples, for many features.

    Args:
        entire: The spectrum of all samples.
        averages: Their inner products.
        example: Those of some set that lacks a fold.
        features: p.
    """

    def __init__(
        self, entire: Spectrum, averages: Averages, example: Averages, features: int
    ) -> None:
        self._entire = entire
        self._features = features
        pairs = entire.pairs
        self._gradients = {
            name: (pairs.eigenvectors * slope) @ pairs.eigenvectors.T
            for name, slope in slopes(pairs.eigenvalues)._asdict().items()
        }
        self._at_entire = {
            name: self._along(gradient, averages) for name, gradient in self._gradients.items()
        }
        values = eigvalsh(example.phi_phi).flip(0)[: pairs.rank].clamp(min=0.0)
        exact = effective_ranks(values)
        linear = self._linear(example)
        self._bias = {name: exact[name] - value for name, value in linear.items()}
        self._rank = _rank(values, example, features)

    def near(self, averages: Averages, needed: int) -> Spectrum | None:
        """The spectrum of a set that lacks a fold.

        Args:
            averages: Its inner products.
            needed: Leading eigenpairs that are wanted.

        Returns:
            None where that costs as much as to solve for it in full.
        """
        pairs = self._entire.pairs
        needed = min(needed, pairs.rank, int(averages.n) - 1)
        block = needed + max(4, needed // 4)
        if not needed or block > min(pairs.rank, _WIDEST_BLOCK * averages.phi_phi.shape[0]):
            return None
        leading = leading_eigenpairs(averages.phi_phi.mm, needed, near=pairs.leading(block))
        if leading is None:
            return None
        trace, norm = averages.phi_size
        effective = {
            "participation_ratio": norm.reciprocal().square(),
            "stable": trace / leading.eigenvalues[0],
            **{name: value + self._bias[name] for name, value in self._linear(averages).items()},
        }
        return Spectrum(leading, effective, self._rank)

    def _linear(self, averages: Averages) -> Values:
        """The figures to first order."""
        return {
            name: self._entire.effective[name]
            + self._along(gradient, averages)
            - self._at_entire[name]
            for name, gradient in self._gradients.items()
        }

    def _along(self, gradient: Tensor, averages: Averages) -> Tensor:
        return torch.dot(gradient.flatten(), averages.phi_phi.flatten())
