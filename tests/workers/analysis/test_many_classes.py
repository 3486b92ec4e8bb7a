"""The whole job with far more classes than features and samples."""

import io
import os
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from support import npz, scripted
from torch import nn

from service.contract.failures import FailureCode
from workers.analysis.job import analyse
from workers.diagnostics import Moments
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressReader, ProgressWriter, Stage
from workers.protocol.result import JobResult

CLASSES, FEATURES, SAMPLES = 300, 20, 200
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, SAMPLES)
LABELS[:80] = LABELS[80:160]
LABELS[-1] = CLASSES - 1
INPUTS = RNG.normal(size=(SAMPLES, 12)).astype(np.float32)


def network(classes: int, features: int = FEATURES) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, features), nn.ReLU(), nn.Linear(features, classes)).eval()


def run(
    model: nn.Module, *probes: bytes, memory_bytes: int = 1 << 30, **options: object
) -> tuple[JobResult | JobError, Stage | None]:
    """The job on a probe, and an eval probe where there are two; and how far it came."""
    arguments: dict[str, Any] = {
        "spec": {},
        "eval_spec": {} if len(probes) > 1 else None,
        "limits": {},
        "layers_bytes": 1 << 30,
        "memory_bytes": memory_bytes,
        "result_bytes": 1 << 30,
        "options": options,
    }
    reading, writing = os.pipe2(os.O_NONBLOCK)
    reader, writer = ProgressReader(reading), ProgressWriter(writing)
    files = [io.BytesIO(scripted(model)), *map(io.BytesIO, probes)]
    found: JobResult | JobError
    try:
        found = analyse(arguments, files, writer)
    except JobError as error:
        found = error
    latest = reader.latest()
    os.close(reading)
    os.close(writing)
    return found, None if latest is None else latest.stage


def test_all_parts_of_a_report_come_from_the_small_sums() -> None:
    """On the probe itself, held-out figures and the last layer's are the main ones."""
    probe = npz(x=INPUTS, y=LABELS)
    result, _ = run(
        network(CLASSES), probe, probe, layers="all", class_weighting="balanced", top_k=5
    )
    assert isinstance(result, JobResult)
    report: dict[str, Any] = result.header
    projections, held_out = report["projections"], report["held_out"]
    assert projections["dim_target"] == len(np.unique(LABELS))
    for name in ("quality", "utilization", "cumulative_quality", "cumulative_utilization"):
        np.testing.assert_allclose(held_out[name], projections[name], atol=1e-6)
        np.testing.assert_allclose(
            held_out["centered"][name], projections["centered"][name], atol=1e-6
        )
    assert held_out["dim_learned"] == projections["dim_learned"]
    last = report["layers"][-1]
    assert last["p"] == FEATURES
    np.testing.assert_allclose(
        last["cumulative_quality"], projections["cumulative_quality"], atol=1e-9
    )
    for name in ("d_lr", "cka_target", "cka_outputs"):
        assert last[name] == pytest.approx(report["alignment"][name], abs=1e-9)


def test_the_moments_say_what_they_hold() -> None:
    """With the model's own W, what is stored gives ΣF and ΣYFᵀ of all outputs."""
    model = network(CLASSES)
    result, _ = run(model, npz(x=INPUTS, y=LABELS))
    assert isinstance(result, JobResult)
    stored = safetensors.numpy.load(result.sections["moments.safetensors"])
    assert "y_y" not in stored
    assert Moments.from_arrays(stored).n == SAMPLES
    with torch.inference_mode():
        outputs = model(torch.from_numpy(INPUTS)).double().numpy()
    head = model[2]
    assert isinstance(head, nn.Linear)
    columns = torch.cat([head.weight, head.bias[:, None]], 1).detach().double().numpy()
    basis = columns @ np.linalg.inv(stored["f_head"])
    np.testing.assert_allclose(basis.T @ basis, np.eye(FEATURES + 1), atol=1e-9)
    np.testing.assert_allclose(basis @ stored["f"], outputs.sum(0), atol=1e-4)
    np.testing.assert_allclose(basis @ stored["f_f"] @ basis.T, outputs.T @ outputs, atol=1e-3)
    assert stored["f_mean"] @ stored["f"] == pytest.approx(outputs.mean(1).sum(), abs=1e-4)
    classes = stored["y_classes"]
    assert classes.tolist() == np.unique(LABELS).tolist()
    by_class = np.array([outputs[c == LABELS].sum(0) for c in classes])
    np.testing.assert_allclose(stored["f_y"].T @ basis.T, by_class, atol=1e-4)
    assert stored["y"].tolist() == np.bincount(LABELS, minlength=CLASSES).tolist()


def test_what_does_not_fit_is_refused_before_the_pass_and_the_advice_helps() -> None:
    model, probe = network(20_000), npz(x=INPUTS, y=LABELS)
    refusal, stage = run(model, probe, memory_bytes=64 << 20)
    assert isinstance(refusal, JobError)
    assert stage == Stage.LOCATING_HEAD
    failure = refusal.failure
    assert failure.code == FailureCode.OUT_OF_MEMORY
    assert "p = 20 features, 20,000 outputs and 200 rows need" in failure.message
    hint = str(failure.hint)
    advised = int(hint.partition("PHISCOPE_JOB_MEMORY_BYTES raised to ")[2].split()[0])
    result, _ = run(model, probe, memory_bytes=advised + (64 << 20))
    assert isinstance(result, JobResult)


def test_fewer_samples_are_advised_where_they_show_fewer_classes() -> None:
    rows = 20_000
    labels = np.arange(rows) * 7 % 20_000
    probe = npz(x=RNG.normal(size=(rows, 12)).astype(np.float32), y=labels)
    model = network(20_000, 256)
    refusal, _ = run(model, probe, memory_bytes=700 << 20)
    assert isinstance(refusal, JobError)
    samples = refusal.failure.detail["max_samples"]
    assert isinstance(samples, int)
    assert 1_000 < samples < rows
    assert "fewer samples have fewer of" in str(refusal.failure.hint)
    # Well below, since what model and probe leave differs a little from one run to the next.
    result, _ = run(model, probe, memory_bytes=700 << 20, max_samples=1_000)
    assert isinstance(result, JobResult)
