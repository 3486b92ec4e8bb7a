"""One pass over the samples for many layers: sums of all their features at once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from workers.diagnostics.folds import Dealing, joined
from workers.diagnostics.moments import Moments

LAYER_FOLDS = 5
"""Folds of a layer that has intervals: half of what Φ has, since each takes a p×p sum."""

# As for the folds of Φ: a product of a few rows would move the sums through memory for little work.
_BUFFERED_ROWS = 1024


class _Batch(NamedTuple):
    """Rows that wait for being multiplied."""

    features: Sequence[Tensor]
    outputs: Tensor
    targets: Tensor | None
    weights: Tensor | None


class LayerSums:
    """Sums over samples of the features of several layers at once, in float64.

    What concerns outputs F and targets Y alone is the same for every layer, and with a thousand
    outputs it would outweigh the rest, so it is summed once.

    Args:
        widths: Features of each layer.
        n: Samples in all.
        in_folds: Which layers are summed by fold; all others over all samples at once.
        seed: Of the dealing to folds, which is at random as in `Folds`.
    """

    def __init__(
        self, widths: Sequence[int], *, n: int, in_folds: Sequence[bool], seed: int = 0
    ) -> None:
        self._dealing = Dealing(n, count=LAYER_FOLDS, seed=seed)
        self._parts = [LAYER_FOLDS if split else 1 for split in in_folds]
        self._grams = [_zeros(parts, p, p) for parts, p in zip(self._parts, widths, strict=True)]
        self._crosses: list[Tensor] = []
        # Moments of the one feature that is 1 everywhere: all that is the same for every layer.
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
            features: Of each layer, `(batch, p)`, any real dtype.
            outputs: Outputs of the network's final linear layer, `(batch, c)`.
            targets: Targets `(batch, d)`, or None; always the same of the two.
            weights: How much each sample counts, positive, `(batch,)`; None: 1 each. Likewise.
        """
        self._waiting.append(_Batch(features, outputs, targets, weights))
        if sum(len(batch.outputs) for batch in self._waiting) >= _BUFFERED_ROWS:
            self._multiply()

    def moments(self) -> Iterator[list[Moments]]:
        """The moments of each layer's features with the network's outputs and targets.

        Yields:
            Those of each fold; of all samples at once where the layer is not summed by fold.
        """
        self._multiply()
        if not self._functions:
            return
        entire = [sum(self._functions[1:], self._functions[0])]
        for parts, grams, crosses in zip(self._parts, self._grams, self._crosses, strict=True):
            yield [
                replace(
                    functions,
                    phi=cross[:, -1],
                    phi_phi=gram,
                    phi_f=cross[:, : functions.c],
                    phi_y=cross[:, functions.c : -1],
                )
                for functions, gram, cross in zip(
                    entire if parts == 1 else self._functions, grams, crosses, strict=True
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
        y, w = (
            None if rows is None else rows[order] for rows in (joined(targets), joined(weights))
        )
        functions = self._add_functions(torch.cat(outputs)[order].double(), y, w, sizes)
        for parts, grams, crosses, features in zip(
            self._parts, self._grams, self._crosses, zip(*batches, strict=True), strict=True
        ):
            phi = _weighted(torch.cat(features)[order].double(), w)
            rows = [len(phi)] if parts == 1 else sizes
            for gram, cross, some, beside in zip(
                grams, crosses, torch.split(phi, rows), torch.split(functions, rows), strict=True
            ):
                gram.addmm_(some.T, some)
                cross.addmm_(some.T, beside)

    def _add_functions(
        self, f: Tensor, y: Tensor | None, w: Tensor | None, sizes: Sequence[int]
    ) -> Tensor:
        """Add up what is the same for every layer; returns outputs, targets and 1, weighted."""
        one = f.new_ones(len(f), 1)
        functions = torch.cat([f, one] if y is None else [f, y, one], 1)
        if not self._functions:
            shape = (1, f.shape[1], 0 if y is None else y.shape[1])
            self._functions = [Moments.zeros(*shape) for _ in range(LAYER_FOLDS)]
            self._crosses = [_zeros(*gram.shape[:2], functions.shape[1]) for gram in self._grams]
        start = 0
        for moments, size in zip(self._functions, sizes, strict=True):
            rows = slice(start, start + size)
            start += size
            if size:
                moments.update(
                    one[rows],
                    f[rows],
                    None if y is None else y[rows],
                    None if w is None else w[rows],
                )
        return _weighted(functions, w)


def _weighted(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Rows scaled so that their plain products are the weighted ones."""
    return rows if weights is None else weights.double().sqrt()[:, None] * rows


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)
