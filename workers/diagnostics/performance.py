"""How good the answers are: accuracy and mean loss, from sums that add like the moments do."""

from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from torch import Tensor

Task = Literal["classification", "multilabel", "regression"]
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """Counts of right decisions for each of L labels over some samples; they add.

    Attributes:
        n: Number of samples.
        positives: Samples that have each label, `(L,)` int64.
        true_positives: Samples that have the label and are given it by the model, `(L,)`.
        true_negatives: Samples that neither have the label nor are given it, `(L,)`.
        all_right: Number of samples with every label right.
    """

    n: int
    positives: Tensor
    true_positives: Tensor
    true_negatives: Tensor
    all_right: int

    @classmethod
    def of(cls, decided: Tensor, wanted: Tensor) -> Self:
        """Count over some samples.

        Args:
            decided: Whether the model gives each label, `(rows, L)` bool.
            wanted: Whether the samples have each label, `(rows, L)` of 0 and 1.
        """
        true = wanted > 0
        return cls(
            len(true),
            true.sum(0),
            (decided & true).sum(0),
            (~decided & ~true).sum(0),
            int((decided == true).all(1).sum()),
        )

    def without(self, part: Self) -> Self:
        """Return the counts over the samples left when those of `part` are taken out."""
        return type(self)(
            self.n - part.n,
            self.positives - part.positives,
            self.true_positives - part.true_positives,
            self.true_negatives - part.true_negatives,
            self.all_right - part.all_right,
        )

    @property
    def right(self) -> int:
        """Number of right decisions, over all labels."""
        return int(self.true_positives.sum() + self.true_negatives.sum())

    @property
    def subset_accuracy(self) -> float:
        """Share of samples with every label right."""
        return self.all_right / self.n

    @property
    def informedness(self) -> float | None:
        """Mean over labels of true positive rate + true negative rate − 1.

        This is Youden's J: 0 for guessing in any proportion, 1 for perfect. The mean is over labels
        that some samples have and others lack; None if there are none.
        """
        negatives = self.n - self.positives
        both = (self.positives > 0) & (negatives > 0)
        if not bool(both.any()):
            return None
        rates = (
            self.true_positives[both] / self.positives[both],
            self.true_negatives[both] / negatives[both],
        )
        return float((rates[0].double() + rates[1].double() - 1).mean())

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.n + other.n,
            self.positives + other.positives,
            self.true_positives + other.true_positives,
            self.true_negatives + other.true_negatives,
            self.all_right + other.all_right,
        )


@dataclass(frozen=True, eq=False)
class Performance:
    """Sums over samples of right answers and of the loss. Start from `Performance()` and add.

    Attributes:
        n: Number of samples.
        correct: Number of right decisions, of one per sample or one per sample and label. None
            where the answers decide nothing.
        total_loss: Sum of the loss over samples, in nats except for regression; None if no loss
            applies to the answers.
        labels: Counts by label; None unless samples may have several labels.
        decisions: Number of decisions; None: one per sample.

    Example:
        >>> (Performance(2, correct=1, total_loss=0.5) + Performance(2, 2, 0.3)).accuracy
        0.75
    """

    n: int = 0
    correct: int | None = 0
    total_loss: float | None = 0.0
    labels: LabelCounts | None = None
    decisions: int | None = None

    @property
    def accuracy(self) -> float | None:
        """Share of decisions that are right; None for regression or without samples."""
        if self.correct is None or not self.n:
            return None
        return self.correct / (self.n if self.decisions is None else self.decisions)

    @property
    def loss(self) -> float | None:
        """Mean loss per sample; None without samples, or without a loss."""
        return self.total_loss / self.n if self.n and self.total_loss is not None else None

    def __add__(self, other: Self) -> Self:
        if not self.n or not other.n:
            return self if self.n else other
        return type(self)(
            self.n + other.n,
            _sum(self.correct, other.correct),
            _sum(self.total_loss, other.total_loss),
            None if self.labels is None or other.labels is None else self.labels + other.labels,
            _sum(self.decisions, other.decisions),
        )

    def without(self, part: Self) -> Self:
        """Return the sums over the samples left without those of `part`; empty if none is left."""
        if self.n == part.n:
            return type(self)()
        if not part.n:
            return self
        return type(self)(
            self.n - part.n,
            _difference(self.correct, part.correct),
            _difference(self.total_loss, part.total_loss),
            None
            if self.labels is None or part.labels is None
            else self.labels.without(part.labels),
            _difference(self.decisions, part.decisions),
        )


def _sum(one: _Number | None, other: _Number | None) -> _Number | None:
    """Return the sum; None if either is unknown."""
    return None if one is None or other is None else one + other


def _difference(one: _Number | None, other: _Number | None) -> _Number | None:
    """Return the difference; None if either is unknown."""
    return None if one is None or other is None else one - other
