import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it publishes no types
import pytest

from service.local import LocalError, Supervisor
from service.local.supervisor import FALSE_STARTS

Supervise = Callable[..., subprocess.Popen[str]]
AssertGone = Callable[[list[psutil.Process], float], None]

# Each argument becomes a child, named by its place, that runs it as a shell script.
SCRIPT = """
import signal
import sys
from contextlib import suppress
from service.local import Child, LocalError, Supervisor, unwind_on_termination
Child.stop_seconds = 600.0  # so that no child is killed because the machine is slow
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
try:
    with suppress(KeyboardInterrupt), unwind_on_termination(), Supervisor() as supervisor:
        for place, script in enumerate(sys.argv[1:]):
            supervisor.spawn(f"child {place}", ["sh", "-c", script])
        print("up", flush=True)
        supervisor.wait()
except LocalError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Runs children under a supervisor in a process of its own, in `tmp_path`."""
    with ExitStack() as ends:

        def start(*scripts: str) -> subprocess.Popen[str]:
            process = ends.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SCRIPT, *scripts],
                    cwd=tmp_path,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            ends.callback(process.kill)
            assert process.stdout is not None
            # Children write to the same place, and may be first.
            while process.stdout.readline() != "up\n":
                pass
            return process

        yield start


def wait_for_line(path: Path, number: int) -> str:
    """Return the line of a growing file, once it is complete."""
    while True:
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if len(lines) >= number and lines[number - 1].endswith("\n"):
            return lines[number - 1].strip()
        time.sleep(0.02)


def test_a_child_that_ends_is_started_again(tmp_path: Path, supervise: Supervise) -> None:
    supervisor = supervise("echo $$ >> pids; exec sleep 60")
    first = int(wait_for_line(tmp_path / "pids", 1))
    os.kill(first, signal.SIGKILL)
    second = int(wait_for_line(tmp_path / "pids", 2))
    assert second != first
    supervisor.terminate()
    output, _ = supervisor.communicate()
    assert "child 0 ended (killed by SIGKILL); starting it again" in output


def test_what_a_crashed_child_leaves_behind_is_ended(
    tmp_path: Path, supervise: Supervise, assert_gone: AssertGone
) -> None:
    supervise("sleep 60 & echo $! >> leftovers; echo $$ >> pids; wait")
    leftover = psutil.Process(int(wait_for_line(tmp_path / "leftovers", 1)))
    os.kill(int(wait_for_line(tmp_path / "pids", 1)), signal.SIGKILL)
    assert_gone([leftover], 300)


def test_a_child_that_never_gets_going_ends_it_all(tmp_path: Path, supervise: Supervise) -> None:
    supervisor = supervise("echo $$ > pid; exec sleep 60", "exit 3")
    healthy = int(wait_for_line(tmp_path / "pid", 1))
    _, errors = supervisor.communicate()
    assert supervisor.returncode == 1
    assert errors == "child 1 ended 4 times soon after its start (exit status 3).\n"
    assert not psutil.pid_exists(healthy)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stops_children_in_reverse_order(
    tmp_path: Path, supervise: Supervise, number: signal.Signals
) -> None:
    scripts = [
        f"trap 'echo {name} >> order; exit' TERM; echo >> ready; while :; do sleep 0.02; done"
        for name in ("first", "second", "third")
    ]
    supervisor = supervise(*scripts)
    wait_for_line(tmp_path / "ready", 3)
    supervisor.send_signal(number)
    assert supervisor.wait() == 0
    assert (tmp_path / "order").read_text().split() == ["third", "second", "first"]


def test_second_signal_kills_at_once(tmp_path: Path, supervise: Supervise) -> None:
    supervisor = supervise("trap 'echo >> told' TERM; echo $$ > pid; while :; do sleep 0.1; done")
    stubborn = int(wait_for_line(tmp_path / "pid", 1))
    supervisor.send_signal(signal.SIGINT)
    wait_for_line(tmp_path / "told", 1)
    assert supervisor.poll() is None
    supervisor.send_signal(signal.SIGINT)
    supervisor.wait(300)  # and not the time that a child is given to stop
    assert not psutil.pid_exists(stubborn)


def test_killed_supervisor_takes_its_children_along(
    tmp_path: Path, supervise: Supervise, assert_gone: AssertGone
) -> None:
    supervisor = supervise("echo $$ > pid; exec sleep 60")
    child = int(wait_for_line(tmp_path / "pid", 1))
    assert os.getsid(child) == child
    family = [psutil.Process(child)]
    supervisor.kill()
    assert_gone(family, 300)


def test_waiting_ends_when_the_caller_has_seen_enough(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with Supervisor() as supervisor:
        child = supervisor.spawn("child", ["sh", "-c", f"touch {seen}; sleep 60"])
        supervisor.wait(until=seen.exists)
        assert child.poll() is None
    assert child.poll() is not None


def test_waiting_for_the_caller_still_notices_a_child_that_fails(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.spawn("child", ["sh", "-c", "exit 3"])
        with pytest.raises(LocalError, match="soon after its start"):
            supervisor.wait(until=(tmp_path / "never").exists)


def test_a_child_that_has_worked_is_started_again_for_ever(tmp_path: Path) -> None:
    """Its disk is full, say: what else works goes on, and so does it once there is room."""
    ready, starts, mended = tmp_path / "ready", tmp_path / "starts", tmp_path / "mended"
    script = f"echo >> {starts}; touch {ready}; test -e {mended} && exec sleep 60; sleep 0.05"
    with Supervisor(lambda _: None) as supervisor:
        child = supervisor.spawn("child", ["sh", "-c", script])
        child.wait_ready(ready.exists, 300)
        supervisor.wait(until=lambda: len(starts.read_text()) > FALSE_STARTS)
        mended.touch()
        before = len(starts.read_text())
        supervisor.wait(until=lambda: len(starts.read_text()) > before)
        assert child.poll() is None
