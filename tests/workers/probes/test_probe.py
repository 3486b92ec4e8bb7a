"""What a good probe becomes: inference, transforms, batches."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import torch

from service.contract.probe_spec import ProbeSpec
from workers.probes.containers.container import READABLE_DTYPES
from workers.probes.probe import ProbeData, inspect_probe, load_probe
from workers.protocol.arguments import ProbeLimits

if TYPE_CHECKING:
    from tests.workers.probes.conftest import Save

LIMITS = ProbeLimits()
RNG = np.random.default_rng(0)


def read(file: io.BytesIO, spec: dict[str, object] | None = None, **options: int) -> ProbeData:
    return load_probe(file, ProbeSpec.model_validate(spec or {}), LIMITS, **options)


def all_inputs(probe: ProbeData, batch_size: int = 3) -> torch.Tensor:
    """All rows of a probe with one input."""
    return torch.cat([inputs for (inputs,), _ in probe.batches(batch_size)])


def all_targets(probe: ProbeData, batch_size: int = 3) -> torch.Tensor:
    targets = [targets for _, targets in probe.batches(batch_size)]
    return torch.cat([batch for batch in targets if batch is not None])


def test_summary_is_complete(save: Save) -> None:
    images = RNG.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    labels = np.array([0, 1, 3, 3, 1, 0, 0, 0, 1, 1])
    summary = inspect_probe(save(x=images, y=labels), ProbeSpec(), LIMITS)
    assert summary.n == 10
    assert summary.input_shape == [8, 8, 3]
    assert [each.model_dump() for each in summary.inputs] == [
        {"name": "x", "shape": [8, 8, 3], "dtype": "uint8"}
    ]
    assert summary.task == "classification"
    assert summary.classes == 4
    assert summary.class_counts == [4, 4, 0, 2]
    spec = summary.spec.model_dump(mode="json")
    assert spec.pop("format") in {"npz", "safetensors"}
    assert spec == {"input": "x", "target": "y", "task": "classification"}


def test_completed_spec_reads_the_same_probe(save: Save) -> None:
    file = save(x=RNG.integers(0, 256, (7, 5, 5, 1), dtype=np.uint8), y=np.arange(7))
    first = read(file)
    again = load_probe(file, ProbeSpec.model_validate(first.spec.model_dump(mode="json")), LIMITS)
    assert again.spec == first.spec
    assert torch.equal(all_inputs(again), all_inputs(first))


def test_compressed_npz_reads_as_any_other() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.eye(4, dtype=np.float32), y=np.arange(4))
    assert torch.equal(all_inputs(read(file)), torch.eye(4))


@pytest.mark.parametrize("dtype", sorted(READABLE_DTYPES - {"bfloat16"}))
def test_what_no_spec_changes_stays_as_it_is_stored(npz: Save, dtype: str) -> None:
    probe = read(npz(x=np.ones((4, 9, 9, 3), dtype)))
    assert probe.spec.transform is None
    assert probe.inputs[0].shape == (9, 9, 3)
    batch = all_inputs(probe)
    assert str(batch.dtype) == f"torch.{dtype}"
    assert batch.double().eq(1).all()


def test_half_precisions_are_calculated_in_single_precision(npz: Save) -> None:
    values = RNG.integers(0, 256, (4, 9), dtype=np.uint8)
    for dtype in ("float16", "bfloat16"):
        transform = {"dtype": dtype, "scale": "1/255", "mean": [0.485], "std": [0.229]}
        batch = all_inputs(read(npz(x=values), {"transform": transform}))
        expected = (torch.from_numpy(values).float() * (1 / 255) - 0.485) / 0.229
        assert torch.equal(batch, expected.to(getattr(torch, dtype)))


def test_bfloat16_is_read_as_what_it_is() -> None:
    values = torch.randn(6, 2).bfloat16()
    file = io.BytesIO(safetensors.torch.save({"x": values, "y": torch.arange(6)}))
    summary = inspect_probe(file, ProbeSpec(), LIMITS)
    assert (summary.input_shape, summary.n) == ([2], 6)
    assert torch.equal(all_inputs(read(file)), values.float())


def test_empty_transform_leaves_bytes_alone(npz: Save) -> None:
    images = RNG.integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
    batch = all_inputs(read(npz(x=images), {"transform": {}}))
    assert batch.dtype == torch.uint8
    assert torch.equal(batch, torch.from_numpy(images))


def test_transform_applies_layout_dtype_scale_mean_and_std_in_order(save: Save) -> None:
    images = RNG.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    transform = {
        "layout": "NHWC->NCHW",
        "dtype": "float64",
        "scale": 1 / 255,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.25, 2.0],
    }
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.25, 2.0])
    expected = ((images.astype(np.float64) / 255 - mean) / std).transpose(0, 3, 1, 2)
    batch = all_inputs(read(save(x=images), {"transform": transform}))
    assert batch.is_contiguous()
    np.testing.assert_allclose(batch.numpy(), expected, rtol=1e-15, atol=1e-15)


def test_channels_run_along_the_last_axis_where_the_layout_says_so(npz: Save) -> None:
    images = np.ones((2, 3, 4, 4), np.float32)
    transform = {"layout": "NCHW->NHWC", "mean": [1.0, 2.0, 3.0]}
    batch = all_inputs(read(npz(x=images), {"transform": transform}))
    assert batch[0, 0, 0].tolist() == [0, -1, -2]


def test_arithmetic_on_stored_integers_is_done_in_float32(npz: Save) -> None:
    probe = read(npz(x=np.full((2, 3), 5, np.int16)), {"transform": {"scale": 0.5}})
    assert all_inputs(probe).dtype == torch.float32
    assert all_inputs(probe).tolist() == [[2.5] * 3] * 2


def test_batches_share_no_memory_with_the_probe(npz: Save) -> None:
    probe = read(npz(x=np.zeros((4, 2), np.float32)))
    for (inputs,), _ in probe.batches(2):
        inputs.add_(1)
    assert not probe.inputs[0].stored.any()


def test_batches_keep_order_and_end_with_what_is_left(save: Save) -> None:
    probe = read(save(x=np.arange(14, dtype=np.float32).reshape(7, 2), y=np.arange(7)))
    sizes = [len(inputs) for (inputs,), _ in probe.batches(3)]
    assert sizes == [3, 3, 1]
    assert all_inputs(probe)[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert all_targets(probe).tolist() == list(range(7))


@pytest.mark.parametrize("order", [">", "<"])
def test_byte_order_and_memory_order_do_not_matter(npz: Save, order: str) -> None:
    values = np.arange(6).reshape(2, 3)
    file = npz(x=np.asfortranarray(values.astype(f"{order}f4")), y=np.array([0, 1], f"{order}i4"))
    probe = read(file)
    assert torch.equal(all_inputs(probe), torch.from_numpy(values.astype(np.float32)))
    assert all_targets(probe).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "chosen"),
    [
        ({"labels": np.arange(4), "images": np.zeros((4, 2))}, ("images", "labels")),
        ({"x_test": np.zeros((4, 9)), "y_test": np.arange(4)}, ("x_test", "y_test")),
        ({"X": np.zeros((4, 9)), "Y": np.arange(4)}, ("X", "Y")),
        ({"X_test": np.zeros((4, 9)), "y_test": np.arange(4)}, ("X_test", "y_test")),
        ({"data": np.zeros((4, 9)), "class": np.arange(4)}, ("data", "class")),
        ({"x": np.zeros((4, 9)), "y_true": np.arange(4)}, ("x", "y_true")),
        ({"large": np.zeros((4, 9))}, ("large", None)),
        ({"x": np.zeros((4, 2)), "names": np.array(["a"] * 4)}, ("x", None)),
    ],
)
def test_arrays_are_chosen_by_name(
    npz: Save, arrays: dict[str, np.ndarray], chosen: tuple[str, str | None]
) -> None:
    spec = read(npz(**arrays)).spec
    assert (spec.input, spec.target) == chosen


def test_target_can_be_declined(npz: Save) -> None:
    summary = inspect_probe(
        npz(x=np.zeros((4, 2)), y=np.arange(4)), ProbeSpec.model_validate({"target": None}), LIMITS
    )
    assert (summary.task, summary.classes, summary.class_counts) == (None, None, None)
    assert summary.spec.declares_no_target


@pytest.mark.parametrize(
    ("targets", "spec", "task", "values"),
    [
        (np.array([2, 0, 1]), {}, "classification", [2, 0, 1]),
        (np.array([[2], [0], [1]], np.uint8), {}, "classification", [2, 0, 1]),
        (np.array([True, False, True]), {}, "classification", [1, 0, 1]),
        (np.eye(3, dtype=np.float32)[[2, 0, 1]], {}, "classification", [2, 0, 1]),
        (np.eye(3, dtype=np.int64)[[2, 0, 1]], {}, "classification", [2, 0, 1]),
        (
            np.array([[2, 0], [0, 1], [1, 1]], np.uint8),
            {},
            "classification",
            [[2, 0], [0, 1], [1, 1]],
        ),
        (np.array([[[0]], [[2]], [[1]]], np.int32), {}, "classification", [[[0]], [[2]], [[1]]]),
        (
            np.array([[True, True], [True, False], [True, True]]),
            {"task": "classification"},
            "classification",
            [[1, 1], [1, 0], [1, 1]],
        ),
        (
            np.array([[0, 0], [0, 1], [5, 6]]),
            {"task": "regression"},
            "regression",
            [[0, 0], [0, 1], [5, 6]],
        ),
        (np.array([2.0, 0.0, 1.0]), {"task": "classification"}, "classification", [2, 0, 1]),
        (np.array([2.0, 0.5, 1.0]), {}, "regression", [[2], [0.5], [1]]),
        (np.array([2, 0, 1]), {"task": "regression"}, "regression", [[2], [0], [1]]),
        (np.array([[0.5, 1], [1, 2], [3, 4]]), {}, "regression", [[0.5, 1], [1, 2], [3, 4]]),
        (np.eye(3), {"task": "regression"}, "regression", np.eye(3).tolist()),
    ],
)
def test_task_is_made_out_from_the_targets(
    npz: Save, targets: np.ndarray, spec: dict[str, object], task: str, values: list[object]
) -> None:
    probe = read(npz(x=np.zeros((3, 2), np.float32), y=targets), spec)
    read_back = all_targets(probe)
    assert probe.spec.task == task
    assert read_back.tolist() == values
    assert read_back.dtype == (torch.int64 if task == "classification" else torch.float64)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize(
    "rows",
    [
        [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1]],
        np.eye(3)[[0, 2, 2, 1]],
        [[1], [0], [0], [1]],
        [1, 0, 0, 1],
    ],
)
def test_multi_hot_rows_are_several_labels_a_sample_where_the_spec_says_so(
    save: Save, dtype: str, rows: object
) -> None:
    targets = np.asarray(rows).astype(dtype)
    file = save(x=np.zeros((4, 2), np.float32), y=targets)
    probe = read(file, {"task": "multilabel"})
    columns = targets.reshape(4, -1).astype(np.float64)
    assert probe.targets is not None
    assert (probe.targets.positions, probe.targets.functions) == (1, columns.shape[1])
    assert all_targets(probe).dtype == torch.float64
    assert all_targets(probe).tolist() == columns.tolist()
    summary = inspect_probe(file, ProbeSpec.model_validate({"task": "multilabel"}), LIMITS)
    assert (summary.task, summary.classes) == ("multilabel", columns.shape[1])
    assert summary.class_counts == columns.sum(0).tolist()


def test_one_hot_keeps_classes_without_samples(npz: Save) -> None:
    targets = np.eye(5)[[0, 2, 2]]
    summary = inspect_probe(npz(x=np.zeros((3, 2)), y=targets), ProbeSpec(), LIMITS)
    assert summary.classes == 5
    assert summary.class_counts == [1, 0, 2, 0, 0]


def test_subsample_repeats_keeps_order_and_keeps_the_classes(save: Save) -> None:
    values = np.arange(100, dtype=np.float32).reshape(100, 1)
    file = save(x=values, y=np.arange(100))
    first, again, other = (
        read(file, max_samples=10, seed=seed).rows.tolist() for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first == sorted(set(first))
    probe = read(file, max_samples=10, seed=1)
    assert len(probe) == 10
    assert probe.targets is not None
    assert probe.targets.classes == 100
    assert all_inputs(probe)[:, 0].tolist() == all_targets(probe).tolist() == first
    assert len(read(file, max_samples=1000)) == 100
