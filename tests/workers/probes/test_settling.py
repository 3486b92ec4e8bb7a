"""What targets mean without a model, and what is then written back; the rest is left open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.contract.probe_spec import ProbeSpec
from workers.probes.probe import inspect_probe, load_probe
from workers.probes.settling import settle
from workers.probes.targets import ModelView, store_targets
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

if TYPE_CHECKING:
    from tests.workers.probes.conftest import Save

N = 12
INPUTS = np.zeros((N, 2), np.float32)
LABELS = np.arange(N) % 3
MULTI_HOT = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 3)

DECIDED: dict[str, tuple[np.ndarray, dict[str, Any], str | None, int | None]] = {
    "labels from 0": (LABELS, {}, "classification", 3),
    "labels from 1": (LABELS + 1, {}, "classification", None),
    "labels from 1, named": (LABELS + 1, {"class_names": ["a", "b", "c"]}, "classification", 3),
    "labels, more names": (LABELS, {"class_names": list("abcde")}, "classification", 5),
    "signs": (2 * (LABELS > 0) - 1, {}, "classification", None),
    "listed": (LABELS * 7, {"class_labels": [14, 7, 0, 21]}, "classification", 4),
    "left out": (np.where(LABELS, LABELS - 1, 255), {"ignore_label": 255}, "classification", 2),
    "text": (np.array(["a", "b", "c"])[LABELS], {}, "classification", None),
    "text, named": (
        np.array(["a", "b", "c"])[LABELS],
        {"class_names": ["d", "c", "b", "a"]},
        "classification",
        4,
    ),
    "one-hot": (np.eye(4)[LABELS], {}, "classification", 4),
    "whole floats": (LABELS.astype("f4"), {}, None, None),
    "whole floats, a column": (LABELS.astype("f8")[:, None], {}, None, None),
    "whole floats, named": (LABELS.astype("f4"), {"class_names": list("abc")}, "classification", 3),
    "fractions": (LABELS + 0.5, {}, "regression", None),
    "rows of fractions": (MULTI_HOT + 0.5, {}, "regression", None),
    "multi-hot": (MULTI_HOT, {}, None, None),
    "multi-hot bool": (MULTI_HOT.astype(bool), {}, None, None),
    "multi-hot floats": (MULTI_HOT.astype("f4"), {}, None, None),
    "multi-hot, declared": (MULTI_HOT.astype("f4"), {"task": "multilabel"}, "multilabel", 2),
    "rows of whole floats": (3.0 * MULTI_HOT, {}, None, None),
    "positions": (5 * MULTI_HOT + 2 * MULTI_HOT[:, ::-1], {}, "classification", 8),
    "positions or labels": (5 * MULTI_HOT, {}, None, None),
    "positions of images": (MULTI_HOT[:, :, None], {}, "classification", 2),
    "floats of images": (MULTI_HOT[:, None, :, None].astype("f4"), {}, "classification", 2),
}


@pytest.mark.parametrize("name", DECIDED)
def test_what_the_data_decides_is_written_back_and_no_more(npz: Save, name: str) -> None:
    targets, given, task, classes = DECIDED[name]
    summary = inspect_probe(
        npz(x=INPUTS, y=targets), ProbeSpec.model_validate(given), ProbeLimits()
    )
    assert (summary.task, summary.classes) == (task, classes)
    assert (summary.class_counts is None) == (classes is None)
    spec = summary.spec.model_dump(mode="json")
    assert ("task" in spec) == (task is not None)
    assert {key: spec[key] for key in given} == given
    again = load_probe(npz(x=INPUTS, y=targets), summary.spec, ProbeLimits())
    assert again.spec == summary.spec


def test_samples_whose_label_is_left_out_are_no_samples(save: Save) -> None:
    file = save(x=np.arange(24, dtype=np.float32).reshape(N, 2), y=np.where(LABELS, LABELS, -100))
    spec = ProbeSpec.model_validate({"ignore_label": -100, "class_labels": [2, 1]})
    summary = inspect_probe(file, spec, ProbeLimits())
    assert (summary.n, summary.class_counts) == (8, [4, 4])
    probe = load_probe(file, spec, ProbeLimits())
    assert probe.rows.tolist() == np.flatnonzero(LABELS).tolist()
    assert [x[0, 0].item() for (x,), _ in probe.batches(1)] == [2.0 * row for row in probe.rows]


@pytest.mark.parametrize(
    ("stored", "answers", "fits"),
    [
        ((5, 7), (5, 7), True),
        ((1, 5, 7), (5, 7), True),
        ((35,), (5, 7), True),
        ((5, 7), (35,), True),
        ((2, 15), (2, 3, 5), True),
        ((6, 5), (2, 3, 5), True),
        ((7, 5), (5, 7), False),
        ((10, 3), (2, 3, 5), False),
        ((5, 6), (5, 7), False),
    ],
)
def test_positions_have_to_run_in_the_order_of_the_model(
    stored: tuple[int, ...], answers: tuple[int, ...], fits: bool
) -> None:
    labels = np.zeros((N, *stored), np.int64)
    targets = store_targets("y", labels, ProbeSpec(), ProbeLimits())
    model = ModelView(3, answers)
    if fits:
        found = settle(targets, model)
        assert found is not None
        assert found.values.shape == labels.shape
    else:
        with pytest.raises(JobError, match="expected one target for each position"):
            settle(targets, model)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u8", "f4"])
@pytest.mark.parametrize("classes", [2, 120])
def test_class_indices_hold_every_class(dtype: str, classes: int) -> None:
    labels = np.arange(3 * classes).reshape(3, classes) % classes
    stored = store_targets(
        "y", labels.astype(dtype), ProbeSpec(task="classification"), ProbeLimits()
    )
    found = settle(stored, ModelView(classes, (classes,)))
    assert found is not None
    assert found.values.tolist() == labels.tolist()
    assert found.class_counts == [3] * classes


def test_masks_of_bytes_stay_bytes() -> None:
    masks = np.zeros((4, 1024, 2048), np.uint8)
    masks[0, 0, 0], masks[3, -1, -1] = 2, 255
    spec = ProbeSpec.model_validate({"ignore_label": 255})
    found = settle(store_targets("y", masks, spec, ProbeLimits()))
    assert found is not None
    assert (found.values.dtype, found.classes, found.ignored) == (np.int8, 3, 1)
    assert found.class_counts == [masks.size - 2, 0, 1]


def test_255_is_a_class_where_the_spec_says_that_nothing_is_left_out(npz: Save) -> None:
    masks = np.arange(N * 64).reshape(N, 8, 8) % 256
    masks[masks == 254] = 0
    file = npz(x=INPUTS, y=masks.astype(np.uint8))
    with pytest.raises(JobError) as caught:
        load_probe(file, ProbeSpec(), ProbeLimits())
    assert 'set "ignore_label": null' in (caught.value.failure.hint or "")
    spec = ProbeSpec.model_validate({"ignore_label": None})
    found = load_probe(file, spec, ProbeLimits()).settled(ModelView(256, (8, 8)))
    assert found.targets is not None
    assert (found.targets.classes, found.ignored) == (256, None)


@pytest.mark.parametrize("values", [[0.0, 1e300], [0.0, 1e300, 2e300]])
def test_whole_values_beyond_any_label_are_asked_about_too(values: list[float]) -> None:
    stored = store_targets("y", np.array(values * 6), ProbeSpec(), ProbeLimits())
    with pytest.raises(JobError) as caught:
        settle(stored, ModelView(1))
    assert "class_labels" not in (caught.value.failure.hint or "")
    assert len(caught.value.failure.message) < 200


def test_that_0_is_left_out_shows_where_labels_are_counted_from() -> None:
    spec = ProbeSpec.model_validate({"ignore_label": 0})
    found = settle(store_targets("y", LABELS, spec, ProbeLimits()), ModelView(5))
    assert found is not None
    assert found.values.tolist() == np.where(LABELS == 0, -1, LABELS).tolist()
    with pytest.raises(JobError, match="1 … 3 without a gap, of 5 classes"):
        settle(store_targets("y", LABELS + 1, ProbeSpec(), ProbeLimits()), ModelView(5))
