"""Which class a stored label is: numbers, and what is left out."""

from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from workers.probes.containers.container import unreadable
from workers.probes.listed import (
    LISTED,
    by_list,
    index_type,
    listing,
    mismatch,
    not_all,
    shown,
    where,
)
from workers.probes.targets import (
    AT_ONCE,
    IGNORE_INDEX,
    IGNORED,
    NO_TARGET,
    ModelView,
    StoredTargets,
    Targets,
)
from workers.probes.texts import number_texts
from workers.protocol.errors import JobError

_IGNORE_BYTE = 255
"""What segmentation masks customarily hold where nothing is to be learned."""

_SPELLED_OUT = 64
"""Up to so many classes, a question spells out a list of all of them."""

Labels = npt.NDArray[np.int64]


def number_labels(
    stored: StoredTargets, model: ModelView | None, like: Targets | None = None
) -> Targets | None:
    """Turn whole or written labels into class indices.

    Args:
        stored: Labels of any shape.
        model: Whose probe it is; None where none is known yet.
        like: Settled targets of the other probe of an analysis, whose classes these are.

    Returns:
        Classification targets; None where the numbering depends on the model.

    Raises:
        JobError: `probe_unreadable` for labels that are none, `input_mismatch` for such that do not
            fit the model, or that could be numbered in two ways.
    """
    names = stored.spec.class_names
    if stored.is_text:
        return number_texts(stored, model, like)
    check_number_of_classes(stored, model)
    found = _number_integers(stored, model, like)
    if found is None or names is None:
        return found
    return replace(found, class_names=tuple(names))


def check_number_of_classes(stored: StoredTargets, model: ModelView | None) -> None:
    """Refuse lists of other classes than the model's.

    Raises:
        JobError: `input_mismatch` for more entries than the model has classes, and for fewer names.
    """
    spec = stored.spec
    for key, listed in (("class_names", spec.class_names), ("class_labels", spec.class_labels)):
        if model is not None and listed is not None and len(listed) > model.classes:
            raise mismatch(
                f"The probe's spec lists {len(listed):,} {key}, the model tells {model.classes:,} "
                "classes apart.",
                hint=f'List the classes the model was trained on in "{key}", in the order of its '
                f"outputs, {NO_TARGET}",
            )
    names = spec.class_names
    says_outputs = spec.class_labels is not None  # in their order, from the first one on
    if model is None or names is None or says_outputs or model.is_unverified:
        return
    if len(names) >= model.classes:
        return
    told = f"The classes of {stored.name!r} have {len(names):,} names, {listing(names)}"
    advice = "Use labels of the classes that the model was trained on. "
    if stored.is_one_hot:
        advice += f"Store one-hot rows with all {model.classes:,} columns. "
    raise not_all(told, len(names), model, advice)


def _number_integers(
    stored: StoredTargets, model: ModelView | None, like: Targets | None
) -> Targets | None:
    stored = replace(stored, values=_integers(stored))
    distinct = _distinct(stored)
    if not distinct.size:
        raise unreadable(
            f"All targets {stored.name!r} are {stored.spec.ignore_label}, the label to leave out.",
            hint=f'Set "ignore_label" to another label, {NO_TARGET}',
        )
    order = stored.spec.class_labels or (None if like is None else like.labels)
    if order is not None:
        return by_list(stored, distinct, order)
    if distinct[0] < 0:
        return _with_negatives(stored, distinct, model)
    _check_nothing_ignored(stored, distinct)
    return _counted(stored, distinct, model, like)


def _integers(stored: StoredTargets) -> npt.NDArray[np.integer]:
    """Return the labels as integers of any type; those left out may be anything."""
    values = stored.values
    if values.dtype == np.bool_:
        return values.view(np.uint8)
    if values.dtype != np.uint64 and not stored.is_float:
        return cast("npt.NDArray[np.integer]", values)
    # What a float too large for the cast becomes depends on the machine; any of it is refused.
    with np.errstate(invalid="ignore"):
        labels = values.astype(np.int64)
    wrong = labels != values if stored.is_float else labels < 0
    if (bad := np.flatnonzero(wrong & ~stored.left_out)).size:
        fault = "is not a whole number" if stored.is_float else "is larger than any class index"
        raise _bad_label(stored, int(bad[0]), f"{fault}; expected whole numbers 0 … K-1")
    return labels


def _distinct(stored: StoredTargets) -> Labels:
    """Return the integers that occur and count, ascending."""
    flat, left_out = stored.values.reshape(-1), stored.left_out.reshape(-1)
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(flat), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found.append(np.unique(flat[part][~left_out[part]]).astype(np.int64))
    return np.unique(np.concatenate(found))


def _counted(
    stored: StoredTargets, distinct: Labels, model: ModelView | None, like: Targets | None
) -> Targets | None:
    """Return labels that count the classes: from 0, or from 1 where nothing else fits."""
    names, limit = stored.spec.class_names, stored.limits.max_classes
    most = len(names) if names is not None else None if model is None else model.classes
    low, high = int(distinct[0]), int(distinct[-1])
    if most is not None and low >= 1 and high == most and like is None:
        found = by_list(stored, distinct, range(1, most + 1))
        return replace(found, notes=(_from_one(stored, most),))
    if most is not None and high >= most:
        raise _too_many(stored, distinct, most, model)
    if high >= limit:
        fault = f"would make {high + 1:,} classes, more than the {limit:,} allowed"
        raise _bad_label(stored, int((stored.values == high).argmax()), fault, distinct)
    if most is None and low >= 1:
        return None
    counts_zero = stored.spec.ignore_label == 0 or like is not None
    if most is not None and not counts_zero and _may_count_from_one(distinct, most):
        raise _from_zero_or_one(stored, high, most)
    values = stored.values.astype(index_type(high + 1))
    values[stored.left_out] = IGNORED
    notes = (_from_zero(stored, low),) if low >= 1 else ()
    classes = high + 1 if names is None else len(names)
    return Targets("classification", values, classes, notes=notes)


def _with_negatives(
    stored: StoredTargets, distinct: Labels, model: ModelView | None
) -> Targets | None:
    """Take labels -1 and 1 for two classes where the model has one logit; refuse others."""
    may_be_signs = distinct.tolist() == [-1, 1]
    if may_be_signs and model is None:
        return None
    if may_be_signs and model is not None and model.outputs == 1:
        found = by_list(stored, distinct, (-1, 1))
        note = (
            f"The labels -1 and 1 of {stored.name!r} are taken for the two classes that the "
            'model\'s one output tells apart, 1 for the class of a large output. "class_labels" '
            "in the probe's spec changes it."
        )
        return replace(found, notes=(note,))
    at = int(((stored.values < 0) & ~stored.left_out).argmax())  # type: ignore[operator]  # integers
    is_custom = stored.values.flat[at] == IGNORE_INDEX
    fault = "marks a position to ignore, by custom" if is_custom else "is negative"
    most = LISTED if model is None else model.classes
    fault += "; expected whole numbers 0 … K-1"
    raise _bad_label(stored, at, fault, distinct, most)


def _check_nothing_ignored(stored: StoredTargets, distinct: Labels) -> None:
    """Refuse labels that mark positions to ignore: 255 taken for a class would distort all.

    Where there are 256 classes and more, 255 is one of them; then 254 occurs too.
    """
    is_answered = "ignore_label" in stored.spec.model_fields_set
    if stored.column.ndim == 1 or is_answered or distinct[-1] != _IGNORE_BYTE:
        return
    if len(distinct) > 1 and distinct[-2] == _IGNORE_BYTE - 1:
        return
    at = int((stored.values.reshape(-1) == _IGNORE_BYTE).argmax())
    if distinct.tolist() == [0, _IGNORE_BYTE]:
        raise unreadable(
            f"The targets {stored.name!r} hold 0 and 255 only, as masks of two classes do that "
            "were saved as images; 256 classes can hardly be meant.",
            hint=f'Set "class_labels": [0, 255] in the spec: the two classes, in the order of the '
            f"model's outputs, {NO_TARGET}",
            detail=where(stored, at),
        )
    raise unreadable(
        f"The label 255 in {stored.place(at)} of {stored.name!r} marks a position to ignore, by "
        "custom.",
        hint='Set "ignore_label": 255 in the spec to leave these positions out; if 255 is a '
        f'class, set "ignore_label": null, {NO_TARGET}',
        detail=where(stored, at),
    )


def _too_many(
    stored: StoredTargets, distinct: Labels, most: int, model: ModelView | None
) -> JobError:
    """Return the refusal of labels that are no indices of so many classes."""
    high = int(distinct[-1])
    told = f"the model tells {most:,} apart"
    if stored.spec.class_names is not None:
        told = f"class_names lists {most:,}"
    advice = []
    if len(distinct) > 1 and distinct[-2] < most:
        advice.append(
            f'If {high} marks what is to be left out, set "ignore_label": {high} in the probe\'s '
            "spec."
        )
    if distinct[0] == 0 and high == most and "ignore_label" not in stored.spec.model_fields_set:
        advice.append(
            "If 0 marks what is to be left out and the classes are counted from 1, set "
            '"ignore_label": 0 in the probe\'s spec.'
        )
    if stored.spec.class_names is not None:
        advice.append(f'List all {high + 1:,} classes in "class_names".')
    elif 1 < len(distinct) <= min(most, LISTED):
        advice.append(
            "If the stored labels are the classes in ascending order, set "
            f'"class_labels": {distinct.tolist()} in the probe\'s spec; list them in the order of '
            "the model's outputs."
        )
    if model is not None and model.outputs == 1 and stored.column.ndim == 1:
        advice.append('If they are values, set "task": "regression" in the probe\'s spec.')
    advice.append(f"Use a probe with the classes the model was trained on, {NO_TARGET}")
    return mismatch(
        f"The labels {stored.name!r} run from {int(distinct[0])} to {high}: counted from 0, they "
        f"name {high + 1:,} classes, {told}.",
        hint=" ".join(advice),
        detail={"classes": high + 1, "model_classes": most},
    )


def _may_count_from_one(distinct: Labels, classes: int) -> bool:
    """Return whether labels are 1 … m without a gap, so that the first or last class is absent."""
    is_spelled_out = classes <= _SPELLED_OUT
    return (
        len(distinct) > 1 and is_spelled_out and distinct.tolist() == [*range(1, distinct[-1] + 1)]
    )


def _from_zero_or_one(stored: StoredTargets, high: int, classes: int) -> JobError:
    """Return the question where counting starts if labels have neither 0 nor the last class."""
    return mismatch(
        f"The labels {stored.name!r} are 1 … {high} without a gap, of {classes:,} classes: counted "
        f"from 1, class {classes:,} does not occur; counted from 0, class 0 does not.",
        hint=f'If they are counted from 1, set "class_labels": {[*range(1, classes + 1)]} in the '
        f'probe\'s spec; if from 0, set "class_labels": {[*range(classes)]}, {NO_TARGET}',
        detail={"array": stored.name, "highest": high, "classes": classes},
    )


def _from_one(stored: StoredTargets, classes: int) -> str:
    return (
        f"The labels {stored.name!r} are counted from 1: label 0 never occurs, label {classes:,} "
        f"does, and there are {classes:,} classes; label 1 is the first output. "
        '"class_labels" in the probe\'s spec changes it.'
    )


def _from_zero(stored: StoredTargets, low: int) -> str:
    return (
        f"The labels {stored.name!r} are counted from 0, although {low} is the smallest that "
        'occurs. If they are counted from 1, list all of them in "class_labels" in the probe\'s '
        "spec."
    )


def _bad_label(
    stored: StoredTargets,
    at: int,
    fault: str,
    distinct: Labels | None = None,
    most: int = LISTED,
) -> JobError:
    advice = []
    label = int(stored.values.flat[at]) if distinct is not None else None
    if label is not None and label < 0:
        advice.append(
            f'If it marks what is to be left out, set "ignore_label": {label} in the spec.'
        )
    is_custom = label == IGNORE_INDEX
    if distinct is not None and 1 < len(distinct) <= min(most, LISTED) and not is_custom:
        advice.append(
            "If the stored labels are the classes in ascending order, set "
            f'"class_labels": {distinct.tolist()} in the spec; list them in the order of the '
            "model's outputs."
        )
    may_be_values = stored.values.ndim <= 2  # noqa: PLR2004 - rows and columns
    values = 'set "task": "regression" for values, ' if may_be_values else ""
    advice.append(f"Number the classes from 0, {values}{NO_TARGET}")
    return unreadable(
        f"The label {shown(stored, at)} in {stored.place(at)} of {stored.name!r} {fault}.",
        hint=" ".join(advice),
        detail=where(stored, at),
    )
