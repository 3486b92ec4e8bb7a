"""Keeps a set of children running until someone says stop."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from service.local.errors import LocalError
from service.local.processes import Child, describe_exit, stop_all

POLL_SECONDS = 0.2
# A child that ends sooner than this after its start has not really started.
STEADY_SECONDS = 20.0
# With waits of 0.5, 1 and 2 s between them, four false starts take 4 s and more: longer than a
# stumble at start-up lasts, shorter than a person waits before looking for the reason.
FALSE_STARTS = 4
FIRST_WAIT_SECONDS = 0.5
# A child that did its work once, and does not now, may again: when the disk has room, say.
LONGEST_WAIT_SECONDS = 15.0


class Supervisor:
    """Runs children, restarts those that end, and stops them in reverse order.

    As a context manager it stops its children on the way out. `wait` is the main loop.
    """

    def __init__(self, announce: Callable[[str], None] = print) -> None:
        """Start with no children.

        Args:
            announce: Takes a line for the person at the terminal whenever a child ends.
        """
        self._announce = announce
        self._own: list[Child] = []
        self._kept: list[_Kept] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start a child and keep it running; the arguments are `Child`'s.

        Returns:
            The child, whose `wait_ready` can be used to wait for its first answer.
        """
        child = Child(name, argv, env=env, log=log, death_signal=death_signal, pass_fds=pass_fds)
        # Before the start, so that an interrupt in the middle of it finds the child here.
        self._own.append(child)
        child.start()
        self.keep(child)
        return child

    def keep(self, *children: Child) -> None:
        """Restart these running children, too, when they end; stopping them is their owner's."""
        self._kept.extend(_Kept(child) for child in children)

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Look after the children until SIGINT (or what `unwind_on_termination` adds to it).

        Args:
            until: The wait ends once this returns True.

        A child that has done its work is started again for ever, ever less often; what else works
        goes on meanwhile.

        Raises:
            LocalError: A child ended again and again without ever really starting.
        """
        with suppress(KeyboardInterrupt):
            while not until():
                for kept in self._kept:
                    kept.tend(self._announce)
                time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the spawned children, the last one first. A second Ctrl-C kills them at once."""
        self._kept.clear()
        stop_all(self._own)
        self._own.clear()


class _Kept:
    """A child together with how its starts have gone."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._started_at = time.monotonic()
        self._restart_at: float | None = None
        self._false_starts = 0
        self._has_worked = False

    def tend(self, announce: Callable[[str], None]) -> None:
        """Restart the child if it ended, after a wait that doubles with each false start."""
        now = time.monotonic()
        if self._restart_at is None:
            status = self._child.poll()
            if status is not None:
                announce(f"{self._child.name} ended ({describe_exit(status)}); starting it again")
                self._plan_restart(now)
        elif now >= self._restart_at:
            self._restart(now, announce)

    def _plan_restart(self, now: float) -> None:
        lived = now - self._started_at
        self._has_worked = self._has_worked or self._child.was_ready or lived >= STEADY_SECONDS
        self._false_starts = self._false_starts + 1 if lived < STEADY_SECONDS else 1
        if self._false_starts >= FALSE_STARTS and not self._has_worked:
            self._child.fail(f"ended {self._false_starts} times soon after its start")
        wait = FIRST_WAIT_SECONDS * 2 ** min(self._false_starts - 1, 10)
        self._restart_at = now + min(wait, LONGEST_WAIT_SECONDS)

    def _restart(self, now: float, announce: Callable[[str], None]) -> None:
        self._started_at = now
        self._restart_at = None
        try:
            self._child.start()
        except (LocalError, OSError) as error:
            # An OSError says that there is no memory, no space or no process number left.
            announce(f"{self._child.name} could not be started: {error}")
            self._plan_restart(now)


@contextmanager
def unwind_on_termination() -> Iterator[None]:
    """Make SIGTERM and SIGHUP interrupt the main thread as Ctrl-C does, so that all is stopped.

    Signals that the caller was started with ignored, as by `nohup`, stay ignored.
    """
    changed = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)
