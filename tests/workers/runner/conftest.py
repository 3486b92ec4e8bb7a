import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import JsonValue
from support import read_only

from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed, Outcome, Succeeded
from workers.runner.supervisor import OnTick, Runner


class Jobs:
    """Runs the sample jobs, handing over bytes as files."""

    def __init__(self, recycle_after: int = 200) -> None:
        self.runner = Runner(
            "sample_jobs:JOBS",
            recycle_after=recycle_after,
            environment={"PYTHONPATH": str(Path(__file__).parent)},
        )

    def run(
        self,
        kind: str,
        *contents: bytes,
        arguments: dict[str, JsonValue] | None = None,
        threads: int = 1,
        deadline_s: float = 600,
        limits: JobLimits | None = None,
        on_tick: OnTick | None = None,
    ) -> Outcome:
        with ExitStack() as opened:
            return self.runner.run(
                JobRequest(kind=kind, arguments=arguments or {}, threads=threads),
                [read_only(content, opened) for content in contents],
                deadline_s=deadline_s,
                limits=limits or JobLimits(memory_bytes=1 << 30, result_bytes=8 << 20),
                on_tick=on_tick or (lambda _: True),
            )

    def succeed(self, *args: Any, **kwargs: Any) -> Succeeded:
        outcome = self.run(*args, **kwargs)
        assert isinstance(outcome, Succeeded), outcome
        return outcome

    def fail(self, *args: Any, **kwargs: Any) -> Failed:
        outcome = self.run(*args, **kwargs)
        assert isinstance(outcome, Failed), outcome
        return outcome


MakeJobs = Callable[..., Jobs]
WarmParents = Callable[[], list[psutil.Process]]
AssertGone = Callable[..., None]


@pytest.fixture(scope="module")
def shared_jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    with jobs.runner:
        # Now, for a job's deadline runs while the warm parent starts.
        jobs.runner.start()
        yield jobs


@pytest.fixture
def jobs(shared_jobs: Jobs) -> Jobs:
    """On a warm parent that the tests of a module share."""
    return shared_jobs


@pytest.fixture
def make_jobs() -> Iterator[MakeJobs]:
    """On a warm parent of its own."""
    with ExitStack() as runners:

        def make(recycle_after: int = 200) -> Jobs:
            jobs = Jobs(recycle_after)
            runners.enter_context(jobs.runner)
            return jobs

        yield make


@pytest.fixture
def warm_parents() -> WarmParents:
    """The warm parents that this process has."""

    def find() -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process().children()
            if "workers.child.warm_parent" in child.cmdline()
        ]

    return find


@pytest.fixture
def assert_gone() -> AssertGone:
    """A killed process is dead at once, but may take a moment to be collected."""

    def check(*pids: int) -> None:
        deadline = time.monotonic() + 120
        while alive := [pid for pid in pids if _is_alive(pid)]:
            assert time.monotonic() < deadline, f"still there: {alive}"
            time.sleep(0.01)

    return check


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
