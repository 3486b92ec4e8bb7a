"""The warm parent: imports torch once, then forks one child for each job in milliseconds.

Run as `python -m workers.child.warm_parent FD MODULE:TABLE [--device cuda]` with a control socket
as FD; the module may have a function `rehearse`, which is called before the first fork. It is
started with exec and never forked, so that no secret of the process that starts it is in its
memory. It stays single-threaded for life, because a thread pool does not survive a fork (libgomp
deadlocks the child), and never starts CUDA, which does not either. It exits when the control socket
closes, and dies with the process that started it.
"""

import argparse
import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.child import gpu
from workers.child.child import run_child
from workers.child.confinement import follow_into_death
from workers.child.warmup import WARM_UPS, warm_up
from workers.protocol.requests import (
    MAX_INPUTS,
    MAX_MESSAGE_BYTES,
    N_OWN_FILES,
    READY,
    ChildFiles,
    Ended,
    Job,
    Request,
)

_PEER_CREDENTIALS = struct.Struct("3i")
_KIB = 1024


@dataclass(frozen=True)
class _Child:
    pid: int
    pidfd: int
    socket: socket.socket
    received: float
    forked: float


class WarmParent:
    """Forks on request, and tells each job's socket how its child ended.

    Args:
        control: Where requests come from.
        jobs: What a child can do, by kind.
    """

    def __init__(self, control: socket.socket, jobs: Mapping[str, Job]) -> None:
        self._control = control
        self._jobs = jobs
        self._pid = os.getpid()
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._is_open = True
        self._warm: set[str] = set()
        self._on_readable(control, self._serve_request)

    def serve(self) -> None:
        """Serve until the control socket closes; no child outlives the call."""
        try:
            self._control.send(READY)
            while self._is_open:
                for key, _ in self._selector.select():
                    key.data()
        finally:
            for child in self._children.values():
                _kill(child)

    def _on_readable(self, file: socket.socket | int, callback: Callable[[], None]) -> None:
        self._selector.register(file, selectors.EVENT_READ, callback)

    def _serve_request(self) -> None:
        received = time.monotonic()
        message, fds, _, _ = socket.recv_fds(
            self._control, MAX_MESSAGE_BYTES, MAX_INPUTS + N_OWN_FILES
        )
        if not message:
            self._is_open = False
            return
        request = Request.model_validate_json(message)
        files = ChildFiles.from_order(fds)
        self._warm_up_for(request)
        require_single_thread()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            run_child(request, files, self._jobs, self._pid)
        for fd in set(fds) - {files.socket}:
            os.close(fd)
        child = _Child(
            pid=pid,
            pidfd=os.pidfd_open(pid),
            socket=socket.socket(fileno=files.socket),
            received=received,
            forked=time.monotonic(),
        )
        self._children[pid] = child
        self._on_readable(child.pidfd, lambda: self._bury(child))
        self._on_readable(child.socket, lambda: self._stop(child))

    def _warm_up_for(self, request: Request) -> None:
        """Load what few jobs use, once, so that no later child does it again for itself."""
        wanted = request.job.warm_up
        if wanted is None or wanted in self._warm:
            return
        with gpu.hidden():
            WARM_UPS[wanted]()
        self._warm.add(wanted)
        gc.collect()
        gc.freeze()

    def _stop(self, child: _Child) -> None:
        """Kill a child whose supervisor hung up: it cancelled, the deadline passed, or it died."""
        if child.pid in self._children:  # not buried by an event of the same round
            self._selector.unregister(child.socket)
            _kill(child)

    def _bury(self, child: _Child) -> None:
        """End what a child that ended left running, and report its end."""
        _kill(child)
        ended = _reap(child)
        del self._children[child.pid]
        for file in (child.pidfd, child.socket):
            with contextlib.suppress(KeyError):  # a stopped child's socket is out already
                self._selector.unregister(file)
        os.close(child.pidfd)
        with child.socket, contextlib.suppress(BrokenPipeError):  # the supervisor may be gone
            child.socket.send(ended.model_dump_json().encode())


def _kill(child: _Child) -> None:
    """Kill a child and its process group, whether or not it has left ours yet."""
    signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _reap(child: _Child) -> Ended:
    _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        max_rss_bytes=usage.ru_maxrss * _KIB,
        user_seconds=usage.ru_utime,
        system_seconds=usage.ru_stime,
        fork_seconds=child.forked - child.received,
        wall_seconds=time.monotonic() - child.forked,
    )


def require_single_thread() -> None:
    """Refuse to fork a process with threads: the child would inherit their locks without them.

    Raises:
        RuntimeError: If this process has more than one thread.
    """
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads != 1:
        raise RuntimeError(f"the warm parent has {threads} threads; forking needs exactly one")


def _load_table(name: str) -> tuple[Mapping[str, Job], Callable[[], None] | None]:
    """Return the jobs, and what their module has to warm up beside what all jobs use."""
    module_name, _, table = name.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, table), getattr(module, "rehearse", None)


def main() -> None:
    """Warm up, and serve the control socket."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("control", type=int, help="descriptor of the control socket")
    parser.add_argument("jobs", help="MODULE:TABLE of the jobs")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    control = socket.socket(fileno=arguments.control)
    credentials = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    supervisor, _, _ = _PEER_CREDENTIALS.unpack(credentials)
    # While there are no children yet, the supervisor's death may simply end this process.
    follow_into_death(supervisor, signal.SIGTERM)
    jobs, rehearse = _load_table(arguments.jobs)
    warm_up()
    if arguments.device == "cuda":
        gpu.load_libraries()
    if rehearse is not None:
        rehearse()
    require_single_thread()
    # What is alive now lives as long as this process: leave it out of every child's collections,
    # which would otherwise write to, and so copy, each shared page.
    gc.collect()
    gc.freeze()
    # From here on its death shows as the end of the control socket, after which everything that
    # children have started is killed. A signal in the middle of that would leave some of it alive.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    WarmParent(control, jobs).serve()


if __name__ == "__main__":
    main()
