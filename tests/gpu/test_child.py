"""A child with a GPU: its models compute, and it reaches nothing but the driver's open files."""

import errno
import time
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from support import exported, multilayer, npz, read_only, scripted

from service.contract.failures import FailureCode
from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from tests.gpu.conftest import Run
from tests.workers.child.walls.test_walls import REFUSED, names, walled
from workers.protocol.arguments import AnalysisArguments, ProbeLimits
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed, SecurityEvent, Succeeded
from workers.runner.supervisor import Runner

_MUCH = 32 << 30
"""Nearly half of the memory of a GPU that this is meant for."""


def succeed(run: Run, kind: str, *files: bytes, **arguments: object) -> Succeeded:
    outcome = run(kind, *files, **arguments)
    assert isinstance(outcome, Succeeded), outcome
    return outcome


def test_the_product_describes_its_gpu() -> None:
    with Runner(device="cuda") as runner:
        outcome = runner.run(
            JobRequest(kind="describe_gpu", device="cuda"),
            [],
            deadline_s=120,
            limits=JobLimits(),
            on_tick=lambda _: True,
        )
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.header["name"]


ARCHIVES = {
    "scripted": lambda: (scripted(multilayer()), None),
    "exported": lambda: (exported(multilayer(), torch.zeros(3, 64)), "torch_export"),
}


@pytest.mark.parametrize("layers", ["penultimate", "all"])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_analysis_needs_nothing_from_outside(kind: str, layers: str) -> None:
    """Had it to open or import anything, it would run on the CPU."""
    archive, warm_up = ARCHIVES[kind]()
    spec = ProbeSpec(format="npz", input="x", target="y", task="classification")
    arguments = AnalysisArguments(
        spec=spec,
        eval_spec=spec,
        limits=ProbeLimits(max_array_bytes=1 << 30),
        layers_bytes=1 << 30,
        memory_bytes=2 << 30,
        result_bytes=1 << 30,
        options=Options.model_validate({"layers": layers}),
        device="cuda",
    )
    rows = np.random.default_rng(0).random((600, 64), dtype=np.float32)
    probe = npz(x=rows, y=np.arange(600) % 10)
    request = JobRequest.model_validate(
        {
            "kind": "analyse",
            "warm_up": warm_up,
            "arguments": arguments.model_dump(mode="json"),
            "device": "cuda",
        }
    )
    with ExitStack() as opened:
        outcome = opened.enter_context(Runner(device="cuda")).run(
            request,
            [read_only(content, opened) for content in (archive, probe, probe)],
            deadline_s=120,
            limits=JobLimits(),
            on_tick=lambda _: True,
        )
    assert isinstance(outcome, Succeeded), outcome
    provenance, features = outcome.header["provenance"], outcome.header["feature_map"]
    assert isinstance(provenance, dict)
    assert isinstance(features, dict)
    assert (provenance["device"], features["warnings"]) == ("cuda", [])


def test_models_compute_the_same_each_time(run: Run) -> None:
    first, second = (succeed(run, "compute").header for _ in range(2))
    assert first["total"] == second["total"]


def test_it_reaches_the_driver_through_open_files_alone(run: Run) -> None:
    found = succeed(run, "reach", b"an input").header
    assert found.pop("devices")
    assert found == {
        "ioctl_on_a_file": errno.ENOTTY,
        "ioctl_on_a_pipe": errno.ENOTTY,
        "open_the_gpu": errno.EACCES,
        "open_the_driver": errno.EACCES,
        "map_the_gpu": errno.EPERM,
        "map_shared_memory": errno.EPERM,
    }


def test_it_finds_nothing_of_the_job_before_it(run: Run) -> None:
    filled = succeed(run, "fill", bytes=_MUCH).header["found"]
    assert filled == _MUCH // 4
    assert succeed(run, "search", bytes=_MUCH).header["found"] == 0


def test_too_much_memory_is_said_to_be_too_much(run: Run) -> None:
    outcome = run("hog")
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == FailureCode.OUT_OF_MEMORY


def test_a_kernel_that_runs_on_ends_at_the_deadline(run: Run) -> None:
    began = time.monotonic()
    outcome = run("spin", deadline_s=5)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == FailureCode.TIME_LIMIT
    assert time.monotonic() - began < 15
    succeed(run, "compute")


def test_no_attempt_gets_through() -> None:
    """The battery of the walls' own tests, in children with a GPU."""
    through = {}
    with walled(device="cuda") as walls:
        for name in names():
            outcome = walls.run("make", name)
            if isinstance(outcome, Succeeded):
                answer = outcome.header["answer"]
                if not isinstance(answer, int) or -answer not in REFUSED:
                    through[name] = answer
            elif outcome.event != SecurityEvent.POLICY_VIOLATION:
                through[name] = outcome
    assert through == {}
