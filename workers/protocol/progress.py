"""How far a job has come: fixed-size records on a pipe that neither side ever waits for."""

import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum

_RECORD = struct.Struct("<BQQ")
_PIPE_BYTES = 1 << 16
"""What a Linux pipe holds: one read of this size empties it."""

_SHORTEST_INTERVAL_S = 0.05


class Stage(IntEnum):
    """What a job is doing."""

    READING_PROBE = 1
    LOADING_MODEL = 2
    LOCATING_HEAD = 3
    EVALUATING = 4
    DIAGONALIZING = 5
    READING_EVAL_PROBE = 6
    EVALUATING_HELD_OUT = 7
    REPORTING = 8

    @property
    def label(self) -> str:
        """The name clients see, such as `loading_model`."""
        return self.name.lower()


_STAGES = frozenset(Stage)
_CONFINED = 0
"""In place of a stage: the process is walled in. Its first record, or it never was."""


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Args:
        stage: What is being done.
        done: Steps done.
        total: Steps in all; 0 where steps cannot be counted.
    """

    stage: Stage
    done: int = 0
    total: int = 0


class ProgressWriter:
    """The child's end.

    Args:
        fd: The write end of a non-blocking pipe.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._last_stage: Stage | None = None
        self._last_time = 0.0

    def confined(self) -> None:
        """Say, before anything else, that the process is walled in."""
        os.write(self._fd, _RECORD.pack(_CONFINED, 0, 0))

    def report(self, stage: Stage, done: int = 0, total: int = 0) -> None:
        """Say how far the job is; cheap enough to call for every batch.

        Records are thinned out within a stage, except its last, and dropped when nobody reads.

        Args:
            stage: What is being done.
            done: Steps done.
            total: Steps in all; 0 where steps cannot be counted.
        """
        now = time.monotonic()
        is_news = stage != self._last_stage or done == total
        if not is_news and now - self._last_time < _SHORTEST_INTERVAL_S:
            return
        self._last_stage, self._last_time = stage, now
        try:
            os.write(self._fd, _RECORD.pack(stage, done, total))
        except (BlockingIOError, BrokenPipeError):
            return


class ProgressReader:
    """The supervisor's end; what arrives is the child's word and may be anything.

    Args:
        fd: The read end of a non-blocking pipe.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pending = b""
        self._latest: Progress | None = None
        self._first: int | None = None

    @property
    def is_confined(self) -> bool:
        """Whether the process has said so before it ran anything of its job."""
        self.latest()
        return self._first == _CONFINED

    def latest(self) -> Progress | None:
        """Empty the pipe and return the newest sensible record, if there has been any."""
        try:
            received = self._pending + os.read(self._fd, _PIPE_BYTES)
        except BlockingIOError:
            return self._latest
        whole = len(received) - len(received) % _RECORD.size
        self._pending = received[whole:]
        if whole:
            if self._first is None:
                self._first, _, _ = _RECORD.unpack_from(received)
            self._accept(*_RECORD.unpack_from(received, whole - _RECORD.size))
        return self._latest

    def _accept(self, stage: int, done: int, total: int) -> None:
        if stage in _STAGES and (done <= total or total == 0):
            self._latest = Progress(Stage(stage), done, total)
