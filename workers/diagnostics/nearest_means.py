"""NC4: does the model answer as the nearest class mean does? (Papyan, Han & Donoho, PNAS 2020)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from workers.diagnostics.moments import Moments

_FEWEST_CLASSES = 2
# Distances from rows to means held in memory at once: 32 MiB.
_BLOCK = 1 << 22
# If the means of all folds hold at most this many numbers, one product serves all folds.
_TOGETHER = 1 << 18


@dataclass(frozen=True, eq=False)
class _ClassMeans:
    """Means of the features of each class that has samples.

    Attributes:
        classes: The classes with samples, ascending `(C,)` int64.
        means: Their class means, `(C, p)`.
        centre: Mean of the class means, `(p,)`.
    """

    classes: Tensor
    means: Tensor
    centre: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """Compute the class means of some samples."""
        classes, sums = _by_class(moments)
        means = (sums / moments.y[classes]).T
        return cls(classes, means, means.mean(0))


def nearest_mean_mismatches(
    total: Moments, folds: Sequence[Moments], features: Tensor, answers: Tensor
) -> tuple[float | None, list[float | None]]:
    """Compute NC4, the share of rows whose answer is not the class with the nearest mean.

    It is computed with the class means of all samples, and with those of all samples but one
    fold's, for each fold. Distances to all means are computed once, since leaving out a fold moves
    only the means of the classes in it.

    Args:
        total: Sums over all samples, in the same coordinates as `features`.
        folds: Sums over disjoint parts of these samples.
        features: `(m, p)`.
        answers: Class that the model chooses for each row, `(m,)`.

    Returns:
        NC4, and its value without each fold; None with fewer than two classes.
    """
    classes = _ClassMeans.of(total)
    answers = answers.to(total.device)
    moved = [_moved(total, fold, classes) for fold in folds]
    wrong = [0] * (1 + len(folds))
    step = max(1, _BLOCK // max(*classes.means.shape, 1))
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        some = features[rows].to(classes.means)
        distances = _distances(some, classes.means - classes.centre, classes.centre)
        wrong[0] += _mistaken(distances, classes, answers[rows])
        for number, (each, others) in enumerate(_from_moved(some, moved, classes.centre), start=1):
            others.masked_fill_(each.gone, torch.inf)
            has_all = others.shape == distances.shape
            replaced = others if has_all else distances.index_copy(1, each.columns, others)
            wrong[number] += _mistaken(replaced, classes, answers[rows])
    present = [len(classes.means) - int(each.gone.sum()) for each in moved]
    shares = [
        count / len(features) if found >= _FEWEST_CLASSES else None
        for count, found in zip(wrong, (len(classes.means), *present), strict=True)
    ]
    return shares[0], shares[1:]


class _Moved(NamedTuple):
    """Class means that move when a fold is left out.

    Attributes:
        columns: Positions of their classes among all classes, `(k,)`.
        means: Means without the fold, less the mean of all class means with the fold, `(k, p)`.
        gone: Whether the class has no samples left, `(k,)`.
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
    return _Moved(columns, means.T - classes.centre, gone)


def _from_moved(
    rows: Tensor, moved: Sequence[_Moved], centre: Tensor
) -> Iterator[tuple[_Moved, Tensor]]:
    """Yield each fold's means with the rows' distances to them; few means share one product."""
    sizes = [len(each.columns) for each in moved]
    if moved and sum(sizes) * rows.shape[1] <= _TOGETHER:
        means = torch.cat([each.means for each in moved])
        yield from zip(moved, torch.split(_distances(rows, means, centre), sizes, 1), strict=True)
        return
    for each in moved:
        yield each, _distances(rows, each.means, centre)


def _distances(rows: Tensor, means: Tensor, centre: Tensor) -> Tensor:
    """Compute squared distances less the squared norms of the rows, equal for every class.

    Args:
        rows: Features, `(m, p)`.
        means: Class means less the centre, `(C, p)`.
        centre: `(p,)`.
    """
    squares = means.square().sum(1) + 2 * means @ centre
    return torch.addmm(squares, rows, means.T, alpha=-2.0)


def _by_class(moments: Moments) -> tuple[Tensor, Tensor]:
    """Return the classes that have samples `(C,)`, and their sums of features `(p, C)`."""
    if moments.classes is not None:
        return moments.classes, moments.phi_y
    present = torch.nonzero(moments.y > 0).flatten()
    return present, moments.phi_y[:, present]


def _mistaken(distances: Tensor, classes: _ClassMeans, answers: Tensor) -> int:
    return int((classes.classes[distances.argmin(1)] != answers).sum())
