"""How well a model's answers fit the targets, fold by fold."""

import torch
from torch import Tensor

from workers.diagnostics import Answer, Performance

# Numbers to buffer before they are measured: a batch has few rows of each fold, and measuring few
# rows takes about as long as measuring a thousand.
_WAITING = 1 << 20


class FoldPerformances:
    """Sums of correct answers and loss over the rows of each fold, filled batch by batch.

    Args:
        answer: Form of the model's answer.
        folds: Number of folds.
    """

    def __init__(self, answer: Answer, folds: int) -> None:
        self._answer = answer
        self._performances = [Performance()] * folds
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._numbers = 0

    def add(self, values: Tensor, targets: Tensor, dealt: Tensor) -> None:
        """Add the next rows.

        Args:
            values: Values of the model's answer, as `Answer.values` returns them, `(rows, C)`.
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
        """Return the sums of each fold, over all rows added so far."""
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
