"""Becomes a given program that cannot outlive its supervisor.

    python -I -S launch.py SUPERVISOR_PID DEATH_SIGNAL UNPRIVILEGED_IN PROGRAM [ARGUMENT ...]

Runs in the child, between fork and exec, as a program of its own: Python code in a forked child of
a process with threads may deadlock. It imports the standard library only, so it costs about 15 ms.

UNPRIVILEGED_IN is empty, or names a directory that the program owns and that it must not work on as
root: PostgreSQL refuses to. A supervisor that is not root passes through unchanged.
"""

import ctypes
import os
import pwd
import sys
from pathlib import Path

# From <linux/sched.h>, <linux/prctl.h> and <linux/capability.h>, which never change.
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    """Shed root where asked to, tie this process to its supervisor, and become the program."""
    supervisor, death_signal, unprivileged_in, *command = arguments
    if unprivileged_in and os.geteuid() == 0:
        try:
            shed_root(Path(unprivileged_in))
        except OSError as error:
            sys.exit(
                f"{command[0]} refuses to run as root, and here root can neither open a user "
                f"namespace nor become another user ({error}). Start Phiscope as an ordinary user."
            )
    # After the change of identity, because the kernel forgets this setting at one.
    prctl(PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != int(supervisor):
        sys.exit("The supervisor ended before this process was tied to it.")
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming this program is the purpose
    except OSError as error:
        sys.exit(f"Cannot run {command[0]}: {error.strerror}.")


def shed_root(directory: Path) -> None:
    """Stop being root, yet stay the owner of `directory`.

    A user namespace does it without a trace: in it, root's files belong to "somebody", and so does
    this process. Where the kernel or a container forbids that, the directory goes to `nobody`, for
    good: later starts find it there and run as its owner.
    """
    status = directory.stat()
    owner, group = status.st_uid, status.st_gid
    if owner == 0:
        if libc.unshare(CLONE_NEWUSER) == 0:
            return
        nobody = pwd.getpwnam("nobody")
        owner, group = nobody.pw_uid, nobody.pw_gid
        give_away(directory, owner, group)
    become(owner, group)


def give_away(directory: Path, owner: int, group: int) -> None:
    """Change the owner of a directory tree, its root last, so that a cut-off change is redone."""
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(Path(parent, name), owner, group, follow_symlinks=False)
    os.chown(directory, owner, group)


def become(user: int, group: int) -> None:
    """Change from root to another user who may still reach files that only root can.

    Data and programs often lie below /root, which no other user may enter. Root in a user namespace
    could, too; so this gives the program nothing that it would not have there.
    """
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    reach = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; first the low 32 capabilities, then the high.
    sets = (ctypes.c_uint32 * 6)(reach, reach, reach, 0, 0, 0)
    # A container may withhold the capability. Then ordinary permissions decide, as for anyone.
    if libc.capset(header, sets) == 0:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def prctl(option: int, *values: int) -> None:
    """Set an attribute of this process, with the zeros after the values that the call wants.

    Raises:
        OSError: The kernel refused.
    """
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *padded) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    main(sys.argv[1:])
