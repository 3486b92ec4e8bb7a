"""What a process has allocated, as the limit on its memory counts it."""

import os
import resource
from functools import cache

_STATM_BYTES = 256
_DATA_PAGES = 5  # field of /proc/self/statm: data and stack, which RLIMIT_DATA counts


def data_bytes() -> int:
    """Return what this process has allocated, in the count that its memory limit is of."""
    pages = int(os.pread(_statm(), _STATM_BYTES, 0).split()[_DATA_PAGES])
    return pages * resource.getpagesize()


@cache
def _statm() -> int:
    """Return a descriptor that stays open: a process that is walled in could not open it again."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def forget_parent() -> None:
    """Count this process from now on, if it was forked from one that has been counted."""
    _statm.cache_clear()
