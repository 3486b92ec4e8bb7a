"""What the kernel is told about a child before it opens an upload."""

import ctypes
import os
import resource
import signal
from pathlib import Path

from workers.runner.protocol import Limits

_PR_SET_PDEATHSIG = 1
_DATA_PAGES = 5
"""Field of /proc/self/statm: data and stack, which is what RLIMIT_DATA counts."""

ORPHANED_EXIT_CODE = 111

_libc = ctypes.CDLL(None, use_errno=True)


def confine(limits: Limits, parent: int) -> None:
    """Bind this process to its limits and to its parent's life, for good.

    Args:
        limits: What it is granted.
        parent: Its parent's process id.

    Raises:
        OSError: If the kernel refuses.
    """
    follow_into_death(parent, signal.SIGKILL)
    memory = data_bytes() + limits.memory_bytes
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, limits.result_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_STACK, limits.stack_bytes),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _limit(which, value, value)
    # SIGXCPU at the soft limit says why; whoever ignores it is killed a second later.
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)


def data_bytes() -> int:
    """What this process has allocated, in the count that its memory limit is of."""
    pages = int(Path("/proc/self/statm").read_text().split()[_DATA_PAGES])
    return pages * resource.getpagesize()


def follow_into_death(parent: int, with_signal: signal.Signals) -> None:
    """Have the kernel send this process a signal when the thread that started it ends.

    Args:
        parent: The parent's process id, to notice that it has died already.
        with_signal: What is sent.

    Raises:
        OSError: If the kernel refuses.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, with_signal, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    if os.getppid() != parent:
        os._exit(ORPHANED_EXIT_CODE)


def _limit(which: int, soft: int, hard: int) -> None:
    """Set a limit, never above one that the operator has set already."""
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))
