"""These tests need a GPU; everywhere else they are skipped."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from support import read_only

from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Outcome
from workers.runner.supervisor import Runner

HAS_GPU = torch.version.cuda is not None and Path("/dev/nvidiactl").exists()

Run = Callable[..., Outcome]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HAS_GPU:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="there is no GPU here, or torch is not for it"))


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    with Runner("gpu_jobs:JOBS", environment=environment, device="cuda") as running:
        yield running


@pytest.fixture
def run(runner: Runner) -> Run:
    """Runs one of the jobs with a GPU."""

    def one(kind: str, *files: bytes, deadline_s: float = 120, **arguments: Any) -> Outcome:
        with ExitStack() as opened:
            return runner.run(
                JobRequest(kind=kind, device="cuda", arguments=arguments),
                [read_only(content, opened) for content in files],
                deadline_s=deadline_s,
                limits=JobLimits(),
                on_tick=lambda _: True,
            )

    return one
