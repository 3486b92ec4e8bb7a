"""Which class a stored label is: numbers, text, and what is left out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from service.failures import FailureCode
from workers.errors import JobError
from workers.probes.container import unreadable
from workers.probes.targets import (
    IGNORED,
    NO_TARGET,
    ModelView,
    StoredTargets,
    Targets,
)

_IGNORE_BYTE = 255
"""What segmentation masks customarily hold where nothing is to be learned."""

_IGNORE_INDEX = -100
"""What torch's losses leave out unless told otherwise."""

_LISTED = 32
"""The most labels that a message or a note spells out."""

_MAX_TEXT = 200

_AT_ONCE = 1 << 20
"""Labels looked at in one go, so that a mask of many pixels is never copied as a whole."""


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
    _check_number_of_classes(stored, model)
    if stored.is_text:
        return _number_texts(stored, model, like)
    found = _number_integers(stored, model, like)
    if found is None or names is None:
        return found
    return replace(found, class_names=tuple(names))


def _check_number_of_classes(stored: StoredTargets, model: ModelView | None) -> None:
    spec = stored.spec
    for key, listed in (("class_names", spec.class_names), ("class_labels", spec.class_labels)):
        if model is not None and listed is not None and len(listed) > model.classes:
            raise mismatch(
                f"The probe's spec lists {len(listed):,} {key}, the model tells {model.classes:,} "
                "classes apart.",
                hint=f'List the classes the model was trained on in "{key}", in the order of its '
                f"outputs, {NO_TARGET}",
            )


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
        return _by_list(stored, distinct, order)
    if distinct[0] < 0:
        return _with_negatives(stored, distinct, model)
    if model is None:
        _check_nothing_ignored(stored, distinct)
    return _counted(stored, distinct, model, like)


def _integers(stored: StoredTargets) -> npt.NDArray[np.integer]:
    """The labels as integers of any type; those left out may be anything."""
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
    """The integers that occur and count, ascending."""
    kept = stored.values if not stored.left_out.any() else stored.values[~stored.left_out]
    if not kept.size:
        return np.zeros(0, np.int64)
    low, high = int(kept.min()), int(kept.max())
    if high - low >= _AT_ONCE:
        return np.unique(kept).astype(np.int64)
    occurs = np.zeros(high - low + 1, np.bool_)
    flat = kept.reshape(-1)
    for start in range(0, len(flat), _AT_ONCE):
        occurs[flat[start : start + _AT_ONCE].astype(np.int64) - low] = True
    return np.flatnonzero(occurs) + low


def _counted(
    stored: StoredTargets, distinct: Labels, model: ModelView | None, like: Targets | None
) -> Targets | None:
    """Labels that count the classes: from 0, or from 1 where nothing else fits."""
    names, limit = stored.spec.class_names, stored.limits.max_classes
    most = len(names) if names is not None else None if model is None else model.classes
    low, high = int(distinct[0]), int(distinct[-1])
    if most is not None and low >= 1 and high == most and like is None:
        found = _by_list(stored, distinct, range(1, most + 1))
        return replace(found, notes=(_from_one(stored, most),))
    if most is not None and high >= most:
        raise _too_many(stored, distinct, most, model)
    if high >= limit:
        fault = f"would make {high + 1:,} classes, more than the {limit:,} allowed"
        raise _bad_label(stored, int((stored.values == high).argmax()), fault, distinct)
    if most is None and low >= 1:
        return None
    values = stored.values.astype(_index_type(high + 1))
    values[stored.left_out] = IGNORED
    notes = (_from_zero(stored, low),) if low >= 1 else ()
    classes = high + 1 if names is None else len(names)
    return Targets("classification", values, classes, notes=notes)


def _index_type(classes: int) -> npt.DTypeLike:
    """The smallest type of class indices and of the one that means none."""
    return np.promote_types(np.min_scalar_type(-1), np.min_scalar_type(-classes))


def _by_list(
    stored: StoredTargets,
    distinct: npt.NDArray[np.generic],
    order: Sequence[int] | Sequence[str],
) -> Targets:
    """Number labels by their places in a list; `distinct` are those that count, ascending."""
    place = {label: index for index, label in enumerate(order)}
    unknown = next((label for label in distinct.tolist() if label not in place), None)
    if unknown is not None:
        raise _unlisted(stored, unknown, order)
    classes = np.array([place[label] for label in distinct.tolist()], _index_type(len(order)))
    flat, left_out = stored.values.reshape(-1), stored.left_out.reshape(-1)
    values = np.empty(flat.shape, classes.dtype)
    for start in range(0, len(flat), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
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
        f"The label {_shown(stored, at)} in {stored.place(at)} of {stored.name!r} is none of the "
        f"{len(order):,} classes: {_listing(order)}.",
        hint=f"{advice} {NO_TARGET}",
        detail=_where(stored, at),
    )


def _with_negatives(
    stored: StoredTargets, distinct: Labels, model: ModelView | None
) -> Targets | None:
    """Labels -1 and 1 are two classes where the model has one logit; others are refused."""
    may_be_signs = distinct.tolist() == [-1, 1]
    if may_be_signs and model is None:
        return None
    if may_be_signs and model is not None and model.outputs == 1:
        found = _by_list(stored, distinct, (-1, 1))
        note = (
            f"The labels -1 and 1 of {stored.name!r} are taken for the two classes that the "
            'model\'s one output tells apart, 1 for the class of a large output. "class_labels" '
            "in the probe's spec changes it."
        )
        return replace(found, notes=(note,))
    at = int(((stored.values < 0) & ~stored.left_out).argmax())  # type: ignore[operator]  # integers
    raise _bad_label(stored, at, "is negative; expected whole numbers 0 … K-1", distinct)


def _check_nothing_ignored(stored: StoredTargets, distinct: Labels) -> None:
    """Refuse labels that mark positions to ignore: 255 taken for a class would distort all.

    Where there are 256 classes and more, 255 is one of them; then 254 occurs too.
    """
    asked = "ignore_label" not in stored.spec.model_fields_set
    if stored.column.ndim == 1 or not asked or distinct[-1] != _IGNORE_BYTE:
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
            detail=_where(stored, at),
        )
    raise unreadable(
        f"The label 255 in {stored.place(at)} of {stored.name!r} marks a position to ignore, by "
        "custom.",
        hint='Set "ignore_label": 255 in the spec to leave these positions out; if 255 is a '
        f'class, set "ignore_label": null, {NO_TARGET}',
        detail=_where(stored, at),
    )


def _too_many(
    stored: StoredTargets, distinct: Labels, most: int, model: ModelView | None
) -> JobError:
    """The refusal of labels that are no indices of so many classes."""
    high = int(distinct[-1])
    who = "the model tells" if stored.spec.class_names is None else "class_names lists"
    apart = " apart" if stored.spec.class_names is None else ""
    others = distinct[distinct != _IGNORE_BYTE]
    advice = []
    if high == _IGNORE_BYTE and others.size and others[-1] < most:
        advice.append(
            'If 255 marks what is to be left out, set "ignore_label": 255 in the probe\'s spec.'
        )
    if stored.spec.class_names is not None:
        advice.append(f'List all {high + 1:,} classes in "class_names".')
    elif 1 < len(distinct) <= min(most, _LISTED):
        advice.append(
            "If the stored labels are the classes in ascending order, set "
            f'"class_labels": {distinct.tolist()} in the probe\'s spec; list them in the order of '
            "the model's outputs."
        )
    is_a_value_each = model is not None and model.outputs == 1 and stored.column.ndim == 1
    if is_a_value_each and model is not None and not model.position_shape:
        advice.append('If they are values, set "task": "regression" in the probe\'s spec.')
    advice.append(f"Use a probe with the classes the model was trained on, {NO_TARGET}")
    return mismatch(
        f"The labels {stored.name!r} run from {int(distinct[0])} to {high}, which names "
        f"{high + 1:,} classes counted from 0; {who} {most:,}{apart}.",
        hint=" ".join(advice),
        detail={"classes": high + 1, "model_classes": most},
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


def _number_texts(
    stored: StoredTargets, model: ModelView | None, like: Targets | None
) -> Targets | None:
    distinct = np.unique(stored.values)
    texts = [str(text) for text in distinct]
    _check_texts(stored, texts)
    order = stored.spec.class_names or (None if like is None else like.labels)
    if order is not None:
        found = _by_list(stored, distinct, order)
        return replace(found, class_names=tuple(map(str, order)))
    if model is None:
        return None
    if len(texts) != model.classes:
        raise mismatch(
            f"The text labels {stored.name!r} name {len(texts):,} classes, {_listing(texts)}, and "
            f"the model tells {model.classes:,} apart; which output is of which class cannot be "
            "told.",
            hint=f'List all {model.classes:,} classes in "class_names" in the probe\'s spec, in '
            f"the order of the model's outputs, {NO_TARGET}",
        )
    if texts != (by_number := _by_number(texts)):
        names = json.dumps(by_number, ensure_ascii=False)
        raise mismatch(
            f"The text labels {stored.name!r} are numbers, and their alphabetical order "
            f"{_listing(texts)} is not that of the numbers.",
            hint=f'Store them as whole numbers, or set "class_names": {names} in the probe\'s '
            f"spec, in the order of the model's outputs, {NO_TARGET}",
        )
    found = _by_list(stored, distinct, texts)
    note = (
        f"The text labels {stored.name!r} are numbered in alphabetical order, as numpy.unique "
        f'gives it: {_listing(texts)}. "class_names" in the probe\'s spec changes it.'
    )
    return replace(found, class_names=tuple(texts), notes=(note,))


def _check_texts(stored: StoredTargets, distinct: Sequence[str]) -> None:
    if len(distinct) > stored.limits.max_classes:
        raise unreadable(
            f"The text labels {stored.name!r} name {len(distinct):,} classes; at most "
            f"{stored.limits.max_classes:,} are allowed.",
            hint=f'Check that "target" names the array with the labels, {NO_TARGET}',
        )
    for text in distinct:
        if not 1 <= len(text) <= _MAX_TEXT or not text.isprintable():
            raise unreadable(
                f"The targets {stored.name!r} hold the text {text[:_MAX_TEXT]!r} ({len(text):,} "
                f"characters); expected labels of 1 to {_MAX_TEXT} printable characters.",
                hint=f'Check that "target" names the array with the labels, {NO_TARGET}',
            )


def _by_number(texts: Sequence[str]) -> list[str]:
    """Texts in the order of the numbers they are; as they are, where one is none."""
    if not all(text.isascii() and text.isdigit() for text in texts):
        return list(texts)
    return sorted(texts, key=int)


def _bad_label(
    stored: StoredTargets, at: int, fault: str, distinct: Labels | None = None
) -> JobError:
    advice = []
    label = int(stored.values.flat[at]) if distinct is not None else None
    if label is not None and label < 0:
        advice.append(
            f'If it marks what is to be left out, set "ignore_label": {label} in the spec.'
        )
    is_custom = label == _IGNORE_INDEX
    if distinct is not None and 1 < len(distinct) <= _LISTED and not is_custom:
        advice.append(
            "If the stored labels are the classes in ascending order, set "
            f'"class_labels": {distinct.tolist()} in the spec; list them in the order of the '
            "model's outputs."
        )
    may_be_values = stored.values.ndim <= 2  # noqa: PLR2004  (rows and columns)
    values = 'set "task": "regression" for values, ' if may_be_values else ""
    advice.append(f"Number the classes from 0, {values}{NO_TARGET}")
    return unreadable(
        f"The label {_shown(stored, at)} in {stored.place(at)} of {stored.name!r} {fault}.",
        hint=" ".join(advice),
        detail=_where(stored, at),
    )


def mismatch(message: str, *, hint: str, detail: dict[str, JsonValue] | None = None) -> JobError:
    """The failure of targets that do not fit the model."""
    return JobError(FailureCode.INPUT_MISMATCH, message, hint=hint, detail=detail)


def _shown(stored: StoredTargets, at: int) -> str:
    value = stored.values.flat[at]
    return repr(str(value)) if stored.is_text else str(value)


def _where(stored: StoredTargets, at: int) -> dict[str, JsonValue]:
    return {"array": stored.name, "row": stored.row(at)}


def _listing(entries: Sequence[object]) -> str:
    """Entries for a message, the first ones where there are many."""
    shown = ", ".join(map(str, entries[:_LISTED]))
    return shown if len(entries) <= _LISTED else f"{shown} … ({len(entries):,} in all)"
