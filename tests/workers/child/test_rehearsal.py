"""A child can open nothing, so whatever its job imports has to be there before the fork."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from support import exported, multilayer, npz, read_only, scripted
from torch import nn
from zoo.elsewhere import on_gpu

from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from service.inspections.schemas import InspectionRequest
from tests.workers.probes.data import CASES
from tests.workers.probes.data.case import Case
from workers.protocol.arguments import AnalysisArguments, ProbeLimits
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Succeeded
from workers.runner.supervisor import Runner

pytestmark = pytest.mark.xdist_group("rehearsal")

GIB = 1 << 30
X = np.random.default_rng(0).random((120, 64), dtype=np.float32)
Y = np.arange(120) % 10


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner(
        "rehearsed_jobs:JOBS", environment={"PYTHONPATH": str(Path(__file__).parent)}
    ) as running:
        yield running


def run(runner: Runner, kind: str, arguments: Any, *files: bytes, export: bool = False) -> Any:
    request = JobRequest(
        kind=kind,
        arguments=arguments.model_dump(mode="json")
        if hasattr(arguments, "model_dump")
        else arguments,
        warm_up="torch_export" if export else None,
        threads=2,
    )
    with ExitStack() as opened:
        outcome = runner.run(
            request,
            [read_only(content, opened) for content in files],
            deadline_s=600,
            limits=JobLimits(memory_bytes=2 * GIB),
            on_tick=lambda _: True,
        )
    assert isinstance(outcome, Succeeded), outcome
    return outcome.header


def analysis(spec: ProbeSpec, **options: Any) -> AnalysisArguments:
    return AnalysisArguments(
        spec=spec,
        eval_spec=spec,
        limits=ProbeLimits(max_array_bytes=GIB),
        layers_bytes=GIB,
        memory_bytes=2 * GIB,
        result_bytes=GIB,
        options=Options(**options),
    )


NPZ = ProbeSpec(format="npz", input="x", target="y", task="classification")
VALUES = ProbeSpec(format="safetensors", input="x", target="y", task="regression")
OPTIONS = [{}, {"layers": "all"}, {"max_samples": 40}, {"class_weighting": "balanced"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_analysis_imports_nothing(runner: Runner, options: dict[str, Any]) -> None:
    probe = npz(x=X, y=Y)
    found = run(runner, "analyse", analysis(NPZ, **options), scripted(multilayer()), probe, probe)
    assert found["imported"] == []


LABELS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "floats": (Y.astype("f4"), {}),
    "text": (Y.astype("U"), {}),
    "bytes": (Y.astype("S"), {"class_names": [str(k) for k in range(10)]}),
    "listed": (Y * 10**9, {"class_labels": [k * 10**9 for k in range(10)]}),
    "left out": (np.where(Y == 4, -100, Y), {"ignore_label": -100}),
    "several": (X[:, :10] > 0.5, {}),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_import_nothing(runner: Runner, kind: str) -> None:
    stored, keys = LABELS[kind]
    probe, spec = npz(x=X, y=stored), ProbeSpec.model_validate({"input": "x", **keys})
    arguments = {"spec": spec.model_dump(mode="json"), "max_bytes": GIB}
    assert run(runner, "validate_probe", arguments, probe)["imported"] == []
    found = run(runner, "analyse", analysis(spec), scripted(multilayer()), probe, probe)
    assert found["imported"] == []


def test_a_regression_from_safetensors_imports_nothing(runner: Runner) -> None:
    probe = save({"x": X, "y": X[:, :10]})
    found = run(runner, "analyse", analysis(VALUES), scripted(multilayer()), probe, probe)
    assert found["imported"] == []


def test_an_exported_program_imports_nothing_once_warm(runner: Runner) -> None:
    probe = npz(x=X, y=Y)
    archive = exported(multilayer(), torch.zeros(3, 64))
    found = run(runner, "analyse", analysis(NPZ), archive, probe, probe, export=True)
    assert found["imported"] == []


@pytest.mark.parametrize("kind", ["scripted", "exported"])
def test_what_was_made_on_a_gpu_imports_nothing(runner: Runner, kind: str) -> None:
    probe, example = npz(x=X, y=Y), torch.zeros(3, 64)
    made = scripted(OnGpu()) if kind == "scripted" else on_gpu(exported(multilayer(), example))
    found = run(runner, "analyse", analysis(NPZ), made, probe, probe, export=kind == "exported")
    assert found["imported"] == []


class OnGpu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = multilayer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layers(x.to("cuda:0"))


@pytest.mark.parametrize("probe", [npz(x=X, y=Y), save({"x": X, "y": Y})], ids=["npz", "tensors"])
def test_a_validation_imports_nothing(runner: Runner, probe: bytes) -> None:
    spec = {"format": "npz" if probe[:2] == b"PK" else "safetensors", "input": "x", "target": "y"}
    found = run(runner, "validate_probe", {"spec": spec, "max_bytes": GIB}, probe)
    assert found["imported"] == []


@pytest.mark.parametrize("case", [case for case in CASES if case.refused is None], ids=str)
def test_data_of_any_kind_imports_nothing(runner: Runner, case: Case) -> None:
    arguments = {"spec": dict(case.spec), "max_bytes": GIB}
    assert run(runner, "validate_probe", arguments, case.make())["imported"] == []


def test_an_inspection_imports_nothing(runner: Runner) -> None:
    found = run(runner, "inspect_model", InspectionRequest(inputs=None), scripted(multilayer()))
    assert found["imported"] == []


def test_kernels_are_as_fast_as_outside(runner: Runner) -> None:
    """A child cannot ask the kernel what the processor can do, and would take the slowest."""
    found = run(runner, "inspect_model", InspectionRequest(inputs=None), scripted(multilayer()))
    assert found["capability"] == torch.backends.cpu.get_cpu_capability()
