"""Spectra of all samples, and of all samples but one fold's.

The Gram matrix of all samples is diagonalized in full. So are those without a fold if there are few
features. With many, ten more solutions would take ten times as long, although only the change of
the figures matters, so these are approximated:

- The leading eigenpairs follow from those of all samples by iteration (`leading_eigenpairs`).
- Participation ratio and stable rank need only these and the Gram matrix.
- Entropy, RankMe and the k that holds 95 % of the variance are functions θ of all eigenvalues ρ. To
  first order, leaving out fold j gives `θ_j − θ = Σ_k ∂θ/∂ρ_k v_kᵀ Δ_j v_k`, with Δ_j the change of
  the Gram matrix. The remainder is the bias, of second order. It is a sum over all pairs of
  eigenfunctions and hardly differs from fold to fold, so it is computed for one fold, from all its
  eigenvalues, and used for each. With 300 to 512 features it differed by 1 to 10 % between folds,
  and the bounds of intervals were off by 1 to 3 % of their width.
- The change of the numerical rank is taken from that one fold.
- In the uncentred spectrum, the first eigenvalue represents the mean, and the others are close to
  the centred ones: the change of their singular values' sum and of the entropy of their shares is
  taken from the centred spectrum.
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
    """Leading eigenpairs and spectral figures of one set of samples or several.

    Attributes:
        pairs: Leading eigenpairs.
        effective: Effective ranks, the fields of `EffectiveRank`.
        k95_energy: Number of eigenfunctions that hold 95 % of the variance, interpolated, `(...,)`.
        singular: Sum of the singular values `√ρ_k`, `(...,)`.
        rank: Numerical rank, `(...,)` float64.
    """

    pairs: Eigenpairs
    effective: Values
    k95_energy: Tensor
    singular: Tensor
    rank: Tensor


class Pair(NamedTuple):
    """Spectra of the same samples, uncentred and centred."""

    raw: Spectrum
    centered: Spectrum


def spectrum(averages: Averages, features: int) -> Spectrum:
    """Compute the spectrum of all samples, up to its numerical rank.

    Args:
        averages: Inner products of one set of samples.
        features: Number of features p; the inner products may be over fewer coordinates.
    """
    return _of_all(averages, features, *eigh(averages.phi_phi))


def spectra(raw: Averages, centered: Averages, features: int, steps: Steps) -> Pair:
    """Compute both spectra of all samples; with many features the centred follows from the other.

    Args:
        raw: Uncentred inner products of one set of samples.
        centered: Centred inner products of the same samples.
        features: Number of features p; the inner products may be over fewer coordinates.
        steps: Advanced after each spectrum.
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
    reached = energy_reach(values, trace)
    return Spectrum(pairs, effective_ranks(values), reached, _singular(values), pairs.ranks)


def solved(averages: Averages, features: int, near: Eigenpairs) -> Spectrum:
    """Compute spectra of sets of samples that each lack a fold, by solving in full.

    Args:
        averages: Inner products of these sets.
        features: Number of features, p.
        near: Eigenpairs of all samples: no set that lacks some of them has more.
    """
    ascending, vectors = eigh(averages.phi_phi)
    values = ascending.flip(-1)[..., : near.rank]
    place = torch.arange(near.rank, device=values.device)
    # Only n − 1 of n centred samples are independent.
    independent = averages.n - int(averages.is_centered)
    floor = averages.phi_phi.shape[-1] * _FLOAT64_EPS * values[..., :1]
    kept = (values > floor) & (place < independent[..., None])
    values = torch.where(kept, values, 0.0)
    pairs = Eigenpairs(values, vectors.flip(-1)[..., : near.rank])
    reached = energy_reach(values, averages.phi_size.trace)
    rank = _rank(values, averages, features)
    return Spectrum(pairs, effective_ranks(values), reached, _singular(values), rank)


def _singular(eigenvalues: Tensor) -> Tensor:
    return eigenvalues.sqrt().sum(-1)


def _rank(values: Tensor, averages: Averages, features: int) -> Tensor:
    if not values.shape[-1]:
        return torch.zeros_like(averages.n)
    return numerical_rank(values, features=features, rows=averages.n, noise=averages.phi_noise)


def nearby(entire: Eigenpairs, averages: Averages, needed: int) -> Eigenpairs | None:
    """Compute the leading eigenpairs of a set that lacks a fold, from those of all samples.

    Args:
        entire: Eigenpairs of all samples.
        averages: Inner products of the set.
        needed: Number of eigenpairs wanted.

    Returns:
        The eigenpairs; None if iterating does not converge or would cost as much as solving in
        full.
    """
    needed = min(needed, entire.rank, int(averages.n) - 1)
    if not is_near_cheaper(needed, entire):
        return None

    def product(vectors: Tensor) -> Tensor:
        # For a symmetric matrix A, XᵀA is computed faster than AX.
        image: Tensor = (vectors.T @ averages.phi_phi).T
        return image

    return leading_eigenpairs(product, needed, near=entire.leading(_block(needed)))


def is_near_cheaper(needed: int, entire: Eigenpairs) -> bool:
    """Return whether iterating for that many leading eigenpairs is faster than solving in full."""
    return 0 < _block(needed) <= min(entire.rank, _WIDEST_BLOCK * entire.eigenvectors.shape[-2])


def _block(needed: int) -> int:
    """Return the vectors to iterate with: spares keep the last wanted one from being slowest."""
    return needed and needed + max(4, needed // 4)


class CenteredNeighbours:
    """Centred spectra close to that of all samples, for many features.

    Args:
        entire: The centred spectrum of all samples, which is not empty.
        averages: Centred inner products of all samples.
        example: Centred inner products of any one set that lacks a fold.
        features: Number of features, p.

    Attributes:
        rank: The numerical rank of the example.
    """

    def __init__(
        self, entire: Spectrum, averages: Averages, example: Averages, features: int
    ) -> None:
        self._before = _of_whole(entire.effective, entire.k95_energy, entire.singular)
        vectors = entire.pairs.eigenvectors
        self._gradients = {
            name: _gradient(vectors, slope)
            for name, slope in slopes(entire.pairs.eigenvalues)._asdict().items()
        }
        self._along_entire = self._along(averages)
        values = eigvalsh(example.phi_phi).flip(0)[: entire.pairs.rank].clamp(min=0.0)
        reached = energy_reach(values, example.phi_size.trace)
        exact = _of_whole(effective_ranks(values), reached, _singular(values))
        self._bias = {name: exact[name] - figure for name, figure in self._linear(example).items()}
        self.rank = _rank(values, example, features)

    def near(self, averages: Averages, leading: Eigenpairs) -> Spectrum:
        """Approximate the spectrum of a set that lacks a fold, given its leading eigenpairs."""
        found = {name: figure + self._bias[name] for name, figure in self._linear(averages).items()}
        reached, singular = (found.pop(name) for name in ("k95_energy", "singular"))
        effective = {**_symmetric(averages.phi_size, leading), **found}
        return Spectrum(leading, effective, reached, singular, self.rank)

    def _linear(self, averages: Averages) -> dict[str, Tensor]:
        """Compute the figures to first order."""
        along = self._along(averages)
        return {
            name: self._before[name] + along[name] - before
            for name, before in self._along_entire.items()
        }

    def _along(self, averages: Averages) -> dict[str, Tensor]:
        flat = averages.phi_phi.flatten()
        return {name: torch.dot(gradient, flat) for name, gradient in self._gradients.items()}


def _of_whole(effective: Values, k95_energy: Tensor, singular: Tensor) -> dict[str, Tensor]:
    """Return the figures that depend on all eigenvalues, by name as `Slopes` has them."""
    return {**effective, "k95_energy": k95_energy, "singular": singular}


class UncenteredNeighbours:
    """Uncentred spectra close to that of all samples, from the centred ones.

    Args:
        entire: The spectra of all samples.
        size: Size of the uncentred Gram matrix of all samples.
    """

    def __init__(self, entire: Pair, size: Size) -> None:
        self._entire = entire
        first = entire.raw.pairs.eigenvalues[0]
        # Of the others the singular values sum up to about what the centred ones do.
        self._singular_ratio = (entire.raw.singular - first.sqrt()) / entire.centered.singular
        shares = self._shares(size.trace, first, entire.centered)
        self._offsets = {
            name: (entire.raw.effective[name].log() - entropy(torch.stack([share, 1 - share])))
            / (1 - share).clamp(min=_TINY)
            - entire.centered.effective[name].log()
            for name, share in shares.items()
        }

    def near(self, size: Size, leading: Eigenpairs, centered: Spectrum) -> Spectrum:
        """Approximate the spectrum of a set that lacks a fold.

        Args:
            size: Size of its uncentred Gram matrix.
            leading: Its leading uncentred eigenpairs.
            centered: Its centred spectrum.
        """
        effective = dict(_symmetric(size, leading))
        first = leading.eigenvalues[0]
        for name, share in self._shares(size.trace, first, centered).items():
            others = centered.effective[name].log() + self._offsets[name]
            disorder = entropy(torch.stack([share, 1 - share])) + (1 - share) * others
            effective[name] = disorder.exp()
        change = centered.rank - self._entire.centered.rank
        rank = (self._entire.raw.rank + change).clamp(min=1.0)
        unknown = torch.full_like(rank, torch.nan)
        return Spectrum(leading, effective, unknown, unknown, rank)

    def _shares(self, trace: Tensor, first: Tensor, centered: Spectrum) -> dict[str, Tensor]:
        """Return the share of the first eigenvalue, and that of the first singular value."""
        others = self._singular_ratio * centered.singular
        return {"entropy": first / trace, "rankme": first.sqrt() / (first.sqrt() + others)}


def _gradient(vectors: Tensor, slope: Tensor) -> Tensor:
    """Return `V diag(slope) Vᵀ`, flat; in float32, which is accurate enough for a change.

    Args:
        vectors: V, `(p, rank)`.
        slope: `(rank,)`.
    """
    steepest = slope.abs().max().clamp(min=_TINY)  # its units may exceed the range of float32
    single = vectors.float()
    product = single.new_zeros(len(single), len(single))
    add_products(product, (single * (slope / steepest).float()).T, single.T)
    mirror(product)
    return (product.double() * steepest).flatten()


def _symmetric(size: Size, leading: Eigenpairs) -> Values:
    """Return the effective ranks that follow from the Gram matrix and its first eigenvalue."""
    return {
        "participation_ratio": size.relative_norm.reciprocal().square(),
        "stable": size.trace / leading.eigenvalues[0],
    }
