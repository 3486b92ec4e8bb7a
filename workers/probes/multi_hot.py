"""Several labels a sample: a column for each label, which tells whether a sample carries it."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from workers.probes.containers.container import unreadable
from workers.probes.listed import mismatch, where
from workers.probes.targets import NO_TARGET, ModelView, StoredTargets, Targets
from workers.protocol.errors import JobError

_MATRIX_AXES = 2

_CARRIED = (0, 1)
"""What stands for a label that a sample does not carry, and for one that it carries."""


def several_labels(stored: StoredTargets, like: Targets | None = None) -> Targets:
    """Read rows with one of two numbers for each label.

    Args:
        stored: Numbers, (n,) or (n, labels): 0 and 1, or the two that `class_labels` lists.
        like: Settled targets of the other probe of an analysis, whose labels these are.

    Raises:
        JobError: `probe_unreadable` for other shapes and for any third number.
    """
    if stored.values.ndim > _MATRIX_AXES or stored.is_text:
        raise stored.misshapen()
    matrix = stored.values.reshape(len(stored.values), -1)
    check_columns(stored, matrix.shape[1])
    pair = stored.spec.class_labels or (None if like is None else like.labels)
    absent, carried = cast("tuple[int, int]", tuple(pair or _CARRIED))
    is_carried = matrix == carried
    if (bad := np.flatnonzero(~is_carried & (matrix != absent))).size:
        raise _third(stored, int(bad[0]), (absent, carried))
    return Targets(
        "multilabel",
        is_carried.astype(np.float64),
        matrix.shape[1],
        labels=None if pair is None else (absent, carried),
        class_names=names_of(stored),
    )


def _third(stored: StoredTargets, at: int, pair: tuple[int, int]) -> JobError:
    """Return the refusal of a number that says neither that a label is carried nor not."""
    advice = [f"Store {pair[0]} and {pair[1]}"]
    if pair == _CARRIED and len(codes := stored.codes) == len(pair):
        advice = [f'Set "class_labels": {codes}, the second for a label that a sample carries']
    return unreadable(
        f"The target {stored.values.flat[at]} in {stored.place(at)} of {stored.name!r} is neither "
        f"{pair[0]} nor {pair[1]}; expected {pair[1]} for each label that a sample carries, and "
        f"{pair[0]} for the others.",
        hint=f'{advice[0]}, or set "task": "regression" for values, {NO_TARGET}',
        detail=where(stored, at),
    )


def noted(stored: StoredTargets, model: ModelView) -> str:
    """Return what shows that rows of 0 and 1 are several labels."""
    return (
        f"The rows {stored.name!r} of 0 and 1 hold any number of ones, so each of the "
        f"{stored.values.shape[1]:,} columns is a label of its own that a sample carries or not: "
        f"the model has as many outputs ({model.outputs:,}). If they are values, set "
        '"task": "regression" in the probe\'s spec.'
    )


def labels_or_values(stored: StoredTargets) -> JobError:
    """Return the question what rows of two numbers, or of two and one for unknown, are."""
    codes = stored.codes
    listed = ", ".join(map(str, codes[:-1])) + f" and {codes[-1]}"
    if len(codes) == len(_CARRIED):
        advice = (
            f'set "task": "multilabel" and "class_labels": {codes}, the second for a label that a '
            "sample carries"
        )
    else:
        advice = (
            "every label of a sample has to be known: leave out the other samples, store 1 where a "
            'sample carries a label and 0 where not, and set "task": "multilabel"'
        )
    if _is_one_of_many(stored):
        advice += ". If each row names one class, store it as a whole number, y.argmax(axis=1)"
    return mismatch(
        f"The rows of the targets {stored.name!r} hold nothing but {listed}, and the model has an "
        "output for each column: they may be labels that a sample carries or not, or values.",
        hint=f'If they are values, set "task": "regression" in the probe\'s spec. If each column '
        f"is a label, {advice}, {NO_TARGET}",
        detail={"array": stored.name, "distinct": len(codes)},
    )


def _is_one_of_many(stored: StoredTargets) -> bool:
    """Return whether the largest number occurs once in each row."""
    matrix = cast("npt.NDArray[Any]", stored.column)
    return bool(((matrix == stored.codes[-1]).sum(axis=1) == 1).all())


def names_of(stored: StoredTargets) -> tuple[str, ...] | None:
    """Return what the spec calls the labels."""
    names = stored.spec.class_names
    return None if names is None else tuple(names)


def check_columns(stored: StoredTargets, columns: int) -> None:
    """Refuse more columns than there may be labels, and names that are not one for each.

    Raises:
        JobError: `probe_unreadable`.
    """
    if columns > stored.limits.max_classes:
        raise unreadable(
            f"The targets {stored.name!r} have {columns:,} columns of 0 and 1; at most "
            f"{stored.limits.max_classes:,} classes are allowed.",
            hint=f'Check that "target" names the right array, {NO_TARGET}',
        )
    names = stored.spec.class_names
    if names is not None and len(names) != columns:
        raise unreadable(
            f"The targets {stored.name!r} have {columns:,} columns, and class_names "
            f"{len(names):,} entries; expected a name for each column.",
            hint='Give "class_names" as many entries as there are columns, or leave it out.',
        )
