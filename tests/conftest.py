"""Fixtures that tests of the running product share.

This is imported before there are processes that tests run in, so what takes long to import is left
to the fixtures that use it.
"""

from __future__ import annotations

import gc
import os

# Tests run in as many processes as there are cores: more threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests start dozens of programs of ours, which would each be compiled anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    import numpy as np
    from support import Stack

    from service.client import Client

# A runner that was started in the background ignores Ctrl-C, and would hand that on to the
# processes whose answer to Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Databases wait for the disk with each transaction, and tests start dozens of them.
_MEMORY = Path("/dev/shm")  # noqa: S108 - where there is room, and nobody else's files are touched
_ROOM_BYTES = 6 << 30


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory, where there is room and nobody said where."""
    if hasattr(config, "workerinput") or config.option.basetemp or not _MEMORY.is_dir():
        return
    if shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return
    folder = tempfile.mkdtemp(prefix="phiscope-tests-", dir=_MEMORY)
    config.option.basetemp = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Looks for no garbage among the modules, which all stay, neither now nor after each test."""
    from hypothesis import settings  # noqa: PLC0415 - see above

    # No example fails for being slow.
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Makes sure that groups are kept together: else each process starts all that they share."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} is not kept with its group by pytest-xdist")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests that leave it as they found it."""
    from support import running_stack  # noqa: PLC0415 - see above

    with running_stack(tmp_path_factory.mktemp("stack") / "data") as running:
        yield running


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.http() as client:
        yield client


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def archive() -> bytes:
    """An untrained network for `digits`."""
    from support import multilayer, scripted  # noqa: PLC0415 - see above

    return scripted(multilayer())


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: (1797, 64) float32 in [0, 1], and labels."""
    import numpy as np  # noqa: PLC0415 - see above
    from sklearn.datasets import load_digits  # noqa: PLC0415 - see above

    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target.astype(np.int64)
