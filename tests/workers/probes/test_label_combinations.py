"""Every way to store labels, for every model: read right, or asked for and right after that."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from service.contract.failures import Failure
from service.contract.probe_spec import ProbeSpec
from workers.probes.settling import settle
from workers.probes.targets import ModelView, Targets, store_targets
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

N = 60
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "one a sample": ((), ()),
    "a column": ((1,), ()),
    "images": ((4, 3), (4, 3)),
    "one channel": ((1, 4, 3), (4, 3)),
    "flattened": ((12,), (4, 3)),
    "tokens": ((7,), (7,)),
    "turned": ((3, 4), (4, 3)),
}
FORMS = (
    *("u1", "i2", "u4", "i8", "u8", "f2", "f4", "f8"),
    *("from 1", "floats from 1", "gaps", "text", "one-hot", "multi-hot", "signs", "0 and 255"),
    *("void 255", "void -100", "void -1"),
)
SETTING = re.compile(r'"(task|class_labels|class_names|ignore_label)": (\[[^\]]*\]|"\w+"|-?\d+)')


def stored(form: str, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Labels in one of the forms; None where there is none."""
    rng = np.random.default_rng(1)
    a_class_each = labels.ndim == 1
    match form:
        case "from 1" | "floats from 1":
            found = labels + 1 if form == "from 1" else (labels + 1).astype("f4")
        case "void 255" | "void -100" | "void -1":
            found = np.where(rng.random(labels.shape) < 0.2, int(form.split()[1]), labels)
        case "signs" | "0 and 255":
            pair = np.array([-1, 1] if form == "signs" else [0, 255])
            return pair[labels] if classes == 2 else None
        case "one-hot":
            return np.eye(classes, dtype=np.float32)[labels] if a_class_each else None
        case "multi-hot":
            return rng.random((N, classes)) < 0.4 if a_class_each else None
        case "gaps":
            found = 10 * labels
        case "text":
            found = np.array([f"class {k}" for k in range(classes)])[labels]
        case _:
            found = labels.astype(form)
    return found


def combinations() -> Iterator[tuple[str, np.ndarray, np.ndarray, ModelView, int]]:
    """Of a form and a shape: what is stored, what it means, the model, and how many classes."""
    rng = np.random.default_rng(0)
    for classes, extra, form, shape in product((2, 3, 5), (0, 4), FORMS, SHAPES):
        axes, positions = SHAPES[shape]
        size = (N, *axes)
        labels = rng.permutation(np.arange(np.prod(size)) % classes).reshape(size)
        array = stored(form, labels, classes)
        if array is None or (form == "multi-hot" and extra):
            continue
        outputs = {classes + extra} | ({1} if classes == 2 and not extra else set())
        if form == "multi-hot":
            outputs = {classes}
        for each in sorted(outputs):
            model = ModelView(each, positions, "identity")
            yield f"{form}, {shape}", array, labels, model, classes


def read(array: np.ndarray, spec: dict[str, Any], model: ModelView) -> Targets | Failure:
    try:
        targets = store_targets("y", array, ProbeSpec.model_validate(spec), ProbeLimits())
        found = settle(targets, model)
    except JobError as error:
        return error.failure
    assert found is not None
    return found


def is_right(found: Targets, array: np.ndarray, labels: np.ndarray, form: str) -> bool:
    """Whether each label that counts is the class that it was made from."""
    if form == "multi-hot":
        return found.task == "multilabel" and np.array_equal(found.values, array)
    if found.task != "classification":
        return False
    kept = np.ones(labels.shape, bool)
    if form.startswith("void"):
        kept = array != int(form.split()[1])
    wanted = np.where(kept, labels, -1).reshape(-1)
    return np.array_equal(np.asarray(found.values).reshape(-1), wanted)


def answers(failure: Failure) -> Iterator[dict[str, Any]]:
    """What the hint says may be set."""
    for key, value in SETTING.findall(failure.hint or ""):
        yield {key: json.loads(value)}


def test_labels_are_read_right_or_asked_for() -> None:
    seen: Counter[str] = Counter()
    for name, array, labels, model, classes in combinations():
        form, shape = name.split(", ")
        what = f"{name} ({array.dtype}), {classes} classes, {model.outputs} outputs"
        found = read(array, {}, model)
        if isinstance(found, Failure):
            assert found.hint, what
            assert '"target": null' in found.hint or '"task"' in found.hint, what
            settled = [read(array, answer, model) for answer in answers(found)]
            works = [
                each
                for each in settled
                if isinstance(each, Targets) and is_right(each, array, labels, form)
            ]
            asked = shape != "turned" and not (form == "text" and model.classes > classes)
            assert bool(works) == asked, f"{what}: {found.message} {found.hint}"
            seen["asked" if works else "refused"] += 1
        else:
            assert shape != "turned", what
            assert is_right(found, array, labels, form), what
            seen["right"] += 1
    assert seen.total() > 500
    assert seen["right"] > 300, seen
    assert min(seen.values()) > 10, seen


@pytest.mark.parametrize("outputs", [1, 3])
def test_values_are_never_taken_for_labels(outputs: int) -> None:
    values = np.random.default_rng(0).standard_normal((N, outputs))
    for array in (values, values.astype("f2"), values[:, :1] if outputs == 1 else values):
        found = read(array, {}, ModelView(outputs))
        assert isinstance(found, Targets)
        assert (found.task, found.values.tolist()) == ("regression", array.tolist())
