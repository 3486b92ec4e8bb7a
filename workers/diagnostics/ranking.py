"""Average precision of labels: how well each label's scores rank the samples that have it.

It depends on the order of single samples, so sums over samples do not give it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.diagnostics.intervals import Interval, jackknife_interval

_VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class RankedLabels:
    """Scores and labels of single samples.

    Attributes:
        scores: The model's answer, `(m, L)`, any real dtype.
        labels: Whether the samples have each label, `(m, L)` bool.
        folds: Fold of each sample, `(m,)` int64.
    """

    scores: Tensor
    labels: Tensor
    folds: Tensor


@dataclass(frozen=True)
class AveragePrecision:
    """Mean over labels of the average precision.

    `AP = Σ_t (R_t − R_{t−1}) P_t` over the distinct scores t in decreasing order, with recall R_t
    and precision P_t of the samples that score at least t; there is no interpolation. Labels that
    no sample has are left out.

    Attributes:
        value: In [0, 1]; None if no sample has any label.
        confidence_interval: Its 95 % interval; None if it is undefined without some fold.
    """

    value: float | None
    confidence_interval: Interval | None


def average_precision(ranked: RankedLabels) -> AveragePrecision:
    """Compute the mean over labels, and its interval from leaving out one fold at a time.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.7], [0.1]])
        >>> labels = torch.tensor([[True], [False], [True], [False]])
        >>> average_precision(RankedLabels(scores, labels, torch.tensor([0, 0, 1, 1]))).value
        0.8333333333333333
    """
    present = sorted(set(ranked.folds.tolist()))
    counted = torch.stack(
        [torch.ones_like(ranked.folds, dtype=torch.bool)]
        + [ranked.folds != fold for fold in present]
    )
    sums = torch.zeros(len(counted), dtype=torch.float64)
    labels = torch.zeros(len(counted), dtype=torch.float64)
    width = max(1, _VALUES_AT_ONCE // len(ranked.scores))
    for first in range(0, ranked.scores.shape[1], width):
        # One row per label, so that what is sorted and summed is contiguous in memory.
        scores = ranked.scores[:, first : first + width].T.contiguous()
        order = scores.argsort(1, descending=True)
        true = ranked.labels[:, first : first + width].T.gather(1, order)
        last = _last_of_equals(scores.gather(1, order))
        for j, samples in enumerate(counted):
            found = _of_each_label(samples[order], true, last)
            there = ~found.isnan()
            sums[j] += found[there].sum()
            labels[j] += there.sum()
    value, *left_out = [
        float(total / count) if count else None for total, count in zip(sums, labels, strict=True)
    ]
    sizes = [int((ranked.folds == fold).sum()) for fold in present]
    return AveragePrecision(
        value, jackknife_interval(value, left_out, sizes, lowest=0.0, highest=1.0)
    )


def _last_of_equals(in_order: Tensor) -> Tensor:
    """Return for each place in decreasing order the last one with an equal score, `(L, m)`."""
    count = in_order.shape[1]
    ends = torch.full(in_order.shape, count)
    ends[:, -1] = count - 1
    different = in_order[:, :-1] != in_order[:, 1:]
    ends[:, :-1] = torch.where(different, torch.arange(count - 1), count)
    return ends.flip(1).cummin(1).values.flip(1)


def _of_each_label(counted: Tensor, true: Tensor, last: Tensor) -> Tensor:
    """Compute each label's average precision over the counted samples; NaN if none has it."""
    hits = counted & true
    precision = hits.cumsum(1).double() / counted.cumsum(1).clamp(min=1)
    found: Tensor = (hits * precision.gather(1, last)).sum(1, dtype=torch.float64) / hits.sum(1)
    return found
