"""Targets: labels become class indices, values a matrix; a wrong one is refused with its row."""

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from service.failures import FailureCode
from service.probes.spec import Task
from workers.errors import JobError
from workers.probes.container import Limits, shape_text, unreadable

_MATRIX_AXES = 2

_IGNORE_INDEX = -100
"""What torch's losses leave out unless told otherwise."""

_IGNORE_BYTE = 255
"""What segmentation masks customarily hold where nothing is to be learned."""


@dataclass(frozen=True)
class Targets:
    """The targets of a probe.

    Args:
        task: What they are.
        values: Classification: int64 labels, shape (n,), or (n, *positions) where each position of
            a sample has a label of its own. Multilabel: float64 of 0 and 1, shape (n, labels).
            Regression: float64, shape (n, d).
        classes: Number of classes, or of labels; None for regression.
    """

    task: Task
    values: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    classes: int | None

    @property
    def positions(self) -> int:
        """Targets a sample: 1 for ordinary ones."""
        return math.prod(self.values.shape[1:]) if self.task == "classification" else 1

    @property
    def functions(self) -> int:
        """Target functions: an indicator for each class or label, or a value for each dimension."""
        return self.values.shape[1] if self.classes is None else self.classes

    @property
    def class_counts(self) -> list[int] | None:
        """Labels of each class, over all positions; None for regression."""
        if self.classes is None:
            return None
        if self.task == "multilabel":
            return cast("list[int]", self.values.sum(axis=0).astype(np.int64).tolist())
        counts = np.bincount(self.values.reshape(-1), minlength=self.classes)
        return cast("list[int]", counts.tolist())

    def take(self, rows: npt.NDArray[np.int64]) -> "Targets":
        """The targets of some samples; the classes stay those of all."""
        return replace(self, values=self.values[rows])


def read_targets(
    name: str, stored: npt.NDArray[np.generic], declared: Task | None, limits: Limits
) -> Targets:
    """Make out what the targets are.

    Whole numbers in one column are labels, one-hot rows are labels, other integers are labels per
    position, and other floats are values.

    Args:
        name: The array's name, for messages.
        stored: A numeric array, shape (n,), (n, d), or (n, *positions) integers.
        declared: The task its spec names, if it names one.
        limits: The most classes.

    Raises:
        JobError: `probe_unreadable` for targets that are neither; `non_finite` for NaN or Inf.
    """
    is_float = np.issubdtype(stored.dtype, np.floating)
    may_be_dense = not is_float and declared in {None, "classification"}
    most_axes = stored.ndim if may_be_dense else _MATRIX_AXES
    if not 1 <= stored.ndim <= most_axes or not all(stored.shape[1:]):
        raise unreadable(
            f"The targets {name!r} have shape {shape_text(stored.shape)} and dtype "
            f"{stored.dtype.name}; expected (n,) labels, (n, classes) one-hot rows, "
            "(n, *positions) integer labels or (n, outputs) values.",
            hint="Store one label or one row of values a sample, or one integer label for each "
            "position of a sample.",
        )
    _check_finite(name, stored)
    column = stored[:, 0] if stored.shape[1:] == (1,) else stored
    if declared == "regression":
        return _values(stored)
    if declared == "multilabel":
        return _multi_hot(name, stored, limits)
    if column.ndim == 1 and (declared == "classification" or not is_float):
        return _labels(name, column, limits)
    if column.ndim == _MATRIX_AXES and (hot := _one_hot_labels(column)) is not None:
        _check_class_count(name, column.shape[1], limits)
        return Targets("classification", hot, column.shape[1])
    if may_be_dense:
        _check_nothing_ignored(name, stored)
        return _labels(name, stored, limits)
    if declared is None:
        return _values(stored)
    raise unreadable(
        f"The targets {name!r} have shape {shape_text(stored.shape)} and dtype "
        f"{stored.dtype.name}, but their rows are not one-hot (one 1, zeros elsewhere).",
        hint="Store labels 0 … K-1 in one column, labels per position as integers, or set "
        '"task": "regression".',
    )


def _values(stored: npt.NDArray[np.generic]) -> Targets:
    matrix = stored.reshape(len(stored), -1).astype(np.float64)
    return Targets("regression", matrix, None)


def _multi_hot(name: str, stored: npt.NDArray[np.generic], limits: Limits) -> Targets:
    matrix = stored.reshape(len(stored), -1)
    _check_class_count(name, matrix.shape[1], limits)
    if (bad := np.flatnonzero((matrix != 0) & (matrix != 1))).size:
        raise unreadable(
            f"The target {matrix.flat[bad[0]]} in {_place(matrix, int(bad[0]))} of {name!r} is "
            "neither 0 nor 1; expected 1 for each label that a sample carries, and 0 for the "
            "others.",
            hint='Store 0 and 1, or set "task": "regression" for values.',
            detail={"array": name, "row": int(bad[0]) // matrix.shape[1]},
        )
    return Targets("multilabel", matrix.astype(np.float64), matrix.shape[1])


def _labels(name: str, stored: npt.NDArray[np.generic], limits: Limits) -> Targets:
    # What a float too large for the cast becomes depends on the machine; any of it is refused.
    with np.errstate(invalid="ignore"):
        labels = stored.astype(np.int64)
    if (bad := np.flatnonzero(labels != stored)).size:
        raise _bad_label(name, stored, int(bad[0]), "is not a whole number")
    if (bad := np.flatnonzero(labels < 0)).size:
        raise _bad_label(name, stored, int(bad[0]), "is negative")
    largest = int(labels.argmax())
    classes = int(labels.flat[largest]) + 1
    if classes > limits.max_classes:
        raise _bad_label(
            name,
            stored,
            largest,
            f"would make {classes:,} classes, more than the {limits.max_classes:,} allowed",
        )
    return Targets("classification", labels, classes)


def _check_nothing_ignored(name: str, stored: npt.NDArray[np.generic]) -> None:
    """Refuse labels that mark positions to ignore: 255 taken for a class would distort all.

    Where there are 256 classes and more, 255 is one of them; then 254 occurs too.
    """
    ignored = stored == _IGNORE_INDEX
    if stored.max() == _IGNORE_BYTE and not (stored == _IGNORE_BYTE - 1).any():
        ignored = stored == _IGNORE_BYTE
    if ignored.any():
        at = int(ignored.argmax())
        raise unreadable(
            f"The label {stored.flat[at]} in {_place(stored, at)} of {name!r} marks a position to "
            "ignore, by custom; this version needs the class of every position, 0 … K-1.",
            hint='Keep only samples whose every position has a class, or set "target": null.',
            detail={"array": name, "row": at // math.prod(stored.shape[1:])},
        )


def _one_hot_labels(matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.int64] | None:
    ones = matrix == 1
    hot = bool((ones | (matrix == 0)).all()) and bool((ones.sum(axis=1) == 1).all())
    return ones.argmax(axis=1) if hot else None


def _check_class_count(name: str, classes: int, limits: Limits) -> None:
    if classes > limits.max_classes:
        raise unreadable(
            f"The targets {name!r} have {classes:,} columns of 0 and 1; at most "
            f"{limits.max_classes:,} classes are allowed.",
            hint="Check that the target is the right array.",
        )


def _check_finite(name: str, stored: npt.NDArray[np.generic]) -> None:
    if not np.issubdtype(stored.dtype, np.floating):
        return
    finite = np.isfinite(cast("npt.NDArray[np.floating]", stored))
    rows = np.flatnonzero(~finite.reshape(len(stored), -1).all(axis=1))
    if rows.size:
        raise JobError(
            FailureCode.NON_FINITE,
            f"The targets {name!r} hold NaN or Inf in {rows.size:,} of {len(stored):,} rows, "
            f"first in row {rows[0]}.",
            hint="Remove or repair these rows.",
            detail={"array": name, "row": int(rows[0]), "rows": int(rows.size)},
        )


def _bad_label(name: str, stored: npt.NDArray[np.generic], at: int, fault: str) -> JobError:
    return unreadable(
        f"The label {stored.flat[at]} in {_place(stored, at)} of {name!r} {fault}; expected whole "
        "numbers 0 … K-1.",
        hint='Number the classes from 0, or set "task": "regression" for values.',
        detail={"array": name, "row": at // math.prod(stored.shape[1:])},
    )


def _place(stored: npt.NDArray[np.generic], at: int) -> str:
    """Where an entry of the flattened array is, for a message."""
    row, *position = (int(index) for index in np.unravel_index(at, stored.shape))
    return f"row {row}, position {', '.join(map(str, position))}" if position else f"row {row}"
