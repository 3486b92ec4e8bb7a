"""What targets mean: what the data decides, and what only the model decides.

A reading is taken where it is the only one that fits. Where two fit, the owner is asked; what was
inferred is written down in the notes of the targets.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import mul

import numpy as np
import numpy.typing as npt

from service.contract.probe_spec import Task
from workers.probes.containers.container import shape_text, unreadable
from workers.probes.listed import mismatch
from workers.probes.multi_hot import (
    check_columns,
    labels_or_values,
    names_of,
    noted,
    several_labels,
)
from workers.probes.numbering import check_number_of_classes, number_labels
from workers.probes.targets import NO_TARGET, ModelView, StoredTargets, Targets
from workers.protocol.errors import JobError

_LISTED = 32
_MATRIX_AXES = 2

_LARGEST = 2**63
"""Whole numbers below it can be labels."""


def settle(
    stored: StoredTargets, model: ModelView | None = None, like: Targets | None = None
) -> Targets | None:
    """Make out what targets mean.

    Args:
        stored: As they are stored.
        model: Whose probe it is; None where none is known yet.
        like: Settled targets of the other probe of an analysis, whose classes these are.

    Returns:
        The targets; None where the data does not decide and there is no model that does.

    Raises:
        JobError: `probe_unreadable` for targets that are none, `input_mismatch` for such that do
            not fit the model, or fit it in two ways. The hint names the key of the spec to set.
    """
    if like is not None:
        _check_same_kind(stored, like)
        stored = _named_alike(stored, like)
    if model is not None and not model.outputs:
        return _settle_without_outputs(stored, model, like)
    found = _read(stored, model, like)
    if found is not None and like is not None and found.task != like.task:
        raise mismatch(
            f"Its targets are of a {found.task}, those of the probe of a {like.task}; expected the "
            "same task.",
            hint="Register both probes from one dataset; where values look like labels, with "
            f'"task": "{like.task}" in the spec.',
        )
    if found is not None and model is not None:
        _check_fits(stored, found, model)
        found = replace(found, notes=(*found.notes, *_as_logit(stored, found, model)))
    return found


def _as_logit(stored: StoredTargets, found: Targets, model: ModelView) -> Iterator[str]:
    """Yield what a single output without a link is taken for, where the labels are 0 and 1."""
    is_binary = found.task == "classification" and found.classes == 2  # noqa: PLR2004 - two classes
    is_number = not (stored.is_text or stored.is_float or stored.is_one_hot)
    if is_binary and is_number and found.labels is None and model.is_bare_output:
        yield (
            "The model's one output, which no link follows, is taken for the logit of label 1: "
            "from 0 on it answers 1. If it was fitted to the numbers 0 and 1 themselves, set "
            '"task": "regression" in the probe\'s spec.'
        )


def _settle_without_outputs(
    stored: StoredTargets, model: ModelView, like: Targets | None
) -> Targets:
    """Return what targets mean that only features are compared with, as data or spec says."""
    found = _read(stored, None, like)
    if found is None:
        raise _undecided(stored)
    is_classifier = found.task == "classification"
    _check_positions(stored, found.values.shape[1:] if is_classifier else (), model)
    return found


def _undecided(stored: StoredTargets) -> JobError:
    """Return the question what targets mean that a model's outputs would have decided."""
    distinct = np.unique(stored.values)
    key = "class_names" if stored.is_text else "class_labels"
    labels = distinct.tolist() if stored.is_text else [int(label) for label in distinct.tolist()]
    listed = json.dumps(labels[:_LISTED], ensure_ascii=False)
    classes = f'"task": "classification" and "{key}": {listed}'
    if len(labels) > _LISTED:
        classes += f" and so on, all {len(labels):,}"
    if stored.is_binary_matrix:
        classes = '"task": "multilabel"'
    values = "" if stored.is_text else ', or for values "task": "regression"'
    return mismatch(
        f"What the targets {stored.name!r} mean depends on the model's outputs, and there are "
        "none: the features alone are judged.",
        hint=f"Set in the probe's spec for class labels {classes}{values}.",
        detail={"array": stored.name, "distinct": len(distinct)},
    )


def decided_task(stored: StoredTargets) -> Task | None:
    """Return the task that spec and data show without a model; the classes may still be open."""
    if stored.task is not None:
        return stored.task
    if not stored.is_whole:
        return None if stored.is_shares else "regression"
    may_be_several = stored.column.ndim > 1 and (stored.is_binary_matrix or bool(stored.codes))
    says_little = stored.is_float or may_be_several
    return None if says_little and not stored.is_one_hot else "classification"


def _read(stored: StoredTargets, model: ModelView | None, like: Targets | None) -> Targets | None:
    match stored.task or (None if like is None else like.task):
        case "regression":
            return _values(stored)
        case "multilabel":
            return several_labels(stored, like)
        case "classification":
            return _classes(stored, model, like)
        case None:
            return _undeclared(stored, model)


def _undeclared(stored: StoredTargets, model: ModelView | None) -> Targets | None:
    if not stored.is_whole:
        return _shares(stored, model) if stored.is_shares else _values(stored)
    if stored.column.ndim > 1:
        return _whole_matrix(stored, model)
    if not stored.is_float:
        return _classes(stored, model)
    return None if model is None else _whole_column(stored, model)


def _whole_column(stored: StoredTargets, model: ModelView) -> Targets | None:
    """Settle one whole-valued float a sample: the class, where the model answers with classes."""
    if model.outputs > 1 or model.positions > 1:
        reason = f"the model has {model.outputs:,} outputs for one target a sample"
    elif ((stored.values == 0) | (stored.values == 1)).all():
        reason = (
            f"they are 0 and 1, and the model has one output, whose link is {model.link}. If they "
            'are values, set "task": "regression" in the probe\'s spec'
        )
    else:
        raise _one_output(stored)
    found = _classes(stored, model)
    if found is None:
        return None
    note = f"The whole-valued floats {stored.name!r} are class labels: {reason}."
    return replace(found, notes=(note, *found.notes))


def _one_output(stored: StoredTargets) -> JobError:
    """Return the question what whole numbers are that a model with one output is compared with."""
    distinct = np.unique(stored.values)
    low, high = distinct[0].item(), distinct[-1].item()
    return mismatch(
        f"The targets {stored.name!r} are whole-valued floats from {low:.16g} to {high:.16g}, and "
        "the model has one output: they may be values, such as counts, or class labels.",
        hint=f'If they are values, set "task": "regression" in the probe\'s spec. '
        f"{_two_classes(distinct)}",
        detail={"array": stored.name, "distinct": len(distinct)},
    )


def _two_classes(distinct: npt.NDArray[np.generic]) -> str:
    """Return what to set if whole-valued floats are the labels of two classes."""
    labels = [int(label) for label in distinct.tolist() if abs(label) < _LARGEST]
    others = [label for label in labels if label not in {0, 1}]
    if len(distinct) == len(labels) == 2:  # noqa: PLR2004 - two classes
        return (
            'If they are labels of two classes, set "task": "classification" and '
            f'"class_labels": {labels}, the second for the class of a large output.'
        )
    if len(distinct) == len(labels) == 3 and len(others) == 1:  # noqa: PLR2004 - 0, 1 and another
        return (
            f"If they are labels of two classes, and {others[0]} marks what is to be left out, set "
            f'"task": "classification" and "ignore_label": {others[0]}.'
        )
    return (
        '"task": "classification" needs a model with an output for each class: one output tells '
        "two apart."
    )


def _whole_matrix(stored: StoredTargets, model: ModelView | None) -> Targets | None:
    """Settle whole numbers, several a sample: a one-hot class, labels, positions or values."""
    may_be_several = (stored.is_binary_matrix or bool(stored.codes)) and not stored.is_one_hot
    says_little = stored.is_binary_matrix or stored.is_float
    if model is None:
        is_open = may_be_several or (stored.is_float and stored.column.ndim == _MATRIX_AXES)
        return None if is_open and not stored.is_one_hot else _classes(stored, None)
    if model.positions > 1 and says_little:
        found = _classes(stored, model)
        note = _per_position(stored, model)
        return None if found is None else replace(found, notes=(note, *found.notes))
    if model.positions > 1 or stored.is_one_hot:
        return _classes(stored, model)
    if stored.is_binary_matrix:
        return replace(several_labels(stored), notes=(noted(stored, model),))
    if stored.codes and model.outputs == stored.values.shape[1]:
        raise labels_or_values(stored)
    is_rows_of_values = stored.is_float and stored.column.ndim == _MATRIX_AXES
    return _values(stored) if is_rows_of_values else _classes(stored, model)


def _shares(stored: StoredTargets, model: ModelView | None) -> Targets | None:
    """Settle rows that sum to 1: they may be probabilities of classes, such as smoothed labels."""
    if model is None:
        return None
    if model.outputs != stored.values.shape[1]:
        return _values(stored)
    raise mismatch(
        f"The rows of the targets {stored.name!r} sum to 1, and the model has an output for each "
        "column: they may be probabilities of classes, or values.",
        hint='If they are values, set "task": "regression" in the probe\'s spec. If they are '
        "probabilities, store the class of each sample as a whole number: y.argmax(axis=1).",
        detail={"array": stored.name},
    )


def _per_position(stored: StoredTargets, model: ModelView) -> str:
    return (
        f"The whole numbers {stored.name!r} are the labels of positions: the model answers for "
        f"{model.positions:,} positions of each sample."
    )


def _classes(
    stored: StoredTargets, model: ModelView | None, like: Targets | None = None
) -> Targets | None:
    """Return labels in one-hot rows, one a sample, or one for each position."""
    is_dense = model is not None and model.positions > 1
    if stored.is_one_hot and not is_dense and not stored.left_out.any():
        classes = stored.column.shape[1]
        check_columns(stored, classes)
        check_number_of_classes(stored, model)
        return Targets(
            "classification",
            (stored.column == 1).argmax(axis=1),
            classes,
            class_names=names_of(stored),
        )
    if not (stored.is_whole or stored.is_text) and stored.column.ndim > 1:
        raise unreadable(
            f"The targets {stored.name!r} have shape {shape_text(stored.values.shape)} and dtype "
            f"{stored.values.dtype.name}, but are neither whole labels nor one-hot rows (one 1, "
            "zeros elsewhere).",
            hint='Store labels as whole numbers, or set "task": "regression" for values in rows, '
            f"{NO_TARGET}",
        )
    if model is not None:
        _check_positions(stored, stored.column.shape[1:], model)
    return number_labels(replace(stored, values=stored.column), model, like)


def _values(stored: StoredTargets) -> Targets:
    if stored.column.ndim > _MATRIX_AXES or stored.is_text:
        raise stored.misshapen()
    return Targets("regression", stored.values.reshape(len(stored.values), -1).astype(float), None)


def _check_same_kind(stored: StoredTargets, like: Targets) -> None:
    """Refuse a second probe whose classes cannot be those of the first."""
    if like.task != "classification":
        return
    is_text = like.labels is not None and isinstance(like.labels[0], str)
    if stored.is_text != is_text:
        kinds = {True: "text", False: "numbers"}
        raise mismatch(
            f"The labels {stored.name!r} are {kinds[stored.is_text]}, those of the probe "
            f"{kinds[is_text]}; expected both probes to name classes alike.",
            hint=f"Store the labels of both probes in the same way, {NO_TARGET}",
        )
    labels, names = stored.spec.class_labels, stored.spec.class_names
    counted = range(len(labels or ()))
    for key, given, expected in (
        ("class_labels", labels, like.labels or tuple(counted)),
        ("class_names", names, like.class_names),
    ):
        if given is not None and expected is not None and tuple(given) != expected:
            raise mismatch(
                f"The two probes list different {key}, or in another order; expected the same.",
                hint=f'Set "{key}" alike in the specs of both probes.',
            )


def _named_alike(stored: StoredTargets, like: Targets) -> StoredTargets:
    """Return the same targets, their classes named as in the first probe if nobody did."""
    if like.class_names is None or stored.spec.class_names is not None:
        return stored
    named = stored.spec.model_copy(update={"class_names": list(like.class_names)})
    return replace(stored, spec=named)


def _check_fits(stored: StoredTargets, found: Targets, model: ModelView) -> None:
    """Refuse targets that do not have one entry for each answer of the model."""
    is_classifier = found.task == "classification"
    _check_positions(stored, found.values.shape[1:] if is_classifier else (), model)
    fits = found.functions <= model.classes if is_classifier else found.functions == model.outputs
    if not fits:
        raise _other_outputs(stored, found, model)


def _check_positions(stored: StoredTargets, shape: Sequence[int], model: ModelView) -> None:
    """Refuse targets whose positions are not those of the model, in the same order.

    The order is the same where one shape is the other one flattened in part: (H·W,) is (H, W),
    (W, H) is not.
    """
    positions = math.prod(shape)
    ends = set(accumulate((size for size in shape if size != 1), mul))
    others = set(accumulate(model.position_shape, mul))
    if positions == model.positions and (ends <= others or others <= ends):
        return
    n, axes = len(stored.values), stored.values.shape
    answers = shape_text((n, *(model.position_shape or (1,)), model.outputs))
    if model.positions == 1:
        advice = "Use a probe with one label a sample, of shape (n,) or one-hot (n, classes),"
        if axes[1:] == (model.outputs,) and not stored.is_text:
            advice += ' set "task": "regression" in the spec if they are values,'
            if stored.is_binary_matrix or stored.codes:
                advice += ' "task": "multilabel" if each column is a label of its own,'
    else:
        wanted = ", ".join(map(str, ("n", *model.position_shape)))
        advice = (
            "Use a probe with one whole label for each position of the model's output, of shape "
            f"(n, *positions) = ({wanted}), in this order,"
        )
        if not (stored.is_whole or stored.is_text):
            advice = "Use labels, as values of each position (depth maps, say) are not supported,"
    counts = f"{model.positions:,} against {positions:,} a sample"
    if positions == model.positions:
        counts = f"{model.positions:,} positions each, but in another order"
    raise mismatch(
        f"The model's outputs are (samples, positions, outputs) = {answers} and the probe's "
        f"targets {shape_text(axes)}: {counts}; expected one target for each position, in the same "
        "order.",
        hint=f"{advice} {NO_TARGET}",
        detail={"positions": model.positions, "targets": positions},
    )


def _other_outputs(stored: StoredTargets, found: Targets, model: ModelView) -> JobError:
    count, outputs = found.functions, model.outputs
    if found.task == "classification":
        message = f"The labels name {count:,} classes, the model tells {model.classes:,} apart."
        advice = "Use a probe with the classes the model was trained on,"
    elif found.task == "multilabel":
        message = f"The model has {outputs:,} outputs and the probe {count:,} labels a sample."
        advice = 'With "task": "multilabel" use targets with a column for each output,'
        if stored.is_one_hot:
            advice += ' or set "task": "classification",'
    else:
        message = f"The model has {outputs:,} outputs; values of the probe a sample: {count:,}."
        advice = "Use targets with one value for each output,"
        if count == 1 and stored.is_whole:
            advice = 'If they are labels, set "task": "classification" in the spec,'
    return mismatch(
        f"{message} (The targets are {stored.name!r}, {shape_text(stored.values.shape)}.)",
        hint=f"{advice} {NO_TARGET}",
        detail={"targets": count, "outputs": outputs},
    )
