"""Neural collapse (Papyan, Han & Donoho, PNAS 2020): have the classes become single points?

NC1 to NC3 follow from the moments and the head; NC4 looks at single rows.

Of C class means in p < C dimensions the C×C Gram matrix has the eigenvalues of the p×p one and
zeros, so the smaller of the two is taken. That loses digits only for figures near 0, where means
would be C vectors at equal angles, which p < C − 1 dimensions have no room for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.linear_algebra import eigh
from workers.diagnostics.moments import Moments

_FEWEST_CLASSES = 2
# Distances from rows to means that are held at once: 32 MiB.
_BLOCK = 1 << 22
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
    """Means of the features of each class that has samples.

    Attributes:
        classes: Which classes these are, ascending `(C,)` int64.
        shares: Their shares of the weight `(C,)`.
        means: Their means `(C, p)`.
    """

    classes: Tensor
    shares: Tensor
    means: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """The class means of some samples."""
        classes, sums = _by_class(moments)
        weights = moments.y[classes]
        return cls(classes, weights / weights.sum(), (sums / weights).T)

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
    return NeuralCollapse(
        nc1=_nc1(moments, classes),
        nc1_quotient=_within(moments, classes) * len(between) / float(norm.square()),
        nc2_equinorm_means=float(norms.std(correction=0) / norms.mean()),
        nc2_equiangle_means=_spread_of_cosines(between, norms),
        nc2_etf_means=_distance_from_simplex(between),
        nc3=None if head is None else _nc3(between, _rows_for(head, classes.classes), basis),
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
    return nearest_mean_mismatches(moments, (), features, answers)[0]


def nearest_mean_mismatches(
    total: Moments, folds: Sequence[Moments], features: Tensor, answers: Tensor
) -> tuple[float | None, list[float | None]]:
    """NC4 of the class means of all samples, and of those that leave out one fold in turn.

    Distances to all means are found once; a fold moves the means of its own classes alone.

    Args:
        total: Sums that give the class means, over features as they are in `features`.
        folds: Sums over disjoint parts of these.
        features: `(m, p)`.
        answers: The class that the model tells for each row, `(m,)`.

    Returns:
        Both None with fewer than two classes.
    """
    classes = _ClassMeans.of(total)
    moved = [_moved(total, fold, classes) for fold in folds]
    wrong = [0] * (1 + len(folds))
    step = max(1, _BLOCK // max(len(classes.means), 1))
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        # Distances to means, but for ‖Φ − μ_G‖², which is the same for every class.
        from_centre = features[rows].double() - classes.means.mean(0)
        distances = _distances(from_centre, classes.between)
        wrong[0] += _mistaken(distances, classes, answers[rows])
        for number, (columns, means, gone) in enumerate(moved, start=1):
            others = _distances(from_centre, means).masked_fill_(gone, torch.inf)
            before = distances[:, columns]
            distances[:, columns] = others
            wrong[number] += _mistaken(distances, classes, answers[rows])
            distances[:, columns] = before
    present = [len(classes.means) - int(gone.sum()) for _, _, gone in moved]
    shares = [
        count / len(features) if found >= _FEWEST_CLASSES else None
        for count, found in zip(wrong, (len(classes.means), *present), strict=True)
    ]
    return shares[0], shares[1:]


class _Moved(NamedTuple):
    """Class means that move once a fold is left out.

    Attributes:
        columns: Which of the classes they are of, `(k,)`.
        means: They less the mean of all class means with the fold, `(k, p)`.
        gone: Whether a class has no sample any more, `(k,)`.
    """

    columns: Tensor
    means: Tensor
    gone: Tensor


def _moved(total: Moments, fold: Moments, classes: _ClassMeans) -> _Moved:
    theirs, sums = _by_class(fold)
    columns = torch.searchsorted(classes.classes, theirs)
    gone = total.y_count[theirs] <= fold.y_count[theirs]
    weights = torch.where(gone, 1.0, total.y[theirs] - fold.y[theirs])
    means = (_by_class(total)[1][:, columns] - sums) / weights
    return _Moved(columns, means.T - classes.means.mean(0), gone)


def _by_class(moments: Moments) -> tuple[Tensor, Tensor]:
    """The classes that have samples `(C,)`, and their sums of features `(p, C)`."""
    if moments.classes is not None:
        return moments.classes, moments.phi_y
    present = torch.nonzero(moments.y > 0).flatten()
    return present, moments.phi_y[:, present]


def _distances(from_centre: Tensor, means: Tensor) -> Tensor:
    return torch.addmm(means.square().sum(1), from_centre, means.T, alpha=-2.0)


def _mistaken(distances: Tensor, classes: _ClassMeans, answers: Tensor) -> int:
    return int((classes.classes[distances.argmin(1)] != answers).sum())


def _within(moments: Moments, classes: _ClassMeans) -> float:
    """`tr Σ_W`: all second moments but those of the class means."""
    about_zero = float(moments.phi_phi.trace()) / moments.weight
    return max(0.0, about_zero - float(classes.shares @ classes.means.square().sum(1)))


def _nc1(moments: Moments, classes: _ClassMeans) -> float:
    """`tr(Σ_W Σ_B⁺)/C`: with `M = U S Qᵀ`, `Σ_B⁺ = C U S⁻² Uᵀ`.

    From `MᵀM = Q S² Qᵀ` or `M Mᵀ = U S² Uᵀ`, a quarter of the work of the SVD for a thousand
    classes. Directions with `S_j` below 1e-7 of the first are lost to it; such classes coincide.
    """
    between = classes.between
    count, p = between.shape
    squares, vectors = eigh(between @ between.T if count <= p else between.T @ between)
    floor = max(classes.rounding**2, _ROUNDING * count * float(squares[-1]))
    kept = (squares > floor).nonzero().flatten()[-(count - 1) :]
    along = vectors[:, kept].T
    if count <= p:
        along = along @ between / squares[kept].sqrt()[:, None]
    about_zero = ((along @ moments.phi_phi) * along).sum(1) / moments.weight
    within = about_zero - (along @ classes.means.T).square() @ classes.shares
    return max(0.0, float((within / squares[kept]).sum()))


def _spread_of_cosines(between: Tensor, norms: Tensor) -> float | None:
    """Standard deviation of the off-diagonal cosines; None if a class mean is the mean of all."""
    if not bool((norms > 0).all()):
        return None
    directions = between / norms[:, None]
    count, p = directions.shape
    if count <= p + 1:
        cosines = directions @ directions.T
        return float(cosines[~torch.eye(count, dtype=torch.bool)].std(correction=0))
    pairs = count * (count - 1)
    mean = (directions.sum(0).square().sum() - count) / pairs
    squares = ((directions.T @ directions).square().sum() - count) / pairs
    return float((squares - mean.square()).sqrt())


def _distance_from_simplex(between: Tensor) -> float:
    """`‖MᵀM/‖MᵀM‖_F − S‖_F`, S the Gram matrix of a simplex equiangular tight frame, of norm 1."""
    count, p = between.shape
    if count <= p + 1:
        gram = between @ between.T
        centring = torch.eye(count, dtype=torch.float64) - 1 / count
        return float((gram / gram.norm() - centring / (count - 1) ** 0.5).norm())
    gram = between.T @ between
    # Both have norm 1. Columns of M sum to zero, so ⟨MᵀM, I − 11ᵀ/C⟩ is the trace alone.
    overlap = gram.trace() / gram.norm() / (count - 1) ** 0.5
    return float((2.0 - 2.0 * overlap).sqrt())


def _rows_for(head: Tensor, classes: Tensor) -> Tensor:
    """Rows of the head for the classes present; a single logit u stands for (−u/2, u/2)."""
    rows = head.double()
    if len(rows) == 1:
        rows = torch.cat([-rows / 2, rows / 2])
    return rows[classes]


def _nc3(between: Tensor, rows: Tensor, basis: Tensor | None) -> float | None:
    means = between if basis is None else between @ basis.T
    size = rows.norm()
    if size <= 0:
        return None
    return float((rows / size - means / means.norm()).square().sum())
