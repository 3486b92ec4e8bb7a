"""What the kernel is told about a child before it opens an upload."""

import os
import resource
import signal
import sys
from collections.abc import Callable, Collection
from typing import Literal

from workers.child.walls import kernel, landlock, seccomp
from workers.protocol.memory import data_bytes, forget_parent
from workers.protocol.requests import JobLimits

ORPHANED_EXIT_CODE = 111
_NOBODY = 65534


class ConfinementError(Exception):
    """Children cannot be walled in on this machine as they have to be."""


def confine(
    limits: JobLimits, parent: int, open_devices: Callable[[], Collection[int]] = tuple
) -> None:
    """Bind this process to its limits and to its parent's life, and wall it in, for good.

    The order matters: each step takes away what a later one could not do without.

    Args:
        limits: What it is granted.
        parent: Its parent's process id.
        open_devices: Called as soon as there are no privileges, and before there are walls: opens
            devices, and gives the descriptors on which the process may go on to use `ioctl`.

    Raises:
        OSError: If the kernel refuses.
    """
    follow_into_death(parent, signal.SIGKILL)
    forget_parent()
    _drop_privileges()
    follow_into_death(parent, signal.SIGKILL)  # which a change of user undoes
    kernel.gain_no_privileges()
    devices = open_devices()
    _set_limits(limits)
    kernel.hide_memory()
    if limits.landlock == "require" or landlock.version():
        landlock.restrict_self()
    else:
        sys.stderr.write("This kernel has no Landlock: the filter of system calls stands alone.\n")
    seccomp.restrict_self(devices)


def check_walls(mode: Literal["require", "degrade"]) -> int:
    """Make sure, before any job is taken up, that children can be walled in here.

    Args:
        mode: Whether Landlock is required.

    Returns:
        Version of the kernel's Landlock, 0 where it has none.

    Raises:
        ConfinementError: They cannot; the message says what is missing and what to do.
    """
    try:
        kernel.architecture()
    except OSError as error:
        raise ConfinementError(f"{error}.") from error
    if not seccomp.is_available():
        raise ConfinementError(
            "This kernel does not filter system calls (seccomp), or a container's profile keeps it "
            "from doing so. Without that no model can be run safely: use Linux 4.14 or newer, and "
            "allow the system call seccomp."
        )
    version = landlock.version()
    if mode == "require" and not version:
        raise ConfinementError(
            "This kernel has no Landlock, the second wall around models, or it is switched off or "
            'hidden by a container\'s profile. Use Linux 5.13 or newer with "landlock" among its '
            "security modules (/sys/kernel/security/lsm), or set PHISCOPE_LANDLOCK=degrade to rely "
            "on the filter of system calls alone."
        )
    return version


def _set_limits(limits: JobLimits) -> None:
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


def follow_into_death(parent: int, with_signal: signal.Signals) -> None:
    """Have the kernel send this process a signal when the thread that started it ends.

    Args:
        parent: The parent's process id, to notice that it has died already.
        with_signal: What is sent.

    Raises:
        OSError: If the kernel refuses.
    """
    kernel.signal_on_death_of_parent(with_signal)
    if os.getppid() != parent:
        os._exit(ORPHANED_EXIT_CODE)


def _drop_privileges() -> None:
    """Become nobody where this is root, and have no capability in either case."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    kernel.drop_capabilities()


def _limit(which: int, soft: int, hard: int) -> None:
    """Set a limit, never above one that the operator has set already."""
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))
