"""Using the store although it may be away for a while: full, read-only, out of reach."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from service.contract.failures import Failure, FailureCode
from service.contract.progress import Progress
from service.platform.storage import STORE_AWAY
from workers.protocol.text import printable
from workers.runner.outcome import Cancelled, Failed
from workers.supervision.ticker import Ticker

log = structlog.get_logger()

# A store that is away is tried again after this long, and after longer each time.
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
# While waiting, the lease is renewed, and a cancellation noticed, this often.
_TICK_SECONDS = 0.5
# Characters of the store's own words.
_MAX_QUOTED = 500

_WAITING = Progress(stage="waiting_for_storage", done=0, total=0)

Got = TypeVar("Got")


class StoreNotUsedError(Exception):
    """Nothing came of it; `outcome` is how the job ends."""

    def __init__(self, outcome: Failed | Cancelled) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(frozen=True)
class StoreAccess:
    """How one job reads from the store and writes to it.

    Args:
        ticker: Keeps the job's lease meanwhile.
        stopping: Set when the worker is to end.
        patience_seconds: How long a store may be away before the job gives up.
    """

    ticker: Ticker
    stopping: threading.Event
    patience_seconds: float

    def insist(self, use: Callable[[], Got]) -> Got:
        """Call `use` again and again until it raises none of `STORE_AWAY`, and return its result.

        What a job has computed for an hour is not thrown away because the disk is full for a
        minute. Clients see meanwhile what the job is waiting for.

        Raises:
            StoreNotUsedError: The job was cancelled, the worker is to end, or the store was away
                for too long.
        """
        pause, began = _FIRST_PAUSE_SECONDS, time.monotonic()
        while True:
            try:
                return use()
            except STORE_AWAY as error:
                if time.monotonic() - began > self.patience_seconds:
                    raise StoreNotUsedError(_given_up(error, self.patience_seconds)) from error
                log.warning("store away", error=_first_line(error), wait=pause)
            self._wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self.ticker.show(_WAITING):
                raise StoreNotUsedError(Cancelled(""))
            self.stopping.wait(min(left, _TICK_SECONDS))


def _given_up(error: Exception, seconds: float) -> Failed:
    failure = Failure(
        code=FailureCode.STORAGE_UNAVAILABLE,
        message=f"The server could not read or write its files for {seconds:.0f} s: "
        f"{printable(_first_line(error), _MAX_QUOTED)}.",
        hint="Neither the model nor the probe is at fault. Tell the server's operator: the disk of "
        "its store may be full. Ask again once /readyz says that storage is ok.",
    )
    return Failed(failure, "", None)


def _first_line(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error).partition("\n")[0] or type(error).__name__
