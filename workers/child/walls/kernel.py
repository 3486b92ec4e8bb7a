"""Calls into the kernel that Python has no function for."""

import ctypes
import os
import platform
import struct

from workers.child.walls.syscalls import SYSCALLS, Architecture

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_NO_CAPABILITIES = bytes(2 * struct.calcsize("=III"))

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def architecture() -> Architecture:
    """Return the architecture of this process.

    Raises:
        OSError: The walls are not built for it.
    """
    machine = platform.machine()
    if machine == "x86_64":
        return "x86_64"
    if machine == "aarch64":
        return "aarch64"
    raise OSError(f"children cannot be confined on {machine}: expected x86_64 or aarch64")


def syscall(name: str, *arguments: object) -> int:
    """Make a system call by its name.

    Args:
        name: As in `SYSCALLS`.
        arguments: Numbers, bytes for pointers to them, or ctypes pointers.

    Returns:
        What the kernel answers, 0 or more.

    Raises:
        OSError: The kernel refuses.
    """
    number = SYSCALLS[architecture()][name]
    values = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    answer: int = _libc.syscall(ctypes.c_long(number), *values)
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return answer


def signal_on_death_of_parent(number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends.

    A change of user or group id undoes it.
    """
    syscall("prctl", _PR_SET_PDEATHSIG, number, 0, 0, 0)


def gain_no_privileges() -> None:
    """Make sure that nothing this process executes has more rights than itself."""
    syscall("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def hide_memory() -> None:
    """Let no process of the same user read this one's memory, nor the kernel dump it."""
    syscall("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up every capability, which a container may have granted to an ordinary user, too."""
    syscall("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    syscall("capset", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), _NO_CAPABILITIES)
