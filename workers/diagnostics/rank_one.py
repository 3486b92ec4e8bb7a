"""Eigenpairs of a symmetric matrix less a product `m mᵀ`, from those of the matrix.

This gives the centred spectrum of the features from the uncentred one, in a fraction of the time
that solving for it takes. In the coordinates of the known eigenvectors the matrix is `D − z zᵀ`,
with D diagonal and `z = Vᵀ m`. Its eigenvalues μ are the roots of the secular equation
`1 = Σ_j z_j² / (d_j − μ)`, one just below each d_j and above the d before it (Golub 1973); its
eigenvectors have the components `z_j / (d_j − μ)`. These are orthogonal to the last digit if z is
replaced by the vector for which the computed roots are exact (Gu & Eisenstat 1994).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_EPS = float(np.finfo(np.float64).eps)
# Shares of the largest eigenvalue: components of z below it count as zero, and eigenvalues closer
# than it as equal, as in LAPACK.
_NEGLIGIBLE = 8 * _EPS
# Number of roundings that enter each term of the secular function, and their sum.
_ROUNDINGS = 8
# Each step about doubles the number of correct digits, and at worst halves the interval.
_MOST_STEPS = 80
# Numbers processed at once, so that they stay in the processor's cache.
_BLOCK = 1 << 17


def downdated(values: Tensor, vectors: Tensor, direction: Tensor) -> tuple[Tensor, Tensor] | None:
    """Compute the eigenpairs of `A − m mᵀ`.

    Args:
        values: Eigenvalues of A, ascending, `(p,)` float64, as `eigh` gives them.
        vectors: Its eigenvectors, `(p, p)`.
        direction: m, `(p,)`.

    Returns:
        Eigenvalues, ascending, and eigenvectors, as accurate as `eigh` gives those of `A − m mᵀ`;
        None if a root is not found, and `A − m mᵀ` has to be diagonalized itself.
    """
    z = vectors.T @ direction
    scale = max(float(values.abs().max()), float(z.square().sum()))
    vectors = _without_equals(values, z, vectors, _NEGLIGIBLE * scale)
    counts = z.abs() * z.norm() > _NEGLIGIBLE * scale
    if not bool(counts.any()):
        return values, vectors
    d = values[counts]
    roots = _roots(d, z[counts].square())
    if roots is None:
        return None
    distances = (d - d[roots.origin, None]).sub_(roots.offset[:, None])
    components = _components(d, distances, z[counts].sign())
    found = d[roots.origin] + roots.offset
    if len(d) == len(values):
        return found, vectors @ components
    found = torch.cat([found, values[~counts]])
    turned = torch.cat([vectors[:, counts] @ components, vectors[:, ~counts]], 1)
    ascending, order = found.sort()
    return ascending, turned[:, order]


def _without_equals(values: Tensor, z: Tensor, vectors: Tensor, negligible: float) -> Tensor:
    """Rotate eigenvectors of equal eigenvalues so that z has a component along only one of them.

    Args:
        values: Ascending, `(p,)`.
        z: Components along the eigenvectors, `(p,)`; changed in place.
        vectors: `(p, p)`.
        negligible: Eigenvalues closer than this are equal; components as small as this are zero.

    Returns:
        The rotated eigenvectors.
    """
    counted = (z.abs() * z.norm() > negligible).nonzero().flatten()
    equal = (values[counted].diff() <= negligible).nonzero().flatten().tolist()
    if not equal:
        return vectors
    vectors, places = vectors.clone(), counted.tolist()
    for first, second in ((places[each], places[each + 1]) for each in equal):
        along = z[[first, second]]
        length = along.norm()
        c, s = along / length
        turn = torch.stack([s, c, -c, s]).reshape(2, 2)
        vectors[:, [first, second]] = vectors[:, [first, second]] @ turn
        z[first], z[second] = 0.0, length
    return vectors


class _Roots(NamedTuple):
    """Roots of the secular equation: `μ_i = d[origin_i] + offset_i`.

    Attributes:
        origin: Index of the nearest d, `(k,)` int64.
        offset: Distance from that d, `(k,)`, to full precision however small.
    """

    origin: Tensor
    offset: Tensor


def _roots(d: Tensor, weights: Tensor) -> _Roots | None:
    """Find all roots; None if one is not found.

    Args:
        d: Ascending, distinct, `(k,)`.
        weights: `z_j²`, positive, `(k,)`.
    """
    size = max(1, _BLOCK // len(d))
    found = [
        _some_roots(d, weights, torch.arange(first, min(first + size, len(d)), device=d.device))
        for first in range(0, len(d), size)
    ]
    parts = [each for each in found if each is not None]
    if len(parts) < len(found):
        return None
    return _Roots(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _some_roots(d: Tensor, weights: Tensor, which: Tensor) -> _Roots | None:
    """Find the roots just below some of d.

    This is the fixed weight method (Li 1993): the nearest pole is kept as it is, all others are
    replaced by one at the place of the next, and the root of that model solves a quadratic
    equation. A step out of the interval that is known to hold the root is replaced by its midpoint.
    """
    is_first = which == 0
    before = d[(which - 1).clamp(min=0)]
    # There is no pole below the first of d, but a bound: no eigenvalue moves by more than |z|².
    width = torch.where(is_first, weights.sum(), d[which] - before)
    is_above = is_first | (_Sums.of(d, weights, which, -width / 2).excess > 0)
    origin = torch.where(is_above, which, which - 1)
    half = torch.where(is_first, width, width / 2)
    # From here on, places are given as distances from the origin.
    within = _Bounds(torch.where(is_above, -half, 0.0), torch.where(is_above, 0.0, half))
    after = d[1:2] - d[:1] if len(d) > 1 else weights.sum()
    other = torch.where(is_first, after, torch.where(is_above, -width, width))
    offset = within.middle
    for _ in range(_MOST_STEPS):
        sums = _Sums.of(d, weights, origin, offset)
        is_found = sums.excess.abs() <= sums.rounding
        if bool(is_found.all()):
            return _Roots(origin, offset)
        within = within.narrowed(offset, is_below=sums.excess > 0)
        moved = _next(sums, weights[origin], offset, other, within)
        offset = torch.where(is_found, offset, moved)
    return None


class _Bounds(NamedTuple):
    """Bounds that the roots lie between, `(k,)` both."""

    low: Tensor
    high: Tensor

    @property
    def middle(self) -> Tensor:
        """Midpoint of the bounds."""
        return (self.low + self.high) / 2

    def narrowed(self, place: Tensor, *, is_below: Tensor) -> "_Bounds":
        """Replace one bound by a place inside: the low one if the place is below the root."""
        low, high = self
        return _Bounds(torch.where(is_below, place, low), torch.where(is_below, high, place))

    def hold(self, place: Tensor) -> Tensor:
        """Return whether a place is strictly between the bounds."""
        return (place > self.low) & (place < self.high)


class _Sums(NamedTuple):
    """Values of the secular function at some places.

    Attributes:
        excess: `1 − Σ_j z_j²/(d_j − μ)`, which falls from one pole to the next.
        slope: `Σ_j z_j²/(d_j − μ)²`.
        rounding: Bound of the excess's rounding error.
    """

    excess: Tensor
    slope: Tensor
    rounding: Tensor

    @classmethod
    def of(cls, d: Tensor, weights: Tensor, origin: Tensor, offset: Tensor) -> "_Sums":
        """Evaluate at `d[origin] + offset`."""
        distances = (d - d[origin, None]).sub_(offset[:, None])
        terms = weights / distances
        total, size = terms.sum(1), terms.abs().sum(1)
        slope = terms.div_(distances).sum(1)
        rounding = _EPS * (_ROUNDINGS * (1 + size) + offset.abs() * slope)
        return cls(1 - total, slope, rounding)


def _next(sums: _Sums, weight: Tensor, offset: Tensor, other: Tensor, within: _Bounds) -> Tensor:
    """Estimate the roots from the nearest poles.

    Args:
        sums: Values of the secular function at the offset.
        weight: Weight of the nearest pole.
        offset: Distance from that pole.
        other: Distance of the next pole from that pole.
        within: Bounds that the roots lie between.
    """
    a, b = -offset, other - offset
    rest = b.square() * (sums.slope - weight / a.square()).clamp(min=0.0)
    constant = sums.excess + rest / b + weight / a
    # constant − weight/(a − η) − rest/(b − η) = 0, for the step η: two roots, one of them within.
    linear = constant * (a + b) - weight - rest
    product = a * b * sums.excess
    root = (linear.square() - 4 * product * constant).clamp(min=0.0).sqrt()
    larger = linear + torch.where(linear < 0, -root, root)
    moved = within.middle
    for step in (larger / (2 * constant), 2 * product / larger):
        moved = torch.where(within.hold(offset + step), offset + step, moved)
    return moved


def _components(d: Tensor, distances: Tensor, signs: Tensor) -> Tensor:
    """Compute the eigenvectors of `D − z zᵀ` as columns, `(k, k)`.

    Args:
        d: Ascending, `(k,)`.
        distances: `d_j − μ_i`, `(k, k)`, one row for each root; overwritten.
        signs: Signs of z, `(k,)`.
    """
    squares = torch.ones_like(d)
    for first in range(0, len(d), size := max(1, _BLOCK // len(d))):
        rows = slice(first, first + size)
        others = d - d[rows, None]
        others.diagonal(first).fill_(1.0)
        squares *= distances[rows].div(others).prod(0)
    found = distances.reciprocal_().mul_(squares.abs().sqrt() * signs)
    return found.div_(torch.linalg.vector_norm(found, dim=1, keepdim=True)).T
