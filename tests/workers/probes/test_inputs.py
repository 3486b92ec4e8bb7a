"""Probes of several inputs, and of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from service.contract.failures import Failure, FailureCode
from service.contract.probe_spec import ProbeSpec
from service.contract.transform import Transform
from workers.probes.probe import ProbeData, inspect_probe, load_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

if TYPE_CHECKING:
    import io

    from tests.workers.probes.conftest import Save

IDS = np.arange(24, dtype=np.int32).reshape(6, 4)
MASK = np.arange(24).reshape(6, 4) % 3 > 0
LABELS = np.arange(6) % 2


def read(file: io.BytesIO, spec: dict[str, object] | None = None, **options: int) -> ProbeData:
    return load_probe(file, ProbeSpec.model_validate(spec or {}), ProbeLimits(), **options)


def refusal(
    file: io.BytesIO, spec: dict[str, object] | None = None, limits: ProbeLimits | None = None
) -> Failure:
    with pytest.raises(JobError) as caught:
        inspect_probe(file, ProbeSpec.model_validate(spec or {}), limits or ProbeLimits())
    return caught.value.failure


def test_arrays_that_may_be_inputs_are_listed_and_left_open(save: Save) -> None:
    file = save(attention_mask=MASK, labels=LABELS, input_ids=IDS)
    summary = inspect_probe(file, ProbeSpec(), ProbeLimits())
    spec = summary.spec.model_dump(mode="json")
    assert spec.pop("format") in {"npz", "safetensors"}
    assert spec == {"target": "labels", "task": "classification"}
    assert summary.input_shape == [4]
    assert [each.model_dump() for each in summary.inputs] == [
        {"name": "input_ids", "shape": [4], "dtype": "int32"},
        {"name": "attention_mask", "shape": [4], "dtype": "bool"},
    ]
    again = read(file, summary.spec.model_dump(mode="json"))
    assert again.spec == summary.spec
    assert list(again.stored) == ["input_ids", "attention_mask"]
    settled = again.given({"attention_mask": Transform(), "input_ids": Transform(dtype="int64")})
    (mask, ids), labels = next(settled.batches(6))
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)
    assert ids.tolist() == IDS.tolist()
    assert mask.tolist() == MASK.tolist()
    assert labels is not None
    assert labels.tolist() == LABELS.tolist()


def test_arrays_of_other_samples_and_of_words_are_no_inputs(npz: Save) -> None:
    words = np.array(["a"] * 6)
    probe = read(npz(x=IDS, other=IDS[:5], lengths=LABELS, words=words), {"target": None})
    assert list(probe.stored) == ["x", "lengths"]
    assert probe.others == ("other", "words")


def test_training_data_beside_test_data_is_asked_about(npz: Save) -> None:
    arrays = {"x_train": IDS, "y_train": LABELS, "x_test": IDS[:5], "y_test": LABELS[:5]}
    failure = refusal(npz(**arrays))
    assert "'y_train', 'y_test'" in failure.message
    assert failure.hint is not None
    assert '"target": "y_train"' in failure.hint
    assert read(npz(**arrays), {"input": "x_test"}).spec.target == "y_test"


def test_an_empty_transform_leaves_tokens_as_they_are_stored(npz: Save) -> None:
    probe = read(npz(x=IDS), {"transform": {}})
    (ids,), _ = next(probe.batches(6))
    assert ids.dtype == torch.int32


def test_one_transform_is_that_of_the_first_input(save: Save) -> None:
    images = np.full((6, 2, 2), 10, np.uint8)
    probe = read(
        save(b=images, a=images, c=np.ones((6, 1), np.float64)),
        {"input": ["a", "b", "c"], "transform": {"dtype": "float32", "scale": 0.5}},
    )
    (a, b, c), _ = next(probe.batches(6))
    assert (a.dtype, b.dtype, c.dtype) == (torch.float32, torch.uint8, torch.float64)
    assert a.unique().tolist() == [5]
    assert b.unique().tolist() == [10]


def test_each_input_has_its_own_transform(npz: Save) -> None:
    images = np.zeros((6, 5, 5, 3), np.uint8)
    probe = read(
        npz(left=images, right=images),
        {
            "input": ["left", "right"],
            "transform": [
                {"layout": "NHWC->NCHW", "dtype": "float32"},
                {"mean": [1.0], "std": [0.5]},
            ],
        },
    )
    (left, right), _ = next(probe.batches(2))
    assert left.shape == (2, 3, 5, 5)
    assert right.shape == (2, 5, 5, 3)
    assert right.unique().tolist() == [-2]
    assert right.dtype == torch.float32


def test_an_input_beside_others_may_be_one_number_a_sample(save: Save) -> None:
    lengths = np.arange(1, 7, dtype=np.int16)
    file = save(ids=IDS, lengths=lengths)
    spec: dict[str, object] = {"input": ["ids", "lengths"], "target": None}
    assert inspect_probe(file, ProbeSpec.model_validate(spec), ProbeLimits()).inputs[1].shape == []
    (_, read_back), _ = next(read(file, spec).batches(6))
    assert read_back.tolist() == lengths.tolist()
    spec["transform"] = [{}, {"mean": [1.0, 2.0]}]
    assert "mean has 2 values" in refusal(file, spec).message


def test_a_subsample_takes_the_same_rows_of_every_input(save: Save) -> None:
    values = np.arange(100).reshape(100, 1)
    probe = read(
        save(a=values, b=values.astype(np.float32), y=np.arange(100)),
        {"input": ["a", "b"]},
        max_samples=10,
        seed=1,
    )
    (a, b), labels = next(probe.batches(100))
    assert labels is not None
    assert a[:, 0].tolist() == b[:, 0].tolist() == labels.tolist() == probe.rows.tolist()
    assert len(probe) == 10


def test_a_missing_input_is_named_with_what_there_is(save: Save) -> None:
    message = refusal(save(a=IDS, b=IDS), {"input": ["a", "z"]}).message
    assert "'z' as input" in message
    assert "'b' int32 (6, 4)" in message


def test_inputs_must_hold_the_same_samples(save: Save) -> None:
    spec: dict[str, object] = {"input": ["input_ids", "attention_mask"]}
    failure = refusal(save(input_ids=IDS, attention_mask=MASK[:5], labels=LABELS), spec)
    assert failure.code == FailureCode.PROBE_UNREADABLE
    assert failure.message == (
        "'input_ids' holds 6 samples but 'attention_mask' holds 5 samples; expected equal numbers."
    )
    assert failure.detail == {"inputs": [6, 5]}


def test_values_that_are_not_finite_are_named_with_their_input_and_row(save: Save) -> None:
    extra = np.ones(6, np.float32)
    extra[4] = np.nan
    failure = refusal(save(a=IDS, b=extra), {"input": ["a", "b"], "target": None})
    assert failure.code == FailureCode.NON_FINITE
    assert "'b' hold NaN or Inf, first in row 4" in failure.message


def test_inputs_are_bounded_together(save: Save) -> None:
    file = save(a=IDS, b=IDS)
    limits = ProbeLimits(max_array_bytes=IDS.nbytes * 2 - 1)
    failure = refusal(file, {"input": ["a", "b"]}, limits)
    assert "192 bytes together; at most 191" in failure.message
    assert refusal(file, {"input": "a", "target": "b"}, ProbeLimits(max_array_bytes=90)).detail == {
        "bytes": 96,
        "limit": 90,
    }


def test_labels_per_position_are_counted_over_all_positions(save: Save) -> None:
    labels = np.array([[[0, 1, 3], [0, 0, 1]]] * 6, np.uint8)
    file = save(x=np.zeros((6, 3, 2, 3), np.float32), y=labels)
    summary = inspect_probe(file, ProbeSpec(), ProbeLimits())
    assert (summary.n, summary.task) == (6, "classification")
    assert (summary.classes, summary.class_counts) == (4, [18, 12, 0, 6])
    probe = read(file, max_samples=4)
    assert probe.targets is not None
    assert probe.targets.positions == 6
    batch = torch.cat([targets for _, targets in probe.batches(3) if targets is not None])
    assert batch.dtype == torch.int64
    assert batch.tolist() == labels[:4].tolist()


def test_255_is_a_class_where_254_is_one(npz: Save) -> None:
    labels = np.array([[0, 254, 255]] * 6, np.uint8)
    assert inspect_probe(npz(x=IDS, y=labels), ProbeSpec(), ProbeLimits()).classes == 256
