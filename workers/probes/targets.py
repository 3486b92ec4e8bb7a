"""Targets as they are stored, and as an analysis uses them."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSpec, Task
from workers.probes.containers.container import shape_text, unreadable
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

_MATRIX_AXES = 2

_ROUNDED = 1e-3
"""How far shares in half precision may be from summing to 1."""

_PAIR = 2
_COUNTS = 9
"""A number from 0 to it, between zeros and ones, may count something."""

NO_TARGET = 'or set "target": null for a report without what needs targets.'
"""The end of every hint about targets: what works whatever they mean."""

AT_ONCE = 1 << 20
"""Labels looked at in one go, so that a mask of many pixels is never copied as a whole."""

IGNORE_INDEX = -100
"""What torch's losses leave out unless told otherwise."""

IGNORED = -1
"""The class index of a position that is left out of every figure."""


@dataclass(frozen=True)
class Targets:
    """The targets of a probe, once it is settled what they mean.

    Args:
        task: What they are.
        values: Classification: class indices of a signed type, shape (n,), or (n, *positions)
            where each position of a sample has a label of its own; -1 for those left out.
            Multilabel: float64 of 0 and 1, shape (n, labels). Regression: float64, shape (n, d).
        classes: Number of classes, or of labels; None for regression.
        labels: What is stored for each class, in the order of the model's outputs; None where
            that is 0 … K-1.
        class_names: What the classes are called, in the same order; None if nobody said.
        notes: What was inferred, and what shows it: a sentence each.
    """

    task: Task
    values: npt.NDArray[np.signedinteger] | npt.NDArray[np.float64]
    classes: int | None
    labels: tuple[int, ...] | tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def positions(self) -> int:
        """Targets a sample: 1 for ordinary ones."""
        return math.prod(self.values.shape[1:]) if self.task == "classification" else 1

    @property
    def functions(self) -> int:
        """Target functions: an indicator for each class or label, or a value for each dimension."""
        return self.values.shape[1] if self.classes is None else self.classes

    @cached_property
    def class_counts(self) -> list[int] | None:
        """Labels of each class, over all positions that count; None for regression."""
        if self.classes is None:
            return None
        if self.task == "multilabel":
            return cast("list[int]", self.values.sum(axis=0).astype(np.int64).tolist())
        # Of what is left out, too, in front: it is -1.
        counts = np.zeros(self.classes + 1, np.int64)
        flat = self.values.reshape(-1)
        for start in range(0, len(flat), AT_ONCE):
            part = flat[start : start + AT_ONCE].astype(np.int64)
            counts += np.bincount(part - IGNORED, minlength=len(counts))
        return cast("list[int]", counts[1:].tolist())

    @property
    def ignored(self) -> int:
        """Positions that are left out."""
        return int((self.values == IGNORED).sum()) if self.task == "classification" else 0

    def tensor(self, rows: slice) -> torch.Tensor:
        """Return the targets of some samples, as models are compared with: int64 or float64."""
        is_classifier = self.task == "classification"
        return torch.from_numpy(self.values[rows].astype(np.int64 if is_classifier else np.float64))

    def take(self, rows: npt.NDArray[np.int64]) -> "Targets":
        """Return the targets of some samples; the classes stay those of all."""
        return replace(self, values=self.values[rows])


@dataclass(frozen=True)
class ModelView:
    """What of a model tells what the targets of its probe mean.

    Args:
        outputs: How many it has: columns of its answer, which may be some of those of its last
            layer.
        position_shape: Axes of its answer besides samples and outputs; () for one answer a sample.
        link: What makes the answer of its last linear layer, such as `sigmoid`.
        is_unverified: Nobody knows what makes the answer, which may have other columns.
    """

    outputs: int
    position_shape: tuple[int, ...] = ()
    link: str = "identity"
    is_unverified: bool = False

    @property
    def positions(self) -> int:
        """Answers a sample."""
        return math.prod(self.position_shape)

    @property
    def is_bare_output(self) -> bool:
        """Whether it has one output, as its last linear layer gives it."""
        return self.outputs == 1 and self.link == "identity"

    @property
    def classes(self) -> int:
        """How many classes it tells apart: a single output is the logit of two."""
        return 2 if self.outputs == 1 else self.outputs


@dataclass(frozen=True)
class StoredTargets:
    """An array of targets, with what its spec says about it.

    Args:
        name: The array's name.
        values: Numbers or text, samples first: (n,), (n, d) or (n, *positions).
        spec: As registered.
        limits: The most classes.
    """

    name: str
    values: npt.NDArray[np.generic]
    spec: ProbeSpec
    limits: ProbeLimits

    @property
    def is_text(self) -> bool:
        """Whether labels are written out."""
        return self.values.dtype.kind == "U"

    @property
    def is_float(self) -> bool:
        """Whether they are stored as floats."""
        return self.values.dtype.kind == "f"

    @cached_property
    def is_whole(self) -> bool:
        """Whether all are whole numbers, whatever the dtype."""
        if self.is_float:
            floats = cast("npt.NDArray[np.floating]", self.values)
            return bool((np.trunc(floats) == floats).all())
        return not self.is_text

    @property
    def column(self) -> npt.NDArray[np.generic]:
        """The targets, (n, 1) as (n,)."""
        return self.values[:, 0] if self.values.shape[1:] == (1,) else self.values

    @cached_property
    def is_shares(self) -> bool:
        """Whether rows of two or more values lie in [0, 1] and sum to 1."""
        if not (self.is_float and self.column.ndim == _MATRIX_AXES):
            return False
        values = self.column.astype(np.float64)
        return bool((values >= 0).all()) and np.allclose(values.sum(axis=1), 1.0, atol=_ROUNDED)

    @cached_property
    def is_binary_matrix(self) -> bool:
        """Whether there are several columns of 0 and 1."""
        matrix = self.column
        if matrix.ndim != _MATRIX_AXES or self.is_text:
            return False
        return bool(((matrix == 0) | (matrix == 1)).all())

    @cached_property
    def codes(self) -> list[int]:
        """The numbers that rows of several columns consist of, ascending, where they are codes.

        Two whole numbers can tell whether a sample carries a label. A third one besides 0 and 1
        can say that it is not known, if it is no count: negative, or of two digits. Empty
        otherwise, and where one of only two marks what is left out.
        """
        if self.column.ndim != _MATRIX_AXES or not self.is_whole:
            return []
        found = _first_distinct(self.column, _PAIR + 2)
        others = set(found) - {0, 1}
        is_pair = len(found) == _PAIR and IGNORE_INDEX not in found
        has_third = len(found) == _PAIR + 1 and len(others) == 1
        has_third = has_third and not 0 <= min(others) <= _COUNTS
        return found if is_pair or has_third else []

    @cached_property
    def is_one_hot(self) -> bool:
        """Whether each row holds one 1, and zeros elsewhere."""
        return self.is_binary_matrix and bool(((self.column == 1).sum(axis=1) == 1).all())

    @property
    def task(self) -> Task | None:
        """The task that the spec names, or that its other keys are about."""
        spec = self.spec
        if spec.task is not None:
            return spec.task
        names_classes = spec.class_names is not None and not self.is_binary_matrix
        lists_labels = spec.class_labels is not None or spec.ignore_label is not None
        return "classification" if names_classes or lists_labels or self.is_text else None

    @cached_property
    def left_out(self) -> npt.NDArray[np.bool_]:
        """Which targets the spec's `ignore_label` leaves out, in the shape of the values."""
        label = self.spec.ignore_label
        if label is None or self.is_text:
            return np.zeros(self.values.shape, np.bool_)
        return cast("npt.NDArray[np.bool_]", self.values == label)

    def place(self, at: int) -> str:
        """Return where an entry of the flattened array is, for a message."""
        row, *position = (int(index) for index in np.unravel_index(at, self.values.shape))
        return f"row {row}, position {', '.join(map(str, position))}" if position else f"row {row}"

    def row(self, at: int) -> int:
        """Return the row of an entry of the flattened array."""
        return at // math.prod(self.values.shape[1:])

    def misshapen(self) -> JobError:
        """Return the refusal of a shape that no targets have."""
        is_map = self.is_float and self.values.ndim > _MATRIX_AXES
        maps = " Values of each position, as of depth maps or reconstructions, are not supported."
        return unreadable(
            f"The targets {self.name!r} have shape {shape_text(self.values.shape)} and dtype "
            f"{self.values.dtype.name}; expected (n,) labels, (n, classes) one-hot rows, "
            "(n, labels) multi-hot rows, (n, *positions) whole labels or (n, outputs) values."
            f"{maps if is_map else ''}",
            hint="Store one label or one row of values a sample, or one whole label for each "
            f"position of a sample; {NO_TARGET}",
        )


def store_targets(
    name: str, values: npt.NDArray[np.generic], spec: ProbeSpec, limits: ProbeLimits
) -> StoredTargets:
    """Check an array of targets, whatever it means.

    Args:
        name: The array's name.
        values: As read, samples first.
        spec: As registered.
        limits: The most classes.

    Raises:
        JobError: `probe_unreadable` for a shape or text that no targets have; `non_finite`.
    """
    if values.dtype.kind == "S":
        values = _decoded(name, values)
    stored = StoredTargets(name, values, spec, limits)
    if not values.shape or not all(values.shape[1:]):
        raise stored.misshapen()
    if stored.is_text:
        _check_text_keys(stored)
    if stored.is_float:
        _check_finite(name, cast("npt.NDArray[np.floating]", values))
    return stored


def _check_text_keys(stored: StoredTargets) -> None:
    for key in ("class_labels", "ignore_label"):
        if getattr(stored.spec, key) is not None:
            raise unreadable(
                f"The spec gives {key}, which is about numbers, and the targets {stored.name!r} "
                "are text.",
                hint=f'Leave out "{key}"; "class_names" lists the texts, in the order of the '
                "model's outputs.",
            )


def _first_distinct(values: npt.NDArray[np.generic], most: int) -> list[int]:
    """Return the whole numbers that occur, ascending; only some if there are `most` or more."""
    flat = values.reshape(-1)
    found: set[int] = set()
    for start in range(0, len(flat), AT_ONCE):
        found |= {int(number) for number in np.unique(flat[start : start + AT_ONCE])[:most]}
        if len(found) >= most:
            break
    return sorted(found)


def _decoded(name: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    try:
        return np.char.decode(cast("npt.NDArray[np.bytes_]", values), "utf-8")
    except UnicodeDecodeError as error:
        raise unreadable(
            f"The targets {name!r} hold bytes that are no UTF-8 text: {error.object[:20]!r}.",
            hint=f"Store the labels as text or as whole numbers; {NO_TARGET}",
        ) from error


def _check_finite(name: str, values: npt.NDArray[np.floating]) -> None:
    rows = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if rows.size:
        raise JobError(
            FailureCode.NON_FINITE,
            f"The targets {name!r} hold NaN or Inf in {rows.size:,} of {len(values):,} rows, "
            f"first in row {rows[0]}.",
            hint=f"Remove or repair these rows; {NO_TARGET}",
            detail={"array": name, "row": int(rows[0]), "rows": int(rows.size)},
        )
