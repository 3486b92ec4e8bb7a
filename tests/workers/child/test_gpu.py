"""What concerns GPUs and can be tried without one."""

import os
from collections.abc import Mapping

import pytest

from service.platform.settings import Settings
from workers.__main__ import check_gpu
from workers.child import gpu
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed, SecurityEvent
from workers.runner.parent_process import RunnerError
from workers.runner.supervisor import Runner

VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize("visible", [{}, {VISIBLE: "1"}], ids=["all", "one"])
def test_gpus_are_hidden_for_a_while(
    visible: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    for name, value in visible.items():
        monkeypatch.setenv(name, value)
    with gpu.hidden():
        assert os.environ[VISIBLE] == ""
    assert os.environ.get(VISIBLE) == visible.get(VISIBLE)


def test_without_a_gpu_no_job_that_asks_for_one_runs() -> None:
    """It ends before anything of the job is done, and the operator is told."""
    with Runner() as runner:
        outcome = runner.run(
            JobRequest(kind="describe_gpu", device="cuda"),
            [],
            deadline_s=600,
            limits=JobLimits(),
            on_tick=lambda _: True,
        )
    assert isinstance(outcome, Failed)
    assert outcome.event == SecurityEvent.NOT_CONFINED


def test_a_worker_for_a_gpu_that_is_not_there_does_not_start() -> None:
    with Runner() as runner, pytest.raises(RunnerError, match=r"get no GPU .* nvidia-smi"):
        check_gpu(runner, Settings(device="cuda"))
