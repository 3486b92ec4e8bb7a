"""What a model's answer f = link(u) is: what it decides, and which loss it is fit for.

What f is, is never taken from the name of an operation. The link is evaluated on outputs u that
cover what outputs can be, and f is what it then shows itself to be.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from workers.diagnostics.errors import IncompatibleShapesError
from workers.diagnostics.performance import LabelCounts, Performance, Task
from workers.diagnostics.recognition import Form, recognise, recognise_values

LossKind = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]

_VALUES_AT_ONCE = 1 << 22

_THRESHOLDS: dict[Form, float] = {
    "logits": 0.0,
    "signed scores": 0.0,
    "probabilities": 0.5,
    "decisions": 0.5,
    "log-probabilities": math.log(0.5),
}


@dataclass(frozen=True)
class Answer:
    """What a model's answer f is, for a task.

    Attributes:
        task: What the targets are.
        form: What f shows itself to be, each output by itself or all together; `unknown` where
            there is no f that has a row for each row of u and fits what u decides.
        exclusive: Whether the outputs are classes that exclude each other: their probabilities sum
            to one. Otherwise each output stands for itself, as a single one does.
        sign: 1 or −1 where f is a softmax or sigmoid of u or −u, or u itself: the loss is then of
            these, in full precision. 0: it is of f.
        smallest: Probabilities below it count as it: the smallest that f's dtype holds in full
            precision.
    """

    task: Task
    form: Form
    exclusive: bool
    sign: int = 0
    smallest: float = torch.finfo(torch.float32).tiny

    @classmethod
    def of_logits(cls, task: Task, outputs: int) -> Self:
        """The answer of a model that returns u itself.

        Args:
            task: What the targets are.
            outputs: C.
        """
        if task == "regression":
            return cls(task, "values", exclusive=False)
        return cls(task, "logits", exclusive=task == "classification" and outputs > 1, sign=1)

    @classmethod
    def of_link(
        cls, task: Task, link: Callable[[Tensor], Tensor], outputs: int, dtype: torch.dtype
    ) -> Self:
        """Finds out what f is, from what the link makes of outputs all over their range.

        Args:
            task: What the targets are.
            link: Gives f, `(rows, C)`, for rows of u.
            outputs: C.
            dtype: That of u, in which the link works.
        """
        if task == "regression":
            return cls(task, "values", exclusive=False)
        found = recognise(link, outputs, dtype)
        form, exclusive, sign = found.form, found.exclusive, found.sign
        if task == "classification" and found.is_coupled:
            form = "scores"  # classes exclude each other, and these do not sum to one
        if task == "multilabel" and exclusive:
            sign = 0  # each label is judged by its own probability, whatever the others have
        if form == "logits" and not sign:
            exclusive = task == "classification" and outputs > 1
        if form == "logits" and sign:
            return cls.of_logits(task, outputs)
        return cls(task, form, exclusive=exclusive, sign=sign, smallest=found.smallest)

    @classmethod
    def unknown(cls, task: Task) -> Self:
        """The answer of a model of which only the largest output tells something."""
        return cls(task, "values" if task == "regression" else "scores", exclusive=False)

    @classmethod
    def of_values(cls, task: Task, answers: Tensor, outputs: int) -> Self:
        """Finds out what f is where its link is not known, from values of it alone.

        These show probabilities of classes, which sum to one. Whether others are logits cannot be
        seen, so they are scores, of which only the largest counts.

        Args:
            task: What the targets are.
            answers: f, a row for each row of u.
            outputs: C.
        """
        are_two_of_one = task == "classification" and (outputs, answers.shape[1]) == (1, 2)
        if answers.shape[1] != outputs and not are_two_of_one:
            return cls.none(task)
        if task == "regression":
            return cls(task, "values", exclusive=False)
        f = answers.double()
        form, exclusive = recognise_values(f) if f.shape[1] > 1 else ("scores", False)
        dtype = answers.dtype if answers.is_floating_point() else torch.float32
        return cls(task, form, exclusive=exclusive, smallest=torch.finfo(dtype).tiny)

    @classmethod
    def none(cls, task: Task) -> Self:
        """The answer of a model of which nobody knows how it answers for the rows of u."""
        return cls(task, "unknown", exclusive=False)

    @property
    def is_known(self) -> bool:
        """Whether there are answers that can be judged at all."""
        return self.form != "unknown"

    @property
    def name(self) -> str:
        """What f is, in words."""
        if self.form in ("probabilities", "log-probabilities"):
            return f"{self.form} {'of classes' if self.exclusive else 'of each output'}"
        return self.form

    @property
    def loss_kind(self) -> LossKind | None:
        """The loss that f is fit for; None if it is fit for none."""
        if not self.is_known:
            return None
        if self.task == "regression":
            return "squared_error"
        if self._scale not in ("logits", "probabilities", "log-probabilities"):
            return None
        return (
            "cross_entropy"
            if self.exclusive and self.task == "classification"
            else "binary_cross_entropy"
        )

    def values(self, outputs: Tensor, answers: Tensor | None) -> Tensor:
        """What decisions and loss are of, `(rows, C)`, in the dtype it has, on the CPU.

        Args:
            outputs: u, `(rows, C)`.
            answers: f, `(rows, C)`; None if there is none that is known.
        """
        taken = (outputs if self.sign or answers is None else answers).detach().cpu()
        return -taken if self.sign < 0 else taken

    def decide(self, values: Tensor) -> Tensor | None:
        """What the model decides.

        Args:
            values: As `values` gives them.

        Returns:
            For classification the class of each row, `(rows,)` int64; for multilabel whether it has
            each label, `(rows, L)` bool. None for regression, and where f does not say from where
            on it stands for yes.
        """
        if self.task == "regression" or not self.is_known:
            return None
        scale = self._scale
        if self.sign and self.form == "probabilities" and not self.exclusive:
            # In the model's precision, where outputs that are all certain are alike.
            scale, values = self.form, torch.sigmoid(values)
        if self.task == "classification" and values.shape[1] > 1:
            return values.argmax(1)
        threshold = _THRESHOLDS.get(scale)
        if threshold is None:
            return None
        if self.task == "multilabel":
            return values >= threshold
        return (values[:, 0] > threshold).long()

    def measure(self, values: Tensor, targets: Tensor) -> Performance:
        """Sums of right answers and of the loss over some rows.

        Args:
            values: As `values` gives them.
            targets: The class of each row `(rows,)` or class indicators, labels' columns of 0 and
                1, or regression targets, `(rows, d)`.

        Raises:
            IncompatibleShapesError: The model has no output for some target.
        """
        targets = targets.detach().cpu()
        if not self.is_known:
            return Performance(len(values), correct=None, total_loss=None)
        if self.task == "classification":
            labels = targets.argmax(1) if targets.ndim > 1 else targets
            named = targets.shape[1] if targets.ndim > 1 else int(targets.max()) + 1
            self._check_classes(values.shape[1], named)
            measure, wanted = self._measure_classes, labels
        else:
            self._check_outputs(values.shape[1], targets.shape[1])
            measure = self._measure_values if self.task == "regression" else self._measure_labels
            wanted = targets.double()
        # In parts: in float64, 256 rows of 65,536 outputs are 128 MiB, and copies more.
        size = max(1, _VALUES_AT_ONCE // values.shape[1])
        parts = (
            measure(values[first : first + size], wanted[first : first + size])
            for first in range(0, len(values), size)
        )
        return sum(parts, Performance())

    @property
    def _scale(self) -> Form:
        """What `values` are."""
        return "logits" if self.sign else self.form

    def _check_classes(self, outputs: int, classes: int) -> None:
        if classes > max(outputs, 2):
            raise IncompatibleShapesError(
                f"The labels name {classes} classes, the model tells {max(outputs, 2)} apart. Use "
                "a probe with the classes the model was trained on."
            )

    def _check_outputs(self, outputs: int, targets: int) -> None:
        if outputs != targets:
            one = "label" if self.task == "multilabel" else "target"
            raise IncompatibleShapesError(
                f"The model has {outputs} outputs, the probe {targets} {one}s a sample; expected "
                f"one {one} for each output."
            )

    def _measure_values(self, values: Tensor, wanted: Tensor) -> Performance:
        squared = (values.double() - wanted).square().mean(1).sum()
        return Performance(len(values), correct=None, total_loss=_finite(squared))

    def _measure_labels(self, values: Tensor, wanted: Tensor) -> Performance:
        decided = self.decide(values)
        labels = None if decided is None else LabelCounts.of(decided, wanted)
        return Performance(
            len(values),
            correct=None if labels is None else labels.right,
            total_loss=self._binary_loss(values.double(), wanted),
            labels=labels,
            decisions=wanted.numel(),
        )

    def _measure_classes(self, values: Tensor, wanted: Tensor) -> Performance:
        decided = self.decide(values)
        values = values.double()
        if values.shape[1] == 1:
            loss = self._loss_of_one(values, wanted)
        elif self.exclusive:
            loss = self._loss_of_classes(values, wanted)
        else:
            hot = functional.one_hot(wanted, values.shape[1])
            loss = self._binary_loss(values, hot.double())
        return Performance(
            len(values),
            correct=None if decided is None else int((decided == wanted).sum()),
            total_loss=loss,
        )

    def _loss_of_one(self, values: Tensor, labels: Tensor) -> float | None:
        if self._scale == "logits":
            # A single logit u stands for the two of its classes: sigmoid(u) is softmax of (0, u).
            two = functional.pad(values, (1, 0))
            return _finite(functional.cross_entropy(two, labels, reduction="sum"))
        return self._binary_loss(values, labels[:, None].double())

    def _loss_of_classes(self, values: Tensor, labels: Tensor) -> float | None:
        if self.loss_kind is None:
            return None
        if self._scale == "logits":
            return _finite(functional.cross_entropy(values, labels, reduction="sum"))
        yes, _ = self._logarithms(values.gather(1, labels[:, None]))
        return _finite(-yes.sum())

    def _binary_loss(self, values: Tensor, wanted: Tensor) -> float | None:
        """Sum over rows of the mean binary cross-entropy of the outputs."""
        if self.loss_kind is None:
            return None
        if self._scale == "logits":
            losses = functional.binary_cross_entropy_with_logits(values, wanted, reduction="none")
        else:
            yes, no = self._logarithms(values)
            losses = -(wanted * yes + (1 - wanted) * no)
        return _finite(losses.mean(1).sum())

    def _logarithms(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """`ln p` and `ln(1 − p)`, neither below that of the smallest probability."""
        logarithms = self._scale == "log-probabilities"
        p = values.exp() if logarithms else values
        yes, no = values if logarithms else p.log(), (-p.clamp(max=1.0)).log1p()
        floor = math.log(self.smallest)
        return yes.clamp(floor, 0.0), no.clamp(floor, 0.0)


def _finite(total: Tensor) -> float | None:
    """A sum over rows; None where answers are infinite."""
    return float(total) if bool(total.isfinite()) else None
