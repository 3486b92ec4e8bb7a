"""Threads in the background of a worker process, which nothing ends but the process itself."""

import threading
from abc import abstractmethod

import structlog
from kombu.exceptions import OperationalError as BrokerError
from psycopg import Error as DriverError

from service.platform.database import AWAY

log = structlog.get_logger()

# After a failure the thread waits this long, and longer after each that follows at once.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0

_EXPECTED: tuple[type[Exception], ...] = (*AWAY, DriverError, BrokerError, OSError)


class BackgroundThread(threading.Thread):
    """A thread that does its work until it is stopped, whatever goes wrong meanwhile.

    A thread that ended at the first error it was not made for would leave a worker that looks
    alive and does half of what it is there for.

    Args:
        name: What it is called in the log.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()

    @abstractmethod
    def work(self) -> None:
        """Work until `stopping` is set, or for a while; called again and again."""

    def run(self) -> None:
        """Work until stopped."""
        pause = _FIRST_PAUSE_SECONDS
        while not self.stopping.is_set():
            try:
                self.work()
            except _EXPECTED as error:
                log.warning("interrupted", thread=self.name, error=_first_line(error), wait=pause)
            except Exception:
                log.exception("failed; trying again", thread=self.name, wait=pause)
            else:
                pause = _FIRST_PAUSE_SECONDS
                continue
            self.stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
