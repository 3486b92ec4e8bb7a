"""Dealing samples out to folds, so that leaving one fold out at a time measures uncertainty."""

import torch
from torch import Tensor

from workers.diagnostics.moments import Moments

# Rows gathered before they are multiplied: products of a few rows would move the p×p sums through
# memory for almost no arithmetic.
_BUFFERED_ROWS = 512


class Folds:
    """Moments of disjoint random parts of the samples, filled batch by batch.

    The dealing is random, not in turn: datasets are often sorted by class, or cycle through the
    classes, and a fold that held one class would make every interval wrong. Whole samples are
    dealt: the positions of one sample are alike, and in several folds they would hide how much
    the figures vary.

    Args:
        n: Samples in all.
        positions: Rows a sample.
        count: Folds.
        seed: Of the dealing.

    Attributes:
        count: Folds.
    """

    def __init__(self, n: int, *, positions: int = 1, count: int = 10, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._fold_of = (torch.arange(n) % count)[torch.randperm(n, generator=generator)]
        self._seen = 0
        self.count = count
        self._positions = positions
        self._moments: list[Moments] = []
        self._waiting: list[list[tuple[Tensor, Tensor, Tensor | None]]] = [[] for _ in range(count)]
        self._rows = [0] * count

    def update(self, phi: Tensor, outputs: Tensor, targets: Tensor | None) -> Tensor:
        """Deal out the next batch.

        Args:
            phi: Features `(batch · positions, p)`, all positions of the first sample first.
            outputs: Outputs `(batch · positions, c)`.
            targets: Targets `(batch · positions, d)`, or None; always the same of the two.

        Returns:
            The fold that each row went to, `(batch · positions,)`.
        """
        d = 0 if targets is None else targets.shape[1]
        if not self._moments:
            self._moments = [
                Moments.zeros(phi.shape[1], outputs.shape[1], d) for _ in range(self.count)
            ]
        samples = len(phi) // self._positions
        dealt = self._fold_of[self._seen : self._seen + samples].repeat_interleave(self._positions)
        self._seen += samples
        for fold in set(dealt.tolist()):
            rows = dealt == fold
            part = (phi[rows], outputs[rows], None if targets is None else targets[rows])
            self._waiting[fold].append(part)
            self._rows[fold] += len(part[0])
            if self._rows[fold] >= _BUFFERED_ROWS:
                self._multiply(fold)
        return dealt

    def moments(self) -> list[Moments]:
        """Return the folds' moments over everything dealt so far."""
        for fold in range(self.count):
            self._multiply(fold)
        return self._moments

    def _multiply(self, fold: int) -> None:
        waiting, self._waiting[fold] = self._waiting[fold], []
        self._rows[fold] = 0
        if not waiting:
            return
        features, outputs, targets = zip(*waiting, strict=True)
        labelled = [part for part in targets if part is not None]
        self._moments[fold].update(
            torch.cat(features), torch.cat(outputs), torch.cat(labelled) if labelled else None
        )
