"""How good the answers are: accuracy and mean loss, from sums that add like the moments do."""

from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from torch import Tensor

Task = Literal["classification", "multilabel", "regression"]
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often each of L labels was right, over some samples. They add.

    Attributes:
        n: Number of samples.
        positives: Samples that have each label, `(L,)` int64.
        true_positives: Those of them for which the model says so, `(L,)`.
        true_negatives: Samples without the label for which the model says so, `(L,)`.
        all_right: Samples with every label right.
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
            decided: Which labels the model gives, `(rows, L)` bool.
            wanted: Which they have, `(rows, L)` of 0 and 1.
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
        """Counts over the samples left when those of `part` are taken out."""
        return type(self)(
            self.n - part.n,
            self.positives - part.positives,
            self.true_positives - part.true_positives,
            self.true_negatives - part.true_negatives,
            self.all_right - part.all_right,
        )

    @property
    def right(self) -> int:
        """Decisions that are right, of all labels together."""
        return int(self.true_positives.sum() + self.true_negatives.sum())

    @property
    def subset_accuracy(self) -> float:
        """Share of samples with every label right."""
        return self.all_right / self.n

    @property
    def informedness(self) -> float | None:
        """Mean over labels of the true positive rate and the true negative rate, less one.

        Youden's J: 0 for guessing whatever the guess, 1 for perfect. Of labels that some samples
        have and others do not; None if there is none.
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
        correct: How many decisions were right: one a sample, or one for each of its labels. None
            where the answers decide nothing.
        total_loss: Sum of the loss per sample, in nats but for regression; None where there is no
            loss that the answers are fit for.
        labels: Counts by label; None unless samples may have several.
        decisions: How many there were; None: one a sample.

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
        """Sums over the samples left when those of `part` are taken out; none of all."""
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
    """The sum; None if either is unknown."""
    return None if one is None or other is None else one + other


def _difference(one: _Number | None, other: _Number | None) -> _Number | None:
    """The difference; None if either is unknown."""
    return None if one is None or other is None else one - other
