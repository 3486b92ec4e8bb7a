"""Classes listed in an order: which of them a stored label is, and how labels are shown."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from service.failures import FailureCode
from workers.errors import JobError
from workers.probes.container import unreadable
from workers.probes.targets import IGNORED, NO_TARGET, StoredTargets, Targets

LISTED = 32
"""The most labels that a message or a note spells out."""

_SHOWN_CHARACTERS = 40

AT_ONCE = 1 << 20
"""Labels looked at in one go, so that a mask of many pixels is never copied as a whole."""


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
    flat, left_out = stored.values.reshape(-1), stored.left_out.reshape(-1)
    values = np.empty(flat.shape, classes.dtype)
    for start in range(0, len(flat), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        places = np.searchsorted(distinct, flat[part]).clip(max=len(distinct) - 1)
        values[part] = np.where(left_out[part], IGNORED, classes[places])
    return Targets(
        "classification",
        values.reshape(stored.values.shape),
        len(order),
        labels=tuple(order),  # type: ignore[arg-type]  # all numbers or all texts
    )


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
    """The smallest type of class indices and of the one that means none."""
    return np.promote_types(np.min_scalar_type(-1), np.min_scalar_type(-classes))


def mismatch(message: str, *, hint: str, detail: dict[str, JsonValue] | None = None) -> JobError:
    """The failure of targets that do not fit the model."""
    return JobError(FailureCode.INPUT_MISMATCH, message, hint=hint, detail=detail)


def shown(stored: StoredTargets, at: int) -> str:
    """An entry of the flattened array, for a message."""
    value = stored.values.flat[at]
    return repr(str(value)) if stored.is_text else str(value)


def where(stored: StoredTargets, at: int) -> dict[str, JsonValue]:
    """Where that entry is, for programs."""
    return {"array": stored.name, "row": stored.row(at)}


def listing(entries: Sequence[object]) -> str:
    """Entries for a message, the first ones where there are many."""
    first = ", ".join(str(entry)[:_SHOWN_CHARACTERS] for entry in entries[:LISTED])
    return first if len(entries) <= LISTED else f"{first} … ({len(entries):,} in all)"
