"""One pass over the samples for many layers: sums of all their features at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Self

import torch
from torch import Tensor

from workers.diagnostics.class_sums import Indicators, indicators, united, widened
from workers.diagnostics.folds import Dealing, joined
from workers.diagnostics.moments import Moments

LAYER_FOLDS = 5
"""Number of folds of a layer with intervals: half as many as for Φ, since each takes a p×p sum."""

# As for the folds of Φ: a product of a few rows would move the sums through memory for little work.
_BUFFERED_ROWS = 1024


class _Batch(NamedTuple):
    """Rows waiting to be multiplied."""

    features: Sequence[Tensor]
    outputs: Tensor
    targets: Tensor | None
    weights: Tensor | None


@dataclass(eq=False)
class _Part:
    """Sums over some samples of one layer's p features.

    Attributes:
        gram: Products of the features with one another, `(p, p)`.
        cross: Products with the outputs, target values, and 1, `(p, m)`.
        classes: Classes that occur, `(k,)`.
        by_class: Sums of the features over each of these classes, `(p, k)`.
    """

    gram: Tensor
    cross: Tensor
    classes: Tensor
    by_class: Tensor

    @classmethod
    def zeros(cls, p: int, functions: int, device: torch.device) -> Self:
        """Build sums over no samples, for that many functions."""
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        none = zeros(0, dtype=torch.int64)
        return cls(zeros(p, p), zeros(p, functions), none, zeros(p, 0))

    def add(self, phi: Tensor, functions: "_Functions") -> None:
        """Add rows of features `(rows, p)`, weighted."""
        self.gram.addmm_(phi.T, phi)
        self.cross.addmm_(phi.T, functions.values)
        if functions.of_class is None:
            return
        here, values = functions.of_class
        classes = united(self.classes, here)
        self.by_class = widened(self.by_class, self.classes, classes)
        self.by_class.index_add_(1, torch.searchsorted(classes, here), phi.T @ values)
        self.classes = classes


class _Functions(NamedTuple):
    """Functions on some rows that are the same for every layer.

    Attributes:
        values: Outputs, target values, and 1, weighted `(rows, m)`.
        of_class: Weighted class indicators; None if targets are values.
    """

    values: Tensor
    of_class: Indicators | None


class LayerSums:
    """Sums over samples of the features of several layers at once, in float64.

    Sums that involve only outputs F and targets Y are the same for every layer. They are kept once,
    because with a thousand outputs they would outweigh the rest. Sums are on the device of the
    outputs.

    Args:
        widths: Number of features of each layer.
        n: Number of samples.
        in_folds: For each layer, whether it is summed by fold; if not, over all samples at once.
        seed: Seed of the dealing to folds, which is random as in `Folds`.
        classes: Number of classes that labels distinguish; None if targets are values.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        n: int,
        in_folds: Sequence[bool],
        seed: int = 0,
        classes: int | None = None,
    ) -> None:
        self._dealing = Dealing(n, count=LAYER_FOLDS, seed=seed)
        self._widths = widths
        self._counts = [LAYER_FOLDS if split else 1 for split in in_folds]
        self._classes = classes
        self._parts: list[list[_Part]] = []
        # Moments with a single feature, 1 everywhere: all sums that are the same for every layer.
        self._functions: list[Moments] = []
        self._waiting: list[_Batch] = []

    def update(
        self,
        features: Sequence[Tensor],
        outputs: Tensor,
        targets: Tensor | None,
        weights: Tensor | None = None,
    ) -> None:
        """Add a batch of samples.

        Args:
            features: Features of each layer, `(batch, p)`, any real dtype, on any device.
            outputs: Outputs of the network's final linear layer, `(batch, c)`.
            targets: Values `(batch, d)`, labels `(batch,)`, or None; the same kind in every call.
            weights: Weight of each sample, positive, `(batch,)`, or None for 1 each; the same kind
                in every call.
        """
        self._waiting.append(_Batch(features, outputs, targets, weights))
        if sum(len(batch.outputs) for batch in self._waiting) >= _BUFFERED_ROWS:
            self._multiply()

    def moments(self) -> Iterator[list[Moments]]:
        """Yield the moments of each layer's features with the network's outputs and targets.

        Yields:
            Moments of each fold, or of all samples at once if the layer is not summed by fold.
        """
        self._multiply()
        if not self._functions:
            return
        entire = [sum(self._functions[1:], self._functions[0])]
        for parts in self._parts:
            yield [
                replace(
                    functions,
                    phi=part.cross[:, -1],
                    phi_phi=part.gram,
                    phi_f=part.cross[:, : functions.c],
                    phi_y=part.cross[:, functions.c : -1]
                    if self._classes is None
                    else part.by_class,
                )
                for functions, part in zip(
                    entire if len(parts) == 1 else self._functions, parts, strict=True
                )
            ]

    def _multiply(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        batches, outputs, targets, weights = zip(*waiting, strict=True)
        dealt = self._dealing.deal(sum(map(len, outputs)))
        order = dealt.argsort(stable=True)  # the rows of each fold one after another
        sizes = dealt.bincount(minlength=LAYER_FOLDS).tolist()
        f = torch.cat(outputs)
        order = order.to(f.device)
        f = f[order].double()
        y, w = (
            None if rows is None else rows.to(f.device)[order]
            for rows in (joined(targets), joined(weights))
        )
        if not self._functions:
            self._begin(f, y)
        folds = [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        for moments, rows in zip(self._functions, folds, strict=True):
            moments.update(f.new_ones(len(f[rows]), 1), f[rows], _some(y, rows), _some(w, rows))
        whole = slice(0, len(f))
        functions = {
            count: [self._of_rows(f, y, w, rows) for rows in parts]
            for count, parts in ((1, [whole]), (LAYER_FOLDS, folds))
        }
        for parts, features in zip(self._parts, zip(*batches, strict=True), strict=True):
            phi = _weighted(torch.cat(features).to(f.device)[order].double(), w)
            places = [whole] if len(parts) == 1 else folds
            for part, rows, beside in zip(parts, places, functions[len(parts)], strict=True):
                part.add(phi[rows], beside)

    def _begin(self, f: Tensor, y: Tensor | None) -> None:
        by_class = self._classes is not None
        values = 0 if y is None or by_class else y.shape[1]
        targets = self._classes if self._classes is not None else values
        self._functions = [
            Moments.zeros(1, f.shape[1], targets, by_class=by_class, device=f.device)
            for _ in range(LAYER_FOLDS)
        ]
        self._parts = [
            [_Part.zeros(p, f.shape[1] + values + 1, f.device) for _ in range(count)]
            for p, count in zip(self._widths, self._counts, strict=True)
        ]

    def _of_rows(self, f: Tensor, y: Tensor | None, w: Tensor | None, rows: slice) -> _Functions:
        one = f.new_ones(len(f[rows]), 1)
        weights = _some(w, rows)
        if self._classes is None or y is None:
            values = [f[rows], one] if y is None else [f[rows], y[rows], one]
            return _Functions(_weighted(torch.cat(values, 1), weights), None)
        here, of_class = indicators(y[rows])
        return _Functions(
            _weighted(torch.cat([f[rows], one], 1), weights),
            Indicators(here, _weighted(of_class, weights)),
        )


def _some(values: Tensor | None, rows: slice) -> Tensor | None:
    return None if values is None else values[rows]


def _weighted(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Scale rows so that their plain products are the weighted ones."""
    return rows if weights is None else weights.double().sqrt()[:, None] * rows
