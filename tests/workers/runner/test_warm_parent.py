"""The warm parent's own life: born on demand, replaced, and never outliving its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from service.contract.failures import FailureCode
from workers.child.warm_parent import require_single_thread
from workers.runner.parent_process import RunnerError
from workers.runner.supervisor import Runner

if TYPE_CHECKING:
    from tests.workers.runner.conftest import AssertGone, MakeJobs, WarmParents
    from workers.protocol.progress import Progress


def test_killed_parent_loses_its_jobs_and_is_replaced(
    make_jobs: MakeJobs, warm_parents: WarmParents, assert_gone: AssertGone
) -> None:
    jobs = make_jobs()
    child: list[int] = []

    def kill_parent_when_running(progress: Progress | None) -> bool:
        if progress is not None and not child:
            child.append(progress.done)
            psutil.Process(progress.done).parent().kill()
        return True

    assert jobs.fail("hang", on_tick=kill_parent_when_running).failure.code == FailureCode.LOST
    assert_gone(*child)
    jobs.succeed("echo")
    assert len(warm_parents()) == 1


def test_parent_outlives_the_thread_that_asked_for_it(
    make_jobs: MakeJobs, warm_parents: WarmParents
) -> None:
    jobs = make_jobs()
    starter = threading.Thread(target=jobs.runner.start)
    starter.start()
    starter.join()
    (warm_parent,) = warm_parents()
    jobs.succeed("echo")
    assert warm_parents() == [warm_parent]


def test_parent_is_replaced_after_its_share_of_jobs(
    make_jobs: MakeJobs, warm_parents: WarmParents
) -> None:
    jobs = make_jobs(recycle_after=2)
    pids = []
    for _ in range(4):
        jobs.succeed("echo")
        pids += [warm_parent.pid for warm_parent in warm_parents()]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert len(pids) == 4


def test_parent_is_replaced_without_disturbing_the_jobs_it_still_has(
    make_jobs: MakeJobs, warm_parents: WarmParents
) -> None:
    jobs = make_jobs(recycle_after=1)
    nested = []

    def run_another(progress: Progress | None) -> bool:
        if progress is not None and not nested:
            nested.append(jobs.succeed("echo"))
        return True

    jobs.succeed("slowly", on_tick=run_another)
    assert nested
    jobs.runner.close()
    assert warm_parents() == []


def test_closed_runner_leaves_nothing_and_runs_nothing(
    make_jobs: MakeJobs, warm_parents: WarmParents
) -> None:
    jobs = make_jobs()
    jobs.succeed("echo")
    jobs.runner.close()
    jobs.runner.close()
    assert warm_parents() == []
    with pytest.raises(RuntimeError, match="closed"):
        jobs.run("echo")


def test_parent_that_cannot_start_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with Runner("no_such_module:JOBS") as runner, pytest.raises(RunnerError, match="starting"):
        runner.start()
    assert "No module named 'no_such_module'" in capfd.readouterr().err


def test_threads_forbid_forking() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="exactly one"):
            require_single_thread()
    finally:
        release.set()
        thread.join()


SUPERVISOR = """
import sys
from workers.protocol.requests import JobRequest, JobLimits
from workers.runner.supervisor import Runner

def say(progress):
    if progress is not None:
        print(progress.done, flush=True)
    return True

runner = Runner("sample_jobs:JOBS", environment={"PYTHONPATH": sys.argv[1]})
runner.run(JobRequest(kind="hang"), [], deadline_s=60, limits=JobLimits(), on_tick=say)
"""


def test_killed_supervisor_leaves_no_orphan(assert_gone: AssertGone) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        child = int(supervisor.stdout.readline())
        warm_parent = psutil.Process(child).ppid()
        assert psutil.Process(warm_parent).ppid() == supervisor.pid
        os.kill(supervisor.pid, signal.SIGKILL)
    assert_gone(warm_parent, child)


def test_supervisor_is_free_of_torch() -> None:
    code = "import sys, workers.runner.supervisor; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
