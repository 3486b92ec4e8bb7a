"""Labels that are text: numbered as they are listed, or in alphabetical order."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.contract.probe_spec import MAX_CLASSES_NAMED
from workers.probes.containers.container import unreadable
from workers.probes.listed import LISTED, by_list, listing, mismatch, not_all
from workers.probes.targets import NO_TARGET, ModelView, StoredTargets, Targets
from workers.protocol.errors import JobError

_MAX_TEXT = 200


def number_texts(
    stored: StoredTargets, model: ModelView | None, like: Targets | None
) -> Targets | None:
    """Turn written labels into class indices; None where only the model tells which.

    Args:
        stored: Labels of any shape.
        model: Whose probe it is; None where none is known yet.
        like: Settled targets of the other probe of an analysis, whose classes these are.

    Raises:
        JobError: `probe_unreadable` for texts that are no labels, `input_mismatch` for such that do
            not tell which output is of which class.
    """
    distinct = np.unique(stored.values)
    texts = [str(text) for text in distinct]
    _check_texts(stored, texts)
    order = stored.spec.class_names or (None if like is None else like.labels)
    if order is not None:
        named = tuple(map(str, order))
        if model is not None and len(named) != model.classes and not model.is_unverified:
            raise _not_all(stored, named, model)
        note = (
            f'The text labels {stored.name!r} are numbered as "class_names" in the probe\'s spec '
            f"lists them, in the order of the model's outputs: {listing(named)}."
        )
        return replace(by_list(stored, distinct, order), class_names=named, notes=(note,))
    if model is None:
        return None
    if len(texts) != model.classes:
        raise _not_all(stored, texts, model)
    if texts != (by_number := _by_number(texts)):
        names = f": {json.dumps(by_number)}" if len(by_number) <= LISTED else " in that order"
        raise mismatch(
            f"The text labels {stored.name!r} are numbers, and their alphabetical order "
            f"{listing(texts)} is not that of the numbers.",
            hint=f'Store them as whole numbers, or set "class_names"{names} in the probe\'s '
            f"spec, in the order of the model's outputs, {NO_TARGET}",
        )
    found = by_list(stored, distinct, texts)
    note = (
        f"The text labels {stored.name!r} are numbered in alphabetical order, as numpy.unique "
        f'gives it: {listing(texts)}. "class_names" in the probe\'s spec changes it.'
    )
    # A report names no more classes than a spec can.
    shown = tuple(texts) if len(texts) <= MAX_CLASSES_NAMED else None
    return replace(found, class_names=shown, notes=(note,))


def _not_all(stored: StoredTargets, texts: Sequence[str], model: ModelView) -> JobError:
    told = f"The text labels {stored.name!r} name {len(texts):,} classes, {listing(texts)}"
    return not_all(told, len(texts), model)


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
    """Return texts in the order of their numbers; as they are, where one is no number."""
    if not all(text.isascii() and text.isdigit() for text in texts):
        return list(texts)
    return sorted(texts, key=int)
