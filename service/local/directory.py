"""The data directory: who may use it, and where its sockets go."""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.local.errors import LocalError

# A socket's path, with its final NUL, must fit into 108 bytes (unix(7)).
SOCKET_PATH_BYTES = 107
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
# These stand for themselves in a URL and in PostgreSQL's list of directories.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
SHORT_PREFIX = "phiscope-"
# A process that was killed a moment ago may still look alive.
GHOST_SECONDS = 1.0
# After a kill -9 the databases shut down by themselves, in a second or two.
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.05


def prepare(directory: Path, *parts: str) -> None:
    """Create the data directory and those below it that are missing, for the owner only.

    Raises:
        LocalError: One of them cannot be created or written.
    """
    for path in (directory, *(directory / part for part in parts)):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Only an attempt to write accounts for capabilities and read-only mounts.
            tempfile.TemporaryFile(dir=path).close()
        except OSError as error:
            raise _unusable(directory, error) from error


@contextmanager
def exclusive(directory: Path) -> Iterator[int]:
    """Hold the data directory, so that no second Phiscope works on it.

    The lock belongs to the open file, not to this process: children that inherit the file hold it
    as well. So it is free only when the last process that may write here is gone, even if this
    one was killed; we wait a while for such leftover processes to end.

    Yields:
        The descriptor of the locked file, for children to inherit.

    Raises:
        LocalError: Another process holds it, or it cannot be locked.
    """
    path = directory / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from error
    try:
        _lock(descriptor, directory)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def socket_directory(data_directory: Path) -> Iterator[Path]:
    """Provide an empty directory for sockets, for the owner only, whose path is short and plain.

    It is `run` in the data directory; where that path is too long or has characters that URLs
    reserve, `run` is a link to a directory in /tmp. What killed databases left there goes first.
    """
    run = data_directory / "run"
    _clear(run)
    if _is_short_and_plain(run):
        run.mkdir(mode=0o700)
        sockets = run
    else:
        # Not the system's choice of a temporary directory: that may have a long path, too.
        sockets = Path(tempfile.mkdtemp(prefix=SHORT_PREFIX, dir="/tmp"))
        run.symlink_to(sockets)
    try:
        yield sockets
    finally:
        _clear(run)


def _lock(descriptor: int, directory: Path) -> None:
    started = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            _refuse_if_held(holder, directory, waited=time.monotonic() - started)
            time.sleep(POLL_SECONDS)
        except OSError as error:
            raise _unusable(directory, error) from error
        else:
            return


def _refuse_if_held(holder: str, directory: Path, *, waited: float) -> None:
    if _runs(holder) and waited > GHOST_SECONDS:
        raise LocalError(
            f"The data directory {directory} is in use by another Phiscope, process {holder}. "
            "Stop that one first, or choose another directory with --data-dir."
        )
    if waited > PATIENCE_SECONDS:
        raise LocalError(
            f"The data directory {directory} is still in use by databases of an earlier Phiscope, "
            f"process {holder or 'unknown'}, which is gone. They did not end within "
            f"{PATIENCE_SECONDS:g} s. Find them with `fuser {directory / 'lock'}` and end them."
        )


def _runs(pid: str) -> bool:
    """Return whether a process runs; one that was killed but not yet waited for does not."""
    try:
        status = Path("/proc", pid, "stat").read_text()
    except OSError:
        return False
    state = status.rpartition(")")[2].split()[0]
    return state not in {"Z", "X"}


def _is_short_and_plain(run: Path) -> bool:
    longest = str(run / LONGEST_SOCKET_NAME)
    return (
        len(os.fsencode(longest)) <= SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(longest) is not None
    )


def _clear(run: Path) -> None:
    if run.is_symlink():
        shutil.rmtree(run.readlink(), ignore_errors=True)
        run.unlink()
    elif run.exists():
        shutil.rmtree(run)


def _unusable(directory: Path, error: OSError) -> LocalError:
    return LocalError(
        f"The data directory {directory} cannot be used: {error.strerror}. It must be a directory "
        "that you may write. Change its permissions, or choose another with --data-dir."
    )
