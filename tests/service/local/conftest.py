import time
from collections.abc import Callable, Iterable

import psutil  # type: ignore[import-untyped]  # it publishes no types
import pytest


@pytest.fixture
def assert_gone() -> Callable[[Iterable[psutil.Process], float], None]:
    """Waits some seconds for processes to end, and fails if one still runs."""

    def wait(processes: Iterable[psutil.Process], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while alive := [process for process in processes if _runs(process)]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.02)

    return wait


def _runs(process: psutil.Process) -> bool:
    """An ended orphan stays a zombie until process 1 looks, which may be never in a container."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
