"""Eigenpairs of all samples, and of all but those of a fold.

The first are found in full. So are the others where features are few. Where they are many,
ten more solutions would take ten times as long, for figures of which only the change matters:

- The leading eigenpairs follow from those of all samples by iteration (`leading_eigenpairs`).
- Participation ratio and stable rank need nothing else.
- Entropy, RankMe and the reach of the energy are functions θ of all eigenvalues ρ. To first order,
  without fold j, `θ_j − θ = Σ_k ∂θ/∂ρ_k v_kᵀ Δ_j v_k`, with Δ_j the change of the Gram matrix. What
  is left is the bias, of second order; it is a sum over all pairs of eigenfunctions, and so hardly
  differs from fold to fold: it is found for one fold, from all its eigenvalues, and taken for each.
  Of 300 to 512 features it differed by 1 to 10 %, and the bounds of intervals by 1 to 3 % of their
  width.
- The numerical rank changes as in that one fold.
- Uncentred, the first eigenvalue stands for the mean, and the others are about the centred ones:
  what becomes of the entropy of their shares is taken from these.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.averages import Averages, Size
from workers.diagnostics.diagonalization import (
    Eigenpairs,
    leading_eigenpairs,
    numerical_rank,
    up_to_rank,
)
from workers.diagnostics.figures import Values
from workers.diagnostics.linear_algebra import eigh, eigvalsh
from workers.diagnostics.products import add_products, mirror
from workers.diagnostics.rank_one import downdated
from workers.diagnostics.ranks import effective_ranks, energy_reach, entropy, slopes
from workers.diagnostics.steps import Steps

# Up to this many features a full diagonalization for each fold costs little.
FEW_FEATURES = 256
# Iterating from this share of all eigenvectors or more would cost as much as the dense solver.
_WIDEST_BLOCK = 1 / 8
_FLOAT64_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What figures need of the eigenvalues and eigenfunctions of one set of samples or several.

    Attributes:
        pairs: Leading eigenpairs.
        effective: Effective ranks, the fields of `EffectiveRank`.
        k95_energy: Where 95 % of the variance are reached, `(...,)`.
        rank: Numerical rank, `(...,)` float64.
    """

    pairs: Eigenpairs
    effective: Values
    k95_energy: Tensor
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
    return _of_all(averages, features, *eigh(averages.phi_phi))


def spectra(raw: Averages, centered: Averages, features: int, steps: Steps) -> Pair:
    """Both spectra of all samples; of many features the second follows from the first.

    Args:
        raw: Inner products of one set of samples.
        centered: The same without the means.
        features: p, where the inner products are of fewer coordinates.
        steps: Told of each.
    """
    solution = eigh(raw.phi_phi)
    of_raw = _of_all(raw, features, *solution)
    steps.advance()
    is_large = len(raw.phi_phi) > FEW_FEATURES
    followed = downdated(*solution, raw.phi) if is_large else None
    of_centered = _of_all(centered, features, *(followed or eigh(centered.phi_phi)))
    steps.advance()
    return Pair(of_raw, of_centered)


def _of_all(averages: Averages, features: int, ascending: Tensor, vectors: Tensor) -> Spectrum:
    pairs = up_to_rank(
        ascending,
        vectors,
        rows=float(averages.n),
        noise=averages.phi_noise,
        features=features,
    )
    values, trace = pairs.eigenvalues, averages.phi_size.trace
    return Spectrum(pairs, effective_ranks(values), energy_reach(values, trace), pairs.ranks)


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
    reached = energy_reach(values, averages.phi_size.trace)
    return Spectrum(pairs, effective_ranks(values), reached, _rank(values, averages, features))


def _rank(values: Tensor, averages: Averages, features: int) -> Tensor:
    if not values.shape[-1]:
        return torch.zeros_like(averages.n)
    return numerical_rank(values, features=features, rows=averages.n, noise=averages.phi_noise)


def nearby(entire: Eigenpairs, averages: Averages, needed: int) -> Eigenpairs | None:
    """The leading eigenpairs of a set that lacks a fold.

    Args:
        entire: Those of all samples.
        averages: Its inner products.
        needed: How many are wanted.

    Returns:
        None where that costs as much as to solve for all.
    """
    needed = min(needed, entire.rank, int(averages.n) - 1)
    if not is_near_cheaper(needed, entire):
        return None

    def product(vectors: Tensor) -> Tensor:
        # Of a symmetric matrix A, XᵀA is found faster than AX.
        image: Tensor = (vectors.T @ averages.phi_phi).T
        return image

    return leading_eigenpairs(product, needed, near=entire.leading(_block(needed)))


def is_near_cheaper(needed: int, entire: Eigenpairs) -> bool:
    """Whether so many leading eigenpairs are found sooner by iteration than all by solving."""
    return 0 < _block(needed) <= min(entire.rank, _WIDEST_BLOCK * entire.eigenvectors.shape[-2])


def _block(needed: int) -> int:
    """Vectors to iterate with: spare ones keep the last wanted one from being the slowest."""
    return needed and needed + max(4, needed // 4)


class CenteredNeighbours:
    """Centred spectra near that of all samples, for many features.

    Args:
        entire: The centred spectrum of all samples, which is not empty.
        averages: Their centred inner products.
        example: Those of some set that lacks a fold.
        features: p.

    Attributes:
        rank: The numerical rank of the example.
        singular_bias: How much more its singular values change, in sum, than the root of its
            variance does.
    """

    def __init__(
        self, entire: Spectrum, averages: Averages, example: Averages, features: int
    ) -> None:
        self._before = {**entire.effective, "k95_energy": entire.k95_energy}
        vectors = entire.pairs.eigenvectors
        self._gradients = {
            name: _gradient(vectors, slope, entire.pairs.eigenvalues[0])
            for name, slope in slopes(entire.pairs.eigenvalues)._asdict().items()
        }
        self._along_entire = self._along(averages)
        values = eigvalsh(example.phi_phi).flip(0)[: entire.pairs.rank].clamp(min=0.0)
        trace = example.phi_size.trace
        exact = {**effective_ranks(values), "k95_energy": energy_reach(values, trace)}
        self._bias = {name: exact[name] - figure for name, figure in self._linear(example).items()}
        self.rank = _rank(values, example, features)
        roots = [each.sqrt().sum() for each in (values, entire.pairs.eigenvalues)]
        self.singular_bias = roots[0] / roots[1] / (trace / averages.phi_size.trace).sqrt()

    def near(self, averages: Averages, leading: Eigenpairs) -> Spectrum:
        """The spectrum of a set that lacks a fold, given its leading eigenpairs."""
        found = {name: figure + self._bias[name] for name, figure in self._linear(averages).items()}
        reached = found.pop("k95_energy")
        effective = {**_symmetric(averages.phi_size, leading), **found}
        return Spectrum(leading, effective, reached, self.rank)

    def _linear(self, averages: Averages) -> dict[str, Tensor]:
        """The figures to first order."""
        along = self._along(averages)
        return {
            name: self._before[name] + along[name] - before
            for name, before in self._along_entire.items()
        }

    def _along(self, averages: Averages) -> dict[str, Tensor]:
        flat = averages.phi_phi.flatten()
        return {name: torch.dot(gradient, flat) for name, gradient in self._gradients.items()}


class UncenteredNeighbours:
    """Uncentred spectra near that of all samples, from the centred ones.

    Args:
        entire: The spectra of all samples.
        size: Of their uncentred Gram matrix.
        centered: Near their centred spectrum.
    """

    def __init__(self, entire: Pair, size: Size, centered: CenteredNeighbours) -> None:
        self._entire = entire
        self._rest = (size.trace - entire.raw.pairs.eigenvalues[0]).clamp(min=_TINY)
        self._singular = entire.raw.pairs.eigenvalues[1:].sqrt().sum()
        shares = self._shares(size.trace, entire.raw.pairs)
        self._singular = self._singular * centered.singular_bias
        self._offsets = {
            name: (entire.raw.effective[name].log() - entropy(torch.stack([share, 1 - share])))
            / (1 - share).clamp(min=_TINY)
            - entire.centered.effective[name].log()
            for name, share in shares.items()
        }

    def near(self, size: Size, leading: Eigenpairs, centered: Spectrum) -> Spectrum:
        """The spectrum of a set that lacks a fold.

        Args:
            size: Of its uncentred Gram matrix.
            leading: Its leading eigenpairs.
            centered: Its centred spectrum.
        """
        effective = dict(_symmetric(size, leading))
        for name, share in self._shares(size.trace, leading).items():
            others = centered.effective[name].log() + self._offsets[name]
            disorder = entropy(torch.stack([share, 1 - share])) + (1 - share) * others
            effective[name] = disorder.exp()
        change = centered.rank - self._entire.centered.rank
        rank = (self._entire.raw.rank + change).clamp(min=1.0)
        return Spectrum(leading, effective, torch.full_like(rank, torch.nan), rank)

    def _shares(self, trace: Tensor, leading: Eigenpairs) -> dict[str, Tensor]:
        """The share of the first eigenvalue, and of the first singular value."""
        first = leading.eigenvalues[0]
        singular = self._singular * ((trace - first).clamp(min=0.0) / self._rest).sqrt()
        return {"entropy": first / trace, "rankme": first.sqrt() / (first.sqrt() + singular)}


def _gradient(vectors: Tensor, slope: Tensor, scale: Tensor) -> Tensor:
    """`V diag(slope) Vᵀ`, flat; in float32, which is exact enough for a change.

    Args:
        vectors: V, `(p, rank)`.
        slope: `(rank,)`.
        scale: About one over the slopes, which keeps them within what float32 holds.
    """
    single = vectors.float()
    product = single.new_zeros(len(single), len(single))
    add_products(product, (single * (slope * scale).float()).T, single.T)
    mirror(product)
    return (product.double() / scale).flatten()


def _symmetric(size: Size, leading: Eigenpairs) -> Values:
    """Effective ranks that the Gram matrix and its first eigenvalue tell."""
    return {
        "participation_ratio": size.relative_norm.reciprocal().square(),
        "stable": size.trace / leading.eigenvalues[0],
    }
