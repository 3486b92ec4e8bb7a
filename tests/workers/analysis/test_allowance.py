"""A layer too wide for a job's memory is refused before the model runs, and told what would do."""

import io
import os

import numpy as np
import pytest
import safetensors.numpy
import torch
from support import npz, scripted
from torch import nn

from service.contract.failures import FailureCode
from workers.analysis.allowance import check_allowance
from workers.analysis.job import analyse
from workers.diagnostics.plan import Problem
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressReader, ProgressWriter, Stage
from workers.protocol.result import JobResult

N, P = 800, 600


@pytest.fixture
def model() -> bytes:
    torch.manual_seed(0)
    return scripted(nn.Sequential(nn.Linear(8, P), nn.ReLU(), nn.Linear(P, 3)))


def run(
    model: bytes, memory_bytes: int, **options: object
) -> tuple[JobResult | JobError, Stage | None]:
    """The whole job, and how far it came."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 8)).astype(np.float32)
    probe = npz(x=x, y=rng.integers(0, 3, N))
    arguments = {
        "spec": {},
        "eval_spec": None,
        "limits": {},
        "layers_bytes": 1 << 30,
        "memory_bytes": memory_bytes,
        "result_bytes": 1 << 30,
        "options": options,
    }
    reading, writing = os.pipe2(os.O_NONBLOCK)
    reader, writer = ProgressReader(reading), ProgressWriter(writing)
    files = (io.BytesIO(model), io.BytesIO(probe))
    found: JobResult | JobError
    try:
        found = analyse(arguments, files, writer)
    except JobError as error:
        found = error
    latest = reader.latest()
    os.close(reading)
    os.close(writing)
    return found, None if latest is None else latest.stage


def test_too_wide_a_layer_is_refused_before_the_pass_and_the_advice_helps(model: bytes) -> None:
    memory = 80 << 20
    refusal, stage = run(model, memory)
    assert isinstance(refusal, JobError)
    assert stage == Stage.LOCATING_HEAD
    failure = refusal.failure
    assert failure.code == FailureCode.OUT_OF_MEMORY
    assert "p = 600 features, 3 outputs and 800 rows need" in failure.message
    assert "of the 0.0781 GiB that a job may allocate" in failure.message
    advised = failure.detail["max_samples"]
    assert isinstance(advised, int)
    assert failure.hint is not None
    assert f'"max_samples" to {advised:,} or less' in failure.hint
    assert "PHISCOPE_JOB_MEMORY_BYTES raised to" in failure.hint
    result, stage = run(model, memory, max_samples=advised - 20)
    assert isinstance(result, JobResult)
    assert stage == Stage.REPORTING
    moments = safetensors.numpy.load(result.sections["moments.safetensors"])
    assert moments["basis"].shape == (P, advised - 20)
    assert moments["n"] == advised - 20


def test_with_more_memory_it_is_analysed(model: bytes) -> None:
    result, _ = run(model, 1 << 30, class_weighting="balanced")
    assert isinstance(result, JobResult)
    moments = safetensors.numpy.load(result.sections["moments.safetensors"])
    assert moments["phi_phi"].shape == (P, P)
    np.testing.assert_allclose(moments["y"], N / 3)


def test_sums_too_large_for_a_file_are_refused() -> None:
    with pytest.raises(JobError) as caught:
        check_allowance(
            Problem(40_000, 16_000, 10, 10),
            positions=1,
            taken_bytes=0,
            memory_bytes=128 << 30,
            result_bytes=1 << 30,
        )
    failure = caught.value.failure
    assert "take 1.91 GiB as a file, and the result of a job may take 1 GiB" in failure.message
    assert failure.hint is not None
    assert "PHISCOPE_JOB_MEMORY_BYTES" not in failure.hint


def test_positions_count_as_rows() -> None:
    with pytest.raises(JobError) as caught:
        check_allowance(
            Problem(64_000, 16_000, 10, 10),
            positions=64,
            taken_bytes=1 << 30,
            memory_bytes=8 << 30,
            result_bytes=1 << 30,
        )
    samples = caught.value.failure.detail["max_samples"]
    assert isinstance(samples, int)
    rows = Problem(64_000, 16_000, 10, 10).most_rows(8 << 30, 1 << 30)
    assert 10 <= samples <= rows // 64


def test_where_no_number_of_samples_would_do_there_is_still_a_way() -> None:
    with pytest.raises(JobError) as caught:
        check_allowance(
            Problem(900, 600, 3, 3),
            positions=1,
            taken_bytes=1 << 20,
            memory_bytes=16 << 20,
            result_bytes=1 << 30,
        )
    assert caught.value.failure.hint is not None
    assert caught.value.failure.hint.startswith("Have PHISCOPE_JOB_MEMORY_BYTES raised to")
