"""The descriptors of one job on the supervisor's side."""

import fcntl
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from workers.protocol.progress import ProgressReader
from workers.protocol.requests import MAX_INPUTS, ChildFiles, JobLimits
from workers.protocol.text import printable

_READ_BYTES = 1 << 24


class JobFiles:
    """A result file, a log, a progress pipe and a socket for one job; closed on exit.

    Result and log are memory files: nothing of a job touches a disk.

    Args:
        inputs: Descriptors opened for reading only, each an open of its own, since a position is
            shared by all who hold a descriptor. They stay the caller's to close.
        limits: What the job is granted.

    Raises:
        ValueError: If there are too many inputs, or one is writable.
    """

    def __init__(self, inputs: Sequence[int], limits: JobLimits) -> None:
        _check_inputs(inputs)
        self._limits = limits
        with ExitStack() as opened:
            self._result = os.memfd_create("result")
            opened.callback(os.close, self._result)
            self._log = _bounded_file("log", limits.log_bytes)
            opened.callback(os.close, self._log)
            reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            opened.callback(os.close, reading)
            self._theirs = opened.enter_context(ExitStack())
            self._theirs.callback(os.close, writing)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.socket = opened.enter_context(ours)
            self._theirs.enter_context(theirs)
            self.for_child = ChildFiles(
                tuple(inputs), self._result, self._log, writing, theirs.fileno()
            )
            self.progress = ProgressReader(reading)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def handed_over(self) -> None:
        """Close the child's ends: from here on, their closing says that the other side is gone."""
        self._theirs.close()

    def read_result(self) -> bytes:
        """Return what the job left; a byte more than allowed at most, which no result survives."""
        return _read(self._result, self._limits.result_bytes + 1)

    def read_log(self) -> str:
        """Return what the job printed, escaped and cut."""
        written = _read(self._log, self._limits.log_bytes).rstrip(b"\0")
        return printable(written.decode(errors="backslashreplace"), self._limits.log_bytes)


def _check_inputs(inputs: Sequence[int]) -> None:
    if len(inputs) > MAX_INPUTS:
        raise ValueError(f"{len(inputs)} input files; expected at most {MAX_INPUTS}")
    for fd in inputs:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            raise ValueError(
                f"input file {fd} is open for writing; a child gets files opened with O_RDONLY"
            )


def _bounded_file(name: str, size: int) -> int:
    """Return a memory file in which whatever is written beyond its size is refused."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


def _read(fd: int, most: int) -> bytes:
    """Return the first bytes of a file whose position belongs to somebody else."""
    content = bytearray()
    while chunk := os.pread(fd, min(_READ_BYTES, most - len(content)), len(content)):
        content += chunk
    return bytes(content)
