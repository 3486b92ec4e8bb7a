"""Neural collapse (Papyan, Han & Donoho, PNAS 2020): have the classes become single points?

NC1 to NC3 follow from the moments and the head; NC4 looks at single rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.intervals import Interval, unbiased_share_interval
from workers.diagnostics.moments import Moments

_FEWEST_CLASSES = 2
# Directions between class means below this share of the means themselves are rounding of the sums.
_ROUNDING = 64 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class NeuralCollapse:
    """How far the classes have collapsed; 0 is complete collapse for every figure.

    `μ_c` are the class means of the classes present, `μ_G` their plain mean, `M = [μ_c − μ_G]`,
    `Σ_W` the covariance within classes, `Σ_B = (1/C) M Mᵀ`. Figures are None where they are
    undefined: with fewer than two classes, without a head, or where all class means coincide.

    Attributes:
        nc1: `tr(Σ_W Σ_B⁺)/C`, pseudo-inverse of rank C − 1 at most.
        nc1_quotient: `tr Σ_W / tr Σ_B`.
        nc2_equinorm_means: `std ‖μ_c − μ_G‖ / mean ‖μ_c − μ_G‖`.
        nc2_equiangle_means: Standard deviation of the cosines between `μ_c − μ_G`.
        nc2_etf_means: `‖MᵀM/‖MᵀM‖_F − (I − 11ᵀ/C)/√(C−1)‖_F`.
        nc3: `‖W/‖W‖_F − Mᵀ/‖M‖_F‖²_F`, of the head's rows for the classes present.
    """

    nc1: float | None = None
    nc1_quotient: float | None = None
    nc2_equinorm_means: float | None = None
    nc2_equiangle_means: float | None = None
    nc2_etf_means: float | None = None
    nc3: float | None = None


@dataclass(frozen=True, eq=False)
class _ClassMeans:
    """Which classes are present `(d,)`, their shares of the weight `(C,)`, their means `(C, p)`."""

    present: Tensor
    shares: Tensor
    means: Tensor

    @classmethod
    def of(cls, moments: Moments) -> "_ClassMeans":
        present = moments.y > 0
        weights = moments.y[present]
        return cls(present, weights / weights.sum(), (moments.phi_y[:, present] / weights).T)

    @property
    def between(self) -> Tensor:
        """`μ_c − μ_G`, `(C, p)`."""
        return self.means - self.means.mean(0)

    @property
    def rounding(self) -> float:
        """Singular values of `between` up to this are rounding."""
        return _ROUNDING * max(self.means.shape) * float(self.means.norm())


def neural_collapse(
    moments: Moments, head: Tensor | None, *, basis: Tensor | None = None
) -> NeuralCollapse:
    """NC1 to NC3 of a classifier.

    Args:
        moments: Sums over features, outputs and class indicators.
        head: Weights of the final linear layer, `(c, p)`; None if they are not known.
        basis: Orthonormal `(p, q)` if the moments are of coordinates `z = basisᵀ Φ`.
    """
    classes = _ClassMeans.of(moments)
    between = classes.between
    norm = between.norm()
    if len(between) < _FEWEST_CLASSES or norm <= classes.rounding:
        return NeuralCollapse()
    norms = between.norm(dim=1)
    gram = between @ between.T
    return NeuralCollapse(
        nc1=_nc1(moments, classes),
        nc1_quotient=_within(moments, classes) * len(between) / float(norm.square()),
        nc2_equinorm_means=float(norms.std(correction=0) / norms.mean()),
        nc2_equiangle_means=_spread_of_cosines(gram),
        nc2_etf_means=float((gram / gram.norm() - _simplex(len(between))).norm()),
        nc3=None if head is None else _nc3(between, _rows_for(head, classes.present), basis),
    )


def nearest_mean_mismatch(moments: Moments, features: Tensor, answers: Tensor) -> float | None:
    """NC4: the share of rows whose answer is not the class with the nearest mean.

    Args:
        moments: Sums that give the class means, over features as they are in `features`.
        features: `(m, p)`.
        answers: The class that the model tells for each row, `(m,)`.

    Returns:
        None with fewer than two classes.
    """
    classes = _ClassMeans.of(moments)
    if len(classes.means) < _FEWEST_CLASSES:
        return None
    # Distances to means, but for ‖Φ − μ_G‖², which is the same for every class.
    from_centre = features.double() - classes.means.mean(0)
    distances = classes.between.square().sum(1) - 2 * from_centre @ classes.between.T
    nearest = torch.nonzero(classes.present).flatten()[distances.argmin(1)]
    return float((nearest != answers).double().mean())


def mismatch_interval(
    mismatch: float | None,
    folds: Sequence[Moments],
    total: Moments,
    features: Tensor,
    answers: Tensor,
    *,
    trials: int,
) -> Interval | None:
    """95 % interval of NC4, whose class means are estimated from the rows that it is a share of.

    Args:
        mismatch: NC4.
        folds: Sums over disjoint sets of rows.
        total: Their sum.
        features: `(m, p)`.
        answers: The class that the model tells for each row, `(m,)`.
        trials: How many of these rows are independent.
    """
    return unbiased_share_interval(
        mismatch,
        [nearest_mean_mismatch(total.without(fold), features, answers) for fold in folds],
        [fold.n for fold in folds],
        trials,
    )


def _within(moments: Moments, classes: _ClassMeans) -> float:
    """`tr Σ_W`: all second moments but those of the class means."""
    about_zero = float(moments.phi_phi.trace()) / moments.weight
    return max(0.0, about_zero - float(classes.shares @ classes.means.square().sum(1)))


def _nc1(moments: Moments, classes: _ClassMeans) -> float:
    """`tr(Σ_W Σ_B⁺)/C`: with `M = U S Qᵀ`, `Σ_B⁺ = C U S⁻² Uᵀ`.

    From `MᵀM = Q S² Qᵀ`, a quarter of the work of the SVD for a thousand classes. Directions with
    `S_j` below 1e-7 of the first are lost to it; such classes coincide.
    """
    between = classes.between
    squares, mixing = torch.linalg.eigh(between @ between.T)
    floor = max(classes.rounding**2, _ROUNDING * len(between) * float(squares[-1]))
    kept = (squares > floor).nonzero().flatten()[-(len(between) - 1) :]
    along = mixing[:, kept].T @ between / squares[kept].sqrt()[:, None]
    about_zero = ((along @ moments.phi_phi) * along).sum(1) / moments.weight
    within = about_zero - (along @ classes.means.T).square() @ classes.shares
    return max(0.0, float((within / squares[kept]).sum()))


def _spread_of_cosines(gram: Tensor) -> float | None:
    """Of the off-diagonal entries; None if a class mean is the mean of all."""
    norms = gram.diagonal().sqrt()
    if not bool((norms > 0).all()):
        return None
    cosines = gram / torch.outer(norms, norms)
    apart = ~torch.eye(len(gram), dtype=torch.bool)
    return float(cosines[apart].std(correction=0))


def _simplex(classes: int) -> Tensor:
    """Gram matrix of a simplex equiangular tight frame, of unit norm."""
    centring = torch.eye(classes, dtype=torch.float64) - 1 / classes
    scaled: Tensor = centring / (classes - 1) ** 0.5
    return scaled


def _rows_for(head: Tensor, present: Tensor) -> Tensor:
    """Rows of the head for the classes present; a single logit u stands for (−u/2, u/2)."""
    rows = head.double()
    if len(rows) == 1:
        rows = torch.cat([-rows / 2, rows / 2])
    return rows[: len(present)][present]


def _nc3(between: Tensor, rows: Tensor, basis: Tensor | None) -> float | None:
    means = between if basis is None else between @ basis.T
    size = rows.norm()
    if size <= 0:
        return None
    return float((rows / size - means / means.norm()).square().sum())
