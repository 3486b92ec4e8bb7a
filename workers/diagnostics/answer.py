"""The form of a model's answer f = link(u), its decisions, and the loss that applies to it.

The form of f is never inferred from the name of an operation. The link is evaluated on outputs u
that cover their possible range, and the form is recognized from the values of f there.
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
    """Form of a model's answer f, for a task.

    Attributes:
        task: Kind of the targets.
        form: What the values of f are, per output or over all outputs together; `unknown` if there
            is no f that has one row for each row of u and agrees with what u decides.
        exclusive: Whether the outputs are mutually exclusive classes, whose probabilities sum to
            one. Otherwise each output is judged on its own, as a single output always is.
        sign: 1 or −1 where f is a softmax or sigmoid of u or −u, or u itself: the loss is then
            computed from u or −u, in full precision. 0: it is computed from f.
        smallest: Lower bound that probabilities are raised to: the smallest number that f's dtype
            holds in full precision.
    """

    task: Task
    form: Form
    exclusive: bool
    sign: int = 0
    smallest: float = torch.finfo(torch.float32).tiny

    @classmethod
    def of_logits(cls, task: Task, outputs: int) -> Self:
        """Build the answer of a model that returns u itself.

        Args:
            task: Kind of the targets.
            outputs: Number of outputs, C.
        """
        if task == "regression":
            return cls(task, "values", exclusive=False)
        return cls(task, "logits", exclusive=task == "classification" and outputs > 1, sign=1)

    @classmethod
    def of_link(
        cls, task: Task, link: Callable[[Tensor], Tensor], outputs: int, dtype: torch.dtype
    ) -> Self:
        """Find out the form of f by evaluating the link on outputs across their range.

        Args:
            task: Kind of the targets.
            link: Maps rows of u to f, `(rows, C)`.
            outputs: Number of outputs, C.
            dtype: Data type of u, in which the link computes.
        """
        if task == "regression":
            return cls(task, "values", exclusive=False)
        found = recognise(link, outputs, dtype)
        form, exclusive, sign = found.form, found.exclusive, found.sign
        if task == "classification" and found.is_coupled:
            form = "scores"  # classes exclude each other, and these do not sum to one
        if task == "multilabel" and exclusive:
            sign = 0  # each label is judged by its own probability alone
        if form == "logits" and not sign:
            exclusive = task == "classification" and outputs > 1
        if form == "logits" and sign:
            return cls.of_logits(task, outputs)
        return cls(task, form, exclusive=exclusive, sign=sign, smallest=found.smallest)

    @classmethod
    def unknown(cls, task: Task) -> Self:
        """Build the answer of a model if nothing is known of it but which output is largest."""
        return cls(task, "values" if task == "regression" else "scores", exclusive=False)

    @classmethod
    def of_values(cls, task: Task, answers: Tensor, outputs: int) -> Self:
        """Find out the form of f from its values alone, where the link is not known.

        Class probabilities are recognized because they sum to one. Whether other values are logits
        cannot be told from them, so they count as scores, of which only the largest matters.

        Args:
            task: Kind of the targets.
            answers: f, one row for each row of u.
            outputs: Number of outputs, C.
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
        """Build the answer of a model whose f is not known for the rows of u."""
        return cls(task, "unknown", exclusive=False)

    @property
    def is_known(self) -> bool:
        """Whether there are answers that can be judged at all."""
        return self.form != "unknown"

    @property
    def name(self) -> str:
        """Form of f, in words."""
        if self.form in ("probabilities", "log-probabilities"):
            return f"{self.form} {'of classes' if self.exclusive else 'of each output'}"
        return self.form

    @property
    def loss_kind(self) -> LossKind | None:
        """Loss that applies to f; None if none does."""
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
        """Return what decisions and loss are computed from: `(rows, C)`, own dtype, on the CPU.

        Args:
            outputs: u, `(rows, C)`.
            answers: f, `(rows, C)`; None if it is not known.
        """
        taken = (outputs if self.sign or answers is None else answers).detach().cpu()
        return -taken if self.sign < 0 else taken

    def decide(self, values: Tensor) -> Tensor | None:
        """Return what the model decides.

        Args:
            values: As `values` returns them.

        Returns:
            For classification, the class of each row, `(rows,)` int64; for multilabel, whether the
            row has each label, `(rows, L)` bool. None for regression, and where the form of f has
            no known threshold for a yes.
        """
        if self.task == "regression" or not self.is_known:
            return None
        scale = self._scale
        if self.sign and self.form == "probabilities" and not self.exclusive:
            # In the model's own precision, in which outputs that are all certain become equal.
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
        """Sum right answers and the loss over some rows.

        Args:
            values: As `values` returns them.
            targets: The class of each row `(rows,)`; or class indicators, labels as columns of 0
                and 1, or regression targets, `(rows, d)`.

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
        # In parts: 256 rows of 65,536 outputs take 128 MiB in float64, and copies take more.
        size = max(1, _VALUES_AT_ONCE // values.shape[1])
        parts = (
            measure(values[first : first + size], wanted[first : first + size])
            for first in range(0, len(values), size)
        )
        return sum(parts, Performance())

    @property
    def _scale(self) -> Form:
        """Form of what `values` returns."""
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
            # A single logit u stands for two classes: sigmoid(u) is the second of softmax(0, u).
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
        """Sum over rows the mean binary cross-entropy of the outputs."""
        if self.loss_kind is None:
            return None
        if self._scale == "logits":
            losses = functional.binary_cross_entropy_with_logits(values, wanted, reduction="none")
        else:
            yes, no = self._logarithms(values)
            losses = -(wanted * yes + (1 - wanted) * no)
        return _finite(losses.mean(1).sum())

    def _logarithms(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return `ln p` and `ln(1 − p)`, neither below `ln(self.smallest)`."""
        logarithms = self._scale == "log-probabilities"
        p = values.exp() if logarithms else values
        yes, no = values if logarithms else p.log(), (-p.clamp(max=1.0)).log1p()
        floor = math.log(self.smallest)
        return yes.clamp(floor, 0.0), no.clamp(floor, 0.0)


def _finite(total: Tensor) -> float | None:
    """Return a sum over rows as a number; None where answers are infinite."""
    return float(total) if bool(total.isfinite()) else None
