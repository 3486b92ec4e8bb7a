"""The runner with real processes: what comes back, and what cannot get out."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from service.contract.failures import FailureCode
from service.contract.security_events import SecurityEvent
from workers.protocol.progress import Progress, Stage
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner import kernel_kills
from workers.runner.outcome import Cancelled, Succeeded
from workers.runner.supervisor import _KILL_TIMEOUT_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workers.runner.conftest import AssertGone, Jobs, MakeJobs, WarmParents

pytestmark = pytest.mark.xdist_group("runner")


def test_result_carries_header_and_sections(jobs: Jobs) -> None:
    outcome = jobs.succeed("echo", b"first", b"", arguments={"a": [1, None, "ü"]})
    assert outcome.header == {"arguments": {"a": [1, None, "ü"]}, "sizes": [5, 0]}
    assert outcome.sections == {"file-0": b"first", "file-1": b""}
    assert outcome.ended.exit_code == 0
    assert outcome.ended.max_rss_bytes > 0


def test_child_sees_only_what_it_was_given(
    make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHISCOPE_DATABASE_URL", "postgresql://u:secret@db/phiscope")
    seen = make_jobs().succeed("surroundings", b"x", b"y").header
    assert "secret" not in str(seen["environment"])
    # Three standard streams, two inputs, the result, the progress pipe, and the memory gauge.
    assert seen["descriptors"] == 8
    assert seen["stdin"] == ""


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_work_in_the_child_and_results_repeat(jobs: Jobs, threads: int) -> None:
    first, second = (jobs.succeed("compute", threads=threads).header for _ in range(2))
    assert first["threads"] == threads
    assert first == second
    assert first["largest_otherwise"] == pytest.approx(first["largest"])


def test_progress_is_seen_while_the_job_runs(jobs: Jobs) -> None:
    seen: list[Progress | None] = []

    def note(progress: Progress | None) -> bool:
        seen.append(progress)
        return True

    jobs.succeed("slowly", on_tick=note)
    counts = [progress.done for progress in seen if progress is not None]
    assert counts
    assert counts == sorted(counts)
    assert {progress.stage for progress in seen if progress} == {Stage.EVALUATING}


def test_refusal_arrives_with_its_code_and_escaped_text(jobs: Jobs) -> None:
    failure = jobs.fail("refuse").failure
    assert failure.code == FailureCode.HEAD_NOT_FOUND
    assert failure.message == r"no head\x1b[31m"
    assert failure.hint == "add one"
    assert failure.detail == {"seen": ["conv"]}


def test_child_cannot_claim_what_only_the_supervisor_knows(jobs: Jobs) -> None:
    assert jobs.fail("claim_lost").failure.code == FailureCode.CRASHED


def test_of_an_error_that_nobody_foresaw_the_details_are_in_the_log_alone(jobs: Jobs) -> None:
    outcome = jobs.fail("stumble")
    assert outcome.failure.code == FailureCode.CRASHED
    assert "Phiscope failed" in outcome.failure.message
    assert "report it" in (outcome.failure.hint or "")
    assert "RuntimeError" not in outcome.failure.message
    assert "/" not in outcome.failure.message
    assert "Traceback" in outcome.log
    assert "/srv/secret/place/model.bin" in outcome.log


@pytest.mark.parametrize(
    ("kind", "words", "event"),
    [
        ("segfault", "SIGSEGV", SecurityEvent.CRASHED),
        ("leave", "status 7", SecurityEvent.CRASHED),
        # Our own defect, reported by a process in good order.
        ("no_such_job", "Phiscope failed", None),
    ],
)
def test_crashes_end_one_job_only(
    jobs: Jobs, kind: str, words: str, event: SecurityEvent | None
) -> None:
    outcome = jobs.fail(kind)
    assert outcome.failure.code == FailureCode.CRASHED
    assert words in outcome.failure.message
    assert outcome.event == event
    jobs.succeed("echo")


def test_a_job_that_a_stranger_kills_is_lost_and_can_be_run_again(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_kills, "count", lambda: 3)
    outcome = jobs.fail("kill_self")
    assert (outcome.failure.code, outcome.event) == (FailureCode.LOST, None)
    assert "not for want of memory" in outcome.failure.message


@pytest.mark.parametrize("counts", [[3, 4], [None]], ids=["counted", "not told"])
def test_a_job_that_the_kernel_kills_ran_out_of_memory(
    jobs: Jobs, counts: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_kills, "count", iter(counts).__next__)
    assert jobs.fail("kill_self").failure.code == FailureCode.OUT_OF_MEMORY


def test_kills_for_want_of_memory_are_read_from_the_kernel(tmp_path: Path) -> None:
    counts = tmp_path / "vmstat"
    assert kernel_kills.count(counts) is None
    counts.write_text("oom_kill_other 9\noom_kill 2\n")
    assert kernel_kills.count(counts) == 2
    counts.write_text("nr_free_pages 1\n")
    assert kernel_kills.count(counts) is None


@pytest.mark.parametrize("kind", ["hog_numpy", "hog_torch"])
def test_memory_hogs_run_out_of_memory(jobs: Jobs, kind: str) -> None:
    outcome = jobs.fail(kind, limits=JobLimits(memory_bytes=256 << 20))
    assert outcome.failure.code == FailureCode.OUT_OF_MEMORY
    assert "256 MiB" in outcome.failure.message
    assert outcome.event is None


def test_result_beyond_its_limit_is_refused(jobs: Jobs) -> None:
    failure = jobs.fail("big_result", limits=JobLimits(result_bytes=1 << 20)).failure
    assert failure.code == FailureCode.OUT_OF_MEMORY
    assert "1,048,576" in failure.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"PHIRES\x00\x01\xff\xff\xff\xff{}", "claims"),
        (b"PHIRES\x00\x01" + (200_000).to_bytes(4, "little") + b"[" * 200_000, "not JSON"),
        (bytes(9 << 20), "magic"),
    ],
)
def test_forged_result_is_refused(jobs: Jobs, content: bytes, words: str) -> None:
    outcome = jobs.fail("write_raw", content)
    assert outcome.failure.code == FailureCode.CRASHED
    assert words in outcome.failure.message
    assert outcome.event == SecurityEvent.UNTRUSTED_RESULT


def test_hanging_job_ends_at_its_deadline(jobs: Jobs, assert_gone: AssertGone) -> None:
    started: list[Progress] = []

    def note(progress: Progress | None) -> bool:
        if progress is not None:
            started.append(progress)
        return True

    # The deadline of one that has said who it is by then, however slow the machine.
    for seconds in (1.5, 15.5, 150.5):
        outcome = jobs.fail("hang", deadline_s=seconds, on_tick=note)
        assert outcome.failure.code == FailureCode.TIME_LIMIT
        assert f"{seconds} s" in outcome.failure.message
        assert outcome.event is None
        if started:
            break
    assert_gone(started[-1].done)


def test_processor_time_is_limited(jobs: Jobs) -> None:
    outcome = jobs.fail("spin", limits=JobLimits(cpu_seconds=1))
    assert outcome.failure.code == FailureCode.TIME_LIMIT
    assert "processor time" in outcome.failure.message
    assert outcome.event is None


def test_cancelled_job_is_gone_at_once(jobs: Jobs, assert_gone: AssertGone) -> None:
    pids: list[int] = []
    asked: list[float] = []

    def stop_when_running(progress: Progress | None) -> bool:
        if progress is None:
            return True
        pids.append(progress.done)
        assert os.getsid(progress.done) == progress.done  # apart from the warm parent's
        asked.append(time.monotonic())
        return False

    outcome = jobs.run("hang", on_tick=stop_when_running)
    assert isinstance(outcome, Cancelled)
    # Far less than the supervisor gives to a warm parent that hangs.
    assert time.monotonic() - asked[0] < _KILL_TIMEOUT_S / 2
    assert not psutil.pid_exists(pids[0])
    assert_gone(*pids)


def test_error_in_the_callback_kills_the_job_and_is_raised(
    jobs: Jobs, assert_gone: AssertGone
) -> None:
    pids: list[int] = []

    def fail_when_running(progress: Progress | None) -> bool:
        if progress is not None:
            pids.append(progress.done)
            raise ConnectionError("the database is away")
        return True

    with pytest.raises(ConnectionError, match="database is away"):
        jobs.run("hang", on_tick=fail_when_running)
    assert_gone(*pids)


def test_printing_is_capped_escaped_and_harmless(jobs: Jobs) -> None:
    outcome = jobs.succeed("flood", limits=JobLimits(log_bytes=4096))
    assert outcome.header == {"done": True}
    assert outcome.log.startswith(r"\x1b[2J first words\x00")
    assert len(outcome.log) == 4096
    assert "\x1b" not in outcome.log


def test_jobs_run_side_by_side(jobs: Jobs) -> None:
    contents = [f"job {i}".encode() for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda content: jobs.succeed("echo", content), contents))
    assert [outcome.sections["file-0"] for outcome in outcomes] == contents


def test_one_slow_job_does_not_hold_up_another(jobs: Jobs) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(jobs.run, "hang", on_tick=lambda _: not done)
        done: list[Succeeded] = []
        while not running.running():
            time.sleep(0.01)
        done.append(jobs.succeed("echo"))
        assert isinstance(running.result(), Cancelled)


def test_no_descriptor_and_no_process_is_left_behind(jobs: Jobs, warm_parents: WarmParents) -> None:
    jobs.run("echo", b"x")
    (warm_parent,) = warm_parents()

    def count() -> tuple[int, int, int, int]:
        ours = psutil.Process().num_fds()
        return ours, warm_parent.num_fds(), len(warm_parent.children()), warm_parent.num_threads()

    while warm_parent.children():  # the first job's process may take a moment to be gone
        time.sleep(0.01)
    before = count()
    for _ in range(3):
        jobs.run("echo", b"x")
        jobs.run("refuse")
        jobs.run("segfault")
        jobs.run("hang", on_tick=lambda progress: progress is None)
    assert before[2:] == (0, 1)
    deadline = time.monotonic() + 120
    # The parent closes its side a moment after its answer, and may not have done so before.
    while any(now > then for now, then in zip(count(), before, strict=True)):
        assert time.monotonic() < deadline, (count(), before)
        time.sleep(0.01)


def test_writable_input_is_refused(jobs: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.touch()
    with path.open("r+b") as file, pytest.raises(ValueError, match="O_RDONLY"):
        jobs.runner.run(
            JobRequest(kind="echo"),
            [file.fileno()],
            deadline_s=600,
            limits=JobLimits(),
            on_tick=lambda _: True,
        )


def test_request_too_long_is_refused(jobs: Jobs) -> None:
    with pytest.raises(ValueError, match="pass large inputs as files"):
        jobs.run("echo", arguments={"long": "x" * 100_000})
