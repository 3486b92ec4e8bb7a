"""One child process: started, waited for, stopped, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from service.local import launch
from service.local.errors import LocalError

POLL_SECONDS = 0.02
# How long a process may take to end once it was told to drop everything.
KILL_SECONDS = 5.0
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 8192


class Child:
    """A process that this one starts and that never outlives it.

    The kernel signals the child when the thread that started it ends, however it ends, so start
    children from the main thread. Each child leads a session of its own: Ctrl-C in the terminal
    reaches the supervisor only, which then stops its children in order.

    Attributes:
        name: Its name in messages.
        log: The file that takes its output; None lets it write where this process does.
    """

    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    stop_seconds = 10.0

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
        unprivileged_in: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Describe a child without starting it.

        Args:
            name: Its name in messages.
            argv: Program and arguments.
            env: Its whole environment; None hands on this process's.
            log: File for its output. The previous run's is kept beside it, as `<name>.log.1`.
            death_signal: What the kernel sends it when the supervisor dies.
            unprivileged_in: Its directory, if it refuses to work there as root; see `launch`.
            pass_fds: Open files it inherits.
        """
        self.name = name
        self.log = log
        self.was_ready = False
        """Whether it has done its work once."""
        self._command = tied_to_this_process(argv, death_signal, unprivileged_in)
        self._env = env
        self._pass_fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process; does not wait until it is ready.

        Raises:
            LocalError: Its log cannot be written.
        """
        output = None if self.log is None else _fresh_log(self.log)
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                pass_fds=self._pass_fds,
                start_new_session=True,
            )
        finally:
            if output is not None:
                os.close(output)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs or never has.

        What an ended child left behind in its process group is killed first.
        """
        if self._process is None or self._process.returncode is not None:
            return None if self._process is None else self._process.returncode
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        # Until it is waited for, its number, which is also the group's, cannot go to a stranger.
        os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def wait_ready(self, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the process does its work.

        Args:
            is_ready: Returns whether it is ready; called repeatedly, so it must return soon.
            seconds: How long to wait. When they are over, the process is killed.

        Raises:
            LocalError: It ended, or took too long; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.poll() is not None:
                self.fail("ended before it was ready")
            if time.monotonic() > deadline:
                self.kill()
                self.fail(f"was not ready within {seconds:g} s")
            time.sleep(POLL_SECONDS)
        self.was_ready = True

    def stop(self) -> None:
        """Ask the process to end, wait `stop_seconds`, then kill it and its process group."""
        if not self._end(self.stop_signal, self.stop_seconds):
            self.kill()

    def kill(self) -> None:
        """End the process and the rest of its process group at once."""
        if not self._end(self.kill_signal, KILL_SECONDS):
            self._end(signal.SIGKILL, KILL_SECONDS)

    def fail(self, what: str) -> NoReturn:
        """Raise an error that says what this child did, and shows the end of its log."""
        status = self.poll()
        reason = "" if status is None else f" ({describe_exit(status)})"
        raise LocalError(f"{self.name} {what}{reason}.{tail(self.log)}")

    def _end(self, number: signal.Signals, seconds: float) -> bool:
        """Send the signal to a running child; say whether it has ended, at last after `seconds`."""
        if self._process is None or self.poll() is not None:
            return True
        os.kill(self._process.pid, number)
        deadline = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def stop_all(children: Sequence[Child]) -> None:
    """Stop children, the last one first. A second Ctrl-C meanwhile kills them all at once."""
    try:
        for child in reversed(children):
            child.stop()
    except KeyboardInterrupt:
        for child in reversed(children):
            child.kill()
        raise


def tied_to_this_process(
    argv: Sequence[str], death_signal: signal.Signals, unprivileged_in: Path | None
) -> list[str]:
    """Return the command that runs `argv` through `launch`, as a child of this process."""
    # -I and -S keep the user's Python settings and installed packages out of a program that may
    # run as root.
    helper = [sys.executable, "-I", "-S", launch.__file__]
    return [*helper, str(os.getpid()), str(int(death_signal)), str(unprivileged_in or ""), *argv]


def describe_exit(status: int) -> str:
    """Put an exit status into words: `exit status 1`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def tail(log: Path | None) -> str:
    """Return the last lines of a log as the end of a message; nothing if there are none."""
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        return ""
    if not lines:
        return f" Its log, {log}, is empty."
    return "\n".join([f" The end of its log, {log}:", *(f"    {line}" for line in lines)])


def _fresh_log(log: Path) -> int:
    """Open a new log for writing and keep one old one, so that logs cannot grow over the years."""
    try:
        if log.exists():
            log.replace(log.with_name(f"{log.name}.1"))
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalError(f"Cannot write the log {log}: {error.strerror}.") from error
