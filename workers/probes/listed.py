"""Classes listed in an order: which of them a stored label is, and how labels are shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from service.contract.failures import FailureCode
from workers.probes.containers.container import unreadable
from workers.probes.targets import (
    AT_ONCE,
    IGNORED,
    NO_TARGET,
    ModelView,
    StoredTargets,
    Targets,
)
from workers.protocol.errors import JobError

LISTED = 32
"""The most labels that a message or a note spells out."""

_SHOWN_CHARACTERS = 40


def by_list(
    stored: StoredTargets,
    distinct: npt.NDArray[np.generic],
    order: Sequence[int] | Sequence[str],
) -> Targets:
    """Number labels by their places in a list; `distinct` are those that count, ascending."""
    place = {label: index for index, label in enumerate(order)}
    unknown = next((label for label in distinct.tolist() if label not in place), None)
    if unknown is not None:
        raise _unlisted(stored, unknown, order)
    classes = np.array([place[label] for label in distinct.tolist()], index_type(len(order)))
    class_of = _by_search if stored.is_text else _by_table
    flat, left_out = stored.values.reshape(-1), stored.left_out.reshape(-1)
    values = np.empty(flat.shape, classes.dtype)
    for start in range(0, len(flat), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        values[part] = np.where(left_out[part], IGNORED, class_of(flat[part], distinct, classes))
    return Targets(
        "classification",
        values.reshape(stored.values.shape),
        len(order),
        labels=tuple(order),  # type: ignore[arg-type]  # all numbers or all texts
    )


def _by_search(
    labels: npt.NDArray[np.generic], distinct: npt.NDArray[np.generic], classes: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return the class of each label; any at all for one that is not among the distinct ones."""
    places = np.searchsorted(distinct, labels).clip(max=len(distinct) - 1)
    return np.take(classes, places)


def _by_table(
    labels: npt.NDArray[Any], distinct: npt.NDArray[Any], classes: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return the same, ten times as fast, for numbers that are close together."""
    low, span = int(distinct[0]), int(distinct[-1]) - int(distinct[0]) + 1
    if span > AT_ONCE:
        return _by_search(labels, distinct, classes)
    table = np.zeros(span, classes.dtype)
    table[distinct - low] = classes
    return np.take(table, (labels.astype(np.int64) - low).clip(0, span - 1))


def _unlisted(stored: StoredTargets, label: object, order: Sequence[object]) -> JobError:
    at = int((stored.values == label).argmax())
    if stored.is_text:
        advice = 'List every text in "class_names", in the order of the model\'s outputs,'
    else:
        advice = (
            'List every label in "class_labels", in the order of the model\'s outputs, or name '
            'the one that marks what is to be left out in "ignore_label",'
        )
    return unreadable(
        f"The label {shown(stored, at)} in {stored.place(at)} of {stored.name!r} is none of the "
        f"{len(order):,} classes: {listing(order)}.",
        hint=f"{advice} {NO_TARGET}",
        detail=where(stored, at),
    )


def index_type(classes: int) -> npt.DTypeLike:
    """Return the smallest type of class indices and of the one that means none."""
    return np.promote_types(np.min_scalar_type(-1), np.min_scalar_type(-classes))


def mismatch(message: str, *, hint: str, detail: dict[str, JsonValue] | None = None) -> JobError:
    """Return the failure of targets that do not fit the model."""
    return JobError(FailureCode.INPUT_MISMATCH, message, hint=hint, detail=detail)


def not_all(told: str, classes: int, model: ModelView, advice: str = "") -> JobError:
    """Return the refusal of fewer or more classes than the model has: any output may be left over.

    Args:
        told: The beginning of the message: how many there are, and which.
        classes: How many there are.
        model: Whose probe it is.
        advice: What to do besides listing all classes.
    """
    may_be_embedding = (
        1 < classes < model.classes and model.positions == 1 and "softmax" not in model.link
    )
    embedding = (
        "If the model returns an embedding rather than one score for each class, judge it as the "
        'features, with options.feature_map = {"features_output": 0}. '
    )
    count = "" if model.is_unverified else f"{model.classes:,} "
    return mismatch(
        f"{told}, and the model tells {model.classes:,} apart; which output is of which class "
        "cannot be told.",
        hint=f"{embedding if may_be_embedding else ''}{advice}List all {count}classes in "
        f"\"class_names\" in the probe's spec, in the order of the model's outputs, {NO_TARGET}",
    )


def shown(stored: StoredTargets, at: int) -> str:
    """Return an entry of the flattened array, for a message."""
    value = stored.values.flat[at]
    return repr(str(value)) if stored.is_text else str(value)


def where(stored: StoredTargets, at: int) -> dict[str, JsonValue]:
    """Return where that entry is, for programs."""
    return {"array": stored.name, "row": stored.row(at)}


def listing(entries: Sequence[object]) -> str:
    """Return entries for a message, the first ones where there are many."""
    first = ", ".join(str(entry)[:_SHOWN_CHARACTERS] for entry in entries[:LISTED])
    return first if len(entries) <= LISTED else f"{first} … ({len(entries):,} in all)"
