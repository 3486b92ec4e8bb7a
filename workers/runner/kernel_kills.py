"""Whether the kernel has ended processes for want of memory. Others may send SIGKILL, too."""

from pathlib import Path

_COUNTS = Path("/proc/vmstat")


def count(path: Path = _COUNTS) -> int | None:
    """Return how many processes the kernel has killed for want of memory since it started.

    Whichever limit they ran into, a control group's or the machine's, and in whatever container.
    None where the kernel does not tell.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("oom_kill "))
    return next((int(number) for _, number in found), None)
