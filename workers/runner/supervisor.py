"""Runs jobs in confined children: hands over files, watches the clock, judges what comes back.

This module, and whatever it imports, is free of torch.
"""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Self

from workers.protocol.progress import Progress
from workers.protocol.requests import (
    MAX_MESSAGE_BYTES,
    Device,
    Ended,
    JobLimits,
    JobRequest,
    Request,
)
from workers.runner import kernel_kills
from workers.runner.job_files import JobFiles
from workers.runner.outcome import Cancelled, Failed, Outcome, deadline_passed, judge, lost
from workers.runner.parent_process import ParentProcess

TICK_S = 0.25
"""How often a running job's supervisor looks up; half of the time a cancellation may take."""

_KILL_TIMEOUT_S = 10.0

OnTick = Callable[[Progress | None], bool]
"""Given the newest progress, says whether to go on."""


class _Watched(Enum):
    ENDED = auto()
    CANCELLED = auto()
    OVERDUE = auto()


@dataclass
class _ParentInUse:
    """A warm parent and the jobs it has."""

    parent: ParentProcess
    served: int = 0
    running: int = 0


class Runner:
    """Runs jobs, each in a child of its own; safe to use from several threads.

    Make one in the process that uses it: it is not to be carried through a fork. The warm parent
    starts with the first job, and again whenever it has died.

    Args:
        jobs: `MODULE:TABLE` of what can be run.
        recycle_after: Jobs after which the warm parent is replaced. Its children share one memory
            layout, which an attacker could learn.
        environment: Variables for the warm parent, beside the minimal ones.
        device: `cuda` for jobs that may ask for a GPU.
    """

    def __init__(
        self,
        jobs: str = "workers.jobs:JOBS",
        *,
        recycle_after: int = 200,
        environment: Mapping[str, str] | None = None,
        device: Device = "cpu",
    ) -> None:
        self._jobs = jobs
        self._recycle_after = recycle_after
        self._environment = dict(environment or {})
        self._device: Device = device
        self._lock = threading.Lock()
        self._current: _ParentInUse | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the warm parent now, rather than with the first job.

        Raises:
            RunnerError: If it does not come up.
        """
        with self._warm_parent():
            pass

    def run(
        self,
        job: JobRequest,
        files: Sequence[int],
        *,
        deadline_s: float,
        limits: JobLimits,
        on_tick: OnTick,
    ) -> Outcome:
        """Run one job and wait for its end; the job's processes are gone when this returns.

        Args:
            job: What to run.
            files: Descriptors of its inputs, opened read-only, each an open of its own. They stay
                the caller's to close.
            deadline_s: Seconds from now after which the job is killed.
            limits: What the kernel grants it.
            on_tick: Called every `TICK_S` with the newest progress; the job is killed when it
                returns False, or raises (and the exception goes on to the caller).

        Raises:
            RunnerError: If the warm parent cannot be started.
            ValueError: If the request is too long, or an input is writable.
        """
        request = Request(job=job, limits=limits)
        deadline = time.monotonic() + deadline_s
        killed_before = kernel_kills.count()
        with self._warm_parent() as parent, JobFiles(files, limits) as own:
            try:
                parent.submit(request, own.for_child)
            except OSError:
                return Failed(lost(), "", None)
            own.handed_over()
            try:
                watched = _watch(own, deadline, on_tick)
            except BaseException:
                _kill(own.socket, parent)
                raise
            match watched:
                case _Watched.CANCELLED:
                    _kill(own.socket, parent)
                    return Cancelled(own.read_log())
                case _Watched.OVERDUE:
                    ended = _kill(own.socket, parent)
                    return Failed(deadline_passed(deadline_s), own.read_log(), ended)
                case _Watched.ENDED:
                    ended = _read_end(own.socket)
                    if ended is None:
                        return Failed(lost(), own.read_log(), None)
                    return judge(
                        ended,
                        own.read_result(),
                        own.read_log(),
                        limits,
                        confined=own.progress.is_confined,
                        by_kernel=killed_before is None or kernel_kills.count() != killed_before,
                    )

    def close(self) -> None:
        """End the warm parent and every job that still runs."""
        with self._lock:
            self._is_closed = True
            current, self._current = self._current, None
        if current is not None:
            current.parent.close()

    @contextmanager
    def _warm_parent(self) -> Iterator[ParentProcess]:
        """Hold a live warm parent for the length of a job."""
        with self._lock:
            in_use = self._live_parent()
            in_use.running += 1
            in_use.served += 1
        try:
            yield in_use.parent
        finally:
            with self._lock:
                in_use.running -= 1
                is_over = in_use.running == 0 and in_use is not self._current
            if is_over:
                in_use.parent.close()

    def _live_parent(self) -> _ParentInUse:
        """Return the current warm parent, or a new one if it is dead or has served its time."""
        if self._is_closed:
            raise RuntimeError("this runner is closed; make another to run jobs")
        old = self._current
        if old is not None and old.parent.is_alive and old.served < self._recycle_after:
            return old
        self._current = _ParentInUse(ParentProcess(self._jobs, self._environment, self._device))
        if old is not None and old.running == 0:
            old.parent.close()
        return self._current


def _watch(own: JobFiles, deadline: float, on_tick: OnTick) -> _Watched:
    """Wait for a job's end, its deadline, or the wish to stop it."""
    waiting = select.poll()
    waiting.register(own.socket, select.POLLIN)
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return _Watched.OVERDUE
        if waiting.poll(min(TICK_S, remaining) * 1000):
            return _Watched.ENDED
        if not on_tick(own.progress.latest()):
            return _Watched.CANCELLED


def _kill(job: socket.socket, parent: ParentProcess) -> Ended | None:
    """Have a job killed, and wait until it is."""
    job.settimeout(_KILL_TIMEOUT_S)
    try:
        job.shutdown(socket.SHUT_WR)
        return _read_end(job)
    except TimeoutError:
        # The warm parent itself hangs; whatever it runs dies with it.
        parent.close()
        return None


def _read_end(job: socket.socket) -> Ended | None:
    """Return the warm parent's report; None if it died instead."""
    try:
        message = job.recv(MAX_MESSAGE_BYTES)
    except ConnectionResetError:
        return None
    return Ended.model_validate_json(message) if message else None
