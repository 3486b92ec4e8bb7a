"""Neural collapse (Papyan, Han & Donoho, PNAS 2020): have the classes become single points?

NC1 to NC3 follow from inner products and the head. NC4, which looks at single rows, is in
`nearest_means`.

If p < C, the C×C Gram matrix of the class means has the eigenvalues of the p×p one and zeros, so
the smaller one is diagonalized. That loses digits only for figures near 0; those would take C class
means at equal angles, for which p < C − 1 dimensions have no room.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.figures import Values, figure, positive, undefined
from workers.diagnostics.linear_algebra import eigh

_FEWEST_CLASSES = 2
# Directions between class means below this share of the means themselves are rounding of the sums.
_ROUNDING = 64 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class NeuralCollapse:
    """Distance from neural collapse; 0 is complete collapse for every figure.

    `μ_c` are the means of the classes present, `μ_G` the unweighted mean of these,
    `M = [μ_c − μ_G]`, `Σ_W` the covariance within classes, `Σ_B = (1/C) M Mᵀ`. Figures are None
    where they are undefined: with fewer than two classes, without a head, or if all class means
    coincide.

    Attributes:
        nc1: `tr(Σ_W Σ_B⁺)/C`, with a pseudo-inverse of rank C − 1 at most.
        nc1_quotient: `tr Σ_W / tr Σ_B`.
        nc2_equinorm_means: `std ‖μ_c − μ_G‖ / mean ‖μ_c − μ_G‖`.
        nc2_equiangle_means: Standard deviation of the cosines between `μ_c − μ_G`.
        nc2_etf_means: `‖MᵀM/‖MᵀM‖_F − (I − 11ᵀ/C)/√(C−1)‖_F`.
        nc3: `‖W/‖W‖_F − Mᵀ/‖M‖_F‖²_F`, with the head's rows W for the classes present.
    """

    nc1: float | None = figure(positive, default=None)
    nc1_quotient: float | None = figure(positive, default=None)
    nc2_equinorm_means: float | None = figure(positive, default=None)
    nc2_equiangle_means: float | None = figure(positive, default=None)
    nc2_etf_means: float | None = figure(positive, default=None)
    nc3: float | None = figure(positive, default=None)


@dataclass(frozen=True, eq=False)
class _ClassMeans:
    """Means of the features of each of k classes, on one set of samples or several.

    Attributes:
        present: 1 for a class that has samples, else 0: `(..., k)`.
        count: Number C of classes that have samples, `(...,)`.
        shares: Each class's share of the weight, `(..., k)`.
        means: `μ_c`, `(..., k, p)`; zero for a class without samples.
        between: `μ_c − μ_G`, `(..., k, p)`; zero likewise.
        rounding: Singular values of `between` up to this are rounding, `(...,)`.
    """

    present: Tensor
    count: Tensor
    shares: Tensor
    means: Tensor
    between: Tensor
    rounding: Tensor

    @classmethod
    def of(cls, averages: Averages) -> "_ClassMeans":
        """Compute the class means from uncentred inner products."""
        present = (averages.shares > 0).double()
        count = present.sum(-1)
        shares = averages.shares / averages.shares.sum(-1, keepdim=True)
        means = (averages.phi_y / torch.where(present > 0, averages.shares, 1.0)[..., None, :]).mT
        of_all = means.sum(-2, keepdim=True) / count[..., None, None]
        between = (means - of_all) * present[..., None]
        longest = count.clamp(min=float(means.shape[-1]))
        rounding = _ROUNDING * longest * means.square().sum((-2, -1)).sqrt()
        return cls(present, count, shares, means, between, rounding)


def neural_collapse(
    averages: Averages, centered: Averages, head: Tensor | None, *, basis: Tensor | None = None
) -> Values:
    """Compute NC1 to NC3 of a classifier.

    Args:
        averages: Uncentred inner products of features, outputs and class indicators; `phi_phi` is
            not read.
        centered: Centred inner products of the same samples.
        head: Weights of the final linear layer, `(c, p)`; None if they are not known.
        basis: `(p, q)`, orthonormal columns, if the inner products are of coordinates `basisᵀ Φ`.

    Returns:
        The fields of `NeuralCollapse`; NC3 only with a head.
    """
    classes = _ClassMeans.of(averages)
    norms = classes.between.square().sum(-1).sqrt()
    norm = norms.square().sum(-1).sqrt()
    within = _within(averages, centered, classes)
    found = {
        "nc1": _nc1(averages, centered, classes),
        "nc1_quotient": within * classes.count / norm.square(),
        "nc2_equinorm_means": _relative_spread(norms, classes),
        "nc2_equiangle_means": _spread_of_cosines(norms, classes),
        "nc2_etf_means": _distance_from_simplex(classes),
    }
    if head is not None:
        found["nc3"] = _nc3(classes, _rows_for(head, averages.classes, classes), basis)
    nothing = (classes.count < _FEWEST_CLASSES) | (norm <= classes.rounding)
    return {name: undefined(values, nothing) for name, values in found.items()}


def _from_mean(averages: Averages, classes: _ClassMeans) -> Tensor:
    """Return class means less the mean of all samples, `(..., k, p)`; zero without samples.

    Second moments about that mean lose fewer digits than second moments about zero.
    """
    return (classes.means - averages.phi[..., None, :]) * classes.present[..., None]


def _within(averages: Averages, centered: Averages, classes: _ClassMeans) -> Tensor:
    """Return `tr Σ_W`: all variance less that of the class means."""
    of_means = (classes.shares * _from_mean(averages, classes).square().sum(-1)).sum(-1)
    return (centered.phi_size.trace - of_means).clamp(min=0.0)


def _nc1(averages: Averages, centered: Averages, classes: _ClassMeans) -> Tensor:
    """Return `tr(Σ_W Σ_B⁺)/C`; with `M = U S Qᵀ`, `Σ_B⁺ = C U S⁻² Uᵀ`.

    S comes from `MᵀM = Q S² Qᵀ` or `M Mᵀ = U S² Uᵀ`, which takes a quarter of the work of an SVD
    for a thousand classes. Squaring loses directions with `S_j` below 1e-7 of the first; classes
    that differ only there coincide for this purpose.
    """
    between = classes.between
    k, p = between.shape[-2:]
    squares, vectors = eigh(between @ between.mT if k <= p else between.mT @ between)
    floor = (classes.rounding.square()).maximum(_ROUNDING * classes.count * squares[..., -1])
    from_last = torch.arange(squares.shape[-1], 0, -1, device=squares.device)
    kept = (squares > floor[..., None]) & (from_last < classes.count[..., None])
    inverse = torch.where(kept, squares, torch.inf).reciprocal()
    along = vectors.mT
    if k <= p:
        along = along @ between * inverse.sqrt()[..., None]
    in_all = ((along @ centered.phi_phi) * along).sum(-1)
    of_means = (along @ _from_mean(averages, classes).mT).square() @ classes.shares[..., None]
    return ((in_all - of_means[..., 0]) * inverse).sum(-1).clamp(min=0.0)


def _relative_spread(norms: Tensor, classes: _ClassMeans) -> Tensor:
    """Return standard deviation over mean of the norms, for classes that have samples."""
    mean = norms.sum(-1) / classes.count
    squares = ((norms - mean[..., None]) * classes.present).square().sum(-1)
    return (squares / classes.count).sqrt() / mean


def _spread_of_cosines(norms: Tensor, classes: _ClassMeans) -> Tensor:
    """Return the standard deviation of the off-diagonal cosines.

    It is NaN if a class mean equals the mean of all class means.
    """
    directions = classes.between / torch.where(norms > 0, norms, 1.0)[..., None]
    k, p = directions.shape[-2:]
    pairs = classes.count * (classes.count - 1)
    if k <= p + 1:
        cosines = directions @ directions.mT
        counted = classes.present[..., :, None] * classes.present[..., None, :]
        counted = counted * (1 - torch.eye(k, dtype=norms.dtype, device=norms.device))
        mean = (cosines * counted).sum((-2, -1)) / pairs
        squares = ((cosines - mean[..., None, None]).square() * counted).sum((-2, -1)) / pairs
        spread = squares.sqrt()
    else:
        mean = (directions.sum(-2).square().sum(-1) - classes.count) / pairs
        gram = directions.mT @ directions
        squares = (gram.square().sum((-2, -1)) - classes.count) / pairs
        spread = (squares - mean.square()).sqrt()
    return undefined(spread, ((norms <= 0) & (classes.present > 0)).any(-1))


def _distance_from_simplex(classes: _ClassMeans) -> Tensor:
    """Return `‖MᵀM/‖MᵀM‖_F − S‖_F`, S the Gram matrix of a simplex ETF, of norm 1."""
    between, count = classes.between, classes.count
    k, p = between.shape[-2:]
    if k <= p + 1:
        gram = between @ between.mT
        present = classes.present
        centring = torch.diag_embed(present) - (
            present[..., :, None] * present[..., None, :] / count[..., None, None]
        )
        gram = gram / gram.square().sum((-2, -1), keepdim=True).sqrt()
        difference = gram - centring / (count - 1).sqrt()[..., None, None]
        return difference.square().sum((-2, -1)).sqrt()
    gram = between.mT @ between
    # Both have norm 1. Columns of M sum to zero, so ⟨MᵀM, I − 11ᵀ/C⟩ is just the trace.
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    overlap = trace / gram.square().sum((-2, -1)).sqrt() / (count - 1).sqrt()
    return (2.0 - 2.0 * overlap).sqrt()


def _rows_for(head: Tensor, which: Tensor | None, classes: _ClassMeans) -> Tensor:
    """Return the head's rows for the classes, `(..., k, p)`, zero for those without samples.

    A single logit u stands for (−u/2, u/2).
    """
    rows = head.to(classes.means)
    if len(rows) == 1:
        rows = torch.cat([-rows / 2, rows / 2])
    return (rows if which is None else rows[which]) * classes.present[..., None]


def _nc3(classes: _ClassMeans, rows: Tensor, basis: Tensor | None) -> Tensor:
    means = classes.between if basis is None else classes.between @ basis.mT
    size = rows.square().sum((-2, -1), keepdim=True).sqrt()
    length = means.square().sum((-2, -1), keepdim=True).sqrt()
    apart = (rows / size - means / length).square().sum((-2, -1))
    return undefined(apart, size[..., 0, 0] <= 0)
