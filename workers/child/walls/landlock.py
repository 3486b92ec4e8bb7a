"""Landlock with no rules: no file, no TCP port, no other process (Linux 5.13, better from 6.12)."""

import os
import struct

from workers.child.walls.kernel import syscall

_VERSION_FLAG = 1
_NETWORK = 0b11  # bind and connect of TCP
_SCOPES = 0b11  # abstract Unix sockets, and signals to the outside

# Rights on files and directories, and the version of the interface that knows the last of them.
_FILE_RIGHTS = ((1, (1 << 13) - 1), (2, (1 << 14) - 1), (3, (1 << 15) - 1), (5, (1 << 16) - 1))
_WITH_NETWORK, _WITH_SCOPES = 4, 6


def version() -> int:
    """Version of the kernel's interface; 0 where it has none."""
    try:
        return syscall("landlock_create_ruleset", 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict_self() -> None:
    """Take from this process, for good, all that this kernel's Landlock can take.

    What is open stays open. `gain_no_privileges` goes first.

    Raises:
        OSError: The kernel has no Landlock, or it is switched off.
    """
    known = version()
    rights = max((rights for since, rights in _FILE_RIGHTS if since <= known), default=0)
    fields = [rights]
    if known >= _WITH_NETWORK:
        fields.append(_NETWORK)
    if known >= _WITH_SCOPES:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
