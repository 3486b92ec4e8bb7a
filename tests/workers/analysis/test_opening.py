"""A model that a GPU does not run is run by the CPU; here there is none, so that is every model."""

import io
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from support import multilayer, npz, scripted

from service.contract.failures import FailureCode
from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from workers.analysis.opening import PreparedModel, prepare_model
from workers.probes.probe import load_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter
from workers.protocol.requests import Device

pytestmark = pytest.mark.skipif(
    torch.version.cuda is not None, reason="this torch can use a GPU, and there may be one"
)


@pytest.fixture
def progress() -> Iterator[ProgressWriter]:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    yield ProgressWriter(nowhere)
    os.close(nowhere)


def opened(progress: ProgressWriter, device: Device, features: int = 64) -> PreparedModel:
    rows = np.random.default_rng(0).random((60, features), dtype=np.float32)
    probe = load_probe(io.BytesIO(npz(x=rows)), ProbeSpec(input="x"), ProbeLimits())
    archive = io.BytesIO(scripted(multilayer()))
    return prepare_model(archive, probe, Options(), device, progress=progress, timings={})


def test_it_falls_back_to_the_cpu_and_says_so(progress: ProgressWriter) -> None:
    prepared = opened(progress, "cuda")
    assert prepared.device == "cpu"
    (warning,) = prepared.warnings
    assert warning.startswith("ran_on_cpu: ")
    assert "CUDA" in warning
    assert "not_a_model" not in warning
    assert prepared.extractor.feature_map.p == 64


def test_where_nothing_else_was_asked_for_there_is_no_warning(progress: ProgressWriter) -> None:
    prepared = opened(progress, "cpu")
    assert (prepared.device, prepared.warnings) == ("cpu", ())


def test_what_the_model_is_at_fault_for_is_told_as_ever(progress: ProgressWriter) -> None:
    with pytest.raises(JobError) as caught:
        opened(progress, "cuda", features=63)
    assert caught.value.failure.code == FailureCode.INPUT_MISMATCH
    assert "CUDA" not in caught.value.failure.message


def test_columns_that_a_model_does_not_take_are_named(progress: ProgressWriter) -> None:
    rows = np.random.default_rng(0).random((60, 65))
    names = [f"f{place}" for place in range(64)]
    table = pd.DataFrame(rows, columns=["fold", *names]).assign(label=np.arange(60) % 10)
    content = table.to_csv(index=False).encode()

    def opened_with(spec: ProbeSpec) -> PreparedModel:
        probe = load_probe(io.BytesIO(content), spec, ProbeLimits())
        archive = io.BytesIO(scripted(multilayer()))
        return prepare_model(archive, probe, Options(), "cpu", progress=progress, timings={})

    with pytest.raises(JobError) as caught:
        opened_with(ProbeSpec())
    hint = caught.value.failure.hint or ""
    assert "65 columns side by side: 'fold', 'f0', " in hint
    assert 'as "exclude": ["its name"]' in hint
    with pytest.raises(JobError) as caught:
        opened_with(ProbeSpec(columns=["fold", *names]))
    assert 'leave it out of "columns"' in (caught.value.failure.hint or "")
    prepared = opened_with(ProbeSpec(exclude=["fold"]))
    assert list(prepared.fitted.probe.columns) == names
