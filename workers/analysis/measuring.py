"""How well a model's answers fit the targets, fold by fold."""

import torch
from torch import Tensor

from workers.diagnostics import Answer, Performance

# Numbers that wait for being measured: a fold has few rows of a batch, and each measuring takes
# about as long for these as for a thousand.
_WAITING = 1 << 20


class FoldPerformances:
    """Sums of correct answers and loss over the rows of each fold, filled batch by batch.

    Args:
        answer: What the model's answer is.
        folds: How many there are.
    """

    def __init__(self, answer: Answer, folds: int) -> None:
        self._answer = answer
        self._performances = [Performance()] * folds
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._numbers = 0

    def add(self, values: Tensor, targets: Tensor, dealt: Tensor) -> None:
        """Take the next rows.

        Args:
            values: Of the model's answer, as `Answer.values` gives them, `(rows, C)`.
            targets: Labels `(rows,)`, or values `(rows, d)`.
            dealt: The fold of each row, `(rows,)`.

        Raises:
            IncompatibleShapesError: The targets do not fit the answer.
        """
        # A copy: the values may be a small part of what the model returned.
        self._waiting.append((values.clone(), targets, dealt))
        self._numbers += values.numel() + targets.numel()
        if self._numbers >= _WAITING:
            self._measure()

    def by_fold(self) -> list[Performance]:
        """Return those of each fold, over everything taken so far."""
        self._measure()
        return self._performances

    def _measure(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._numbers = 0
        if not waiting:
            return
        values, targets, dealt = (torch.cat(each) for each in zip(*waiting, strict=True))
        for fold in sorted(set(dealt.tolist())):
            rows = (dealt == fold).nonzero().flatten()
            self._performances[fold] += self._answer.measure(
                values.index_select(0, rows), targets.index_select(0, rows)
            )
