"""How good the answers are: accuracy and mean loss, from sums that add like the moments do."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from workers.diagnostics.errors import IncompatibleShapesError

Task = Literal["classification", "multilabel", "regression"]


@dataclass(frozen=True)
class Performance:
    """Sums over samples of correct answers and of the loss. Start from `Performance()` and add.

    Attributes:
        n: Number of samples.
        correct: How many were classified correctly; None once regression samples were added.
        total_loss: Sum of the loss per sample, in nats for classification.

    Example:
        >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.eye(2)
        >>> (Performance() + Performance.of(logits, labels, task="classification")).accuracy
        1.0
    """

    n: int = 0
    correct: int | None = 0
    total_loss: float = 0.0

    @classmethod
    def of(cls, outputs: Tensor, targets: Tensor, *, task: Task) -> Self:
        """The sums over one batch.

        Classification takes cross-entropy of the logits, or of the one logit's sigmoid where the
        model has a single output. Regression takes the squared error, averaged over outputs.

        Args:
            outputs: Outputs of the final linear layer, before any softmax or sigmoid, `(batch, c)`.
            targets: Class indicators or regression targets `(batch, d)`.
            task: What the targets are.

        Raises:
            IncompatibleShapesError: The model has no output for some target.
        """
        logits = outputs.detach().to("cpu", torch.float64)
        wanted = targets.detach().to("cpu", torch.float64)
        if task != "classification":
            return cls(len(logits), None, _squared_error(logits, wanted))
        logits = _two_sided(logits)
        if wanted.shape[1] > logits.shape[1]:
            raise IncompatibleShapesError(
                f"The labels name {wanted.shape[1]} classes, the model tells {logits.shape[1]} "
                "apart. Use a probe with the classes the model was trained on."
            )
        labels = wanted.argmax(1)
        return cls(
            len(logits),
            int((logits.argmax(1) == labels).sum()),
            float(functional.cross_entropy(logits, labels, reduction="sum")),
        )

    @property
    def accuracy(self) -> float | None:
        """Share of samples classified correctly; None for regression or without samples."""
        return None if self.correct is None or not self.n else self.correct / self.n

    @property
    def loss(self) -> float | None:
        """Mean loss per sample; None without samples."""
        return self.total_loss / self.n if self.n else None

    def __add__(self, other: Self) -> Self:
        correct = (
            None if self.correct is None or other.correct is None else self.correct + other.correct
        )
        return type(self)(self.n + other.n, correct, self.total_loss + other.total_loss)


def answers(outputs: Tensor) -> Tensor:
    """The class that a model tells for each row, `(rows,)` int64.

    Args:
        outputs: Outputs of the final linear layer, before any softmax or sigmoid, `(rows, c)`.
    """
    return _two_sided(outputs).argmax(1)


def _two_sided(logits: Tensor) -> Tensor:
    """A single logit u as the two of its classes: sigmoid(u) is the softmax of (0, u)."""
    return functional.pad(logits, (1, 0)) if logits.shape[1] == 1 else logits


def _squared_error(outputs: Tensor, targets: Tensor) -> float:
    if outputs.shape != targets.shape:
        raise IncompatibleShapesError(
            f"The model has {outputs.shape[1]} outputs, the probe {targets.shape[1]} targets a "
            "sample. Regression needs one target for each output."
        )
    return float((outputs - targets).square().mean(1).sum())
