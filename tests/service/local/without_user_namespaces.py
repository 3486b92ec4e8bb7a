"""Runs a command as root where no user namespace can be made, as in many containers.

python without_user_namespaces.py PROGRAM [ARGUMENT ...]
"""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
EVERY_ID = "0 0 65536"


def main(command: list[str]) -> None:
    """Enter a user namespace that equals the outer one but forbids others inside it."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWUSER) != 0:
            sys.exit("unshare(CLONE_NEWUSER) failed")
        os.write(ready[1], b".")
        os.read(go[0], 1)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        os.execvp(command[0], command)  # noqa: S606 - the command is the test's own
    os.read(ready[0], 1)
    # Only a process outside may map more than one id.
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text(EVERY_ID)
    os.write(go[1], b".")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
