"""The product under test: `phiscope up`, which can be ended and started again."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from support import HANGS_SECONDS, Stack, running_stack, small_disk

from service.local import LocalDatabases
from service.local.postgres import DATABASE, PORT, USER
from tests.chaos.links import Link

# A worker that vanished is given up after this; it is a minute where nobody says otherwise.
_SETTINGS = {"PHISCOPE_LEASE_SECONDS": "8", "PHISCOPE_MAX_ATTEMPTS": "20"}
# The databases take 50 MB at first, and each analysis adds little.
_DISK_BYTES = 500 << 20


@dataclass
class Product:
    """A running `phiscope up`.

    Attributes:
        disk: Where its data is.
        port: Where it listens, always the same.
        settings: In its environment.
        database: The link to the database; None where `up` runs its own.
        broker: Likewise.
        small: Whether the disk is a small one that a test may fill.
    """

    disk: Path
    port: int
    small: bool
    settings: dict[str, str]
    database: Link | None = None
    broker: Link | None = None
    _running: ExitStack = field(default_factory=ExitStack)
    _stack: Stack | None = None

    @property
    def data_dir(self) -> Path:
        return self.disk / "data"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._stack is not None
        return self._stack.process

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=600)

    def start(self) -> None:
        """Start it."""
        up = running_stack(self.data_dir, "--port", str(self.port), **self.settings)
        self._stack = self._running.enter_context(up)

    def stop(self) -> None:
        """End it with Ctrl-C, and see that all of it does."""
        self._running.close()
        self._see_that_nothing_is_left()

    def end(self, number: signal.Signals) -> None:
        """End it by a signal."""
        self.process.send_signal(number)
        self.process.wait(HANGS_SECONDS)
        self._running.close()

    def _see_that_nothing_is_left(self) -> None:
        ends = time.monotonic() + HANGS_SECONDS
        while left := list(self._processes()):
            assert time.monotonic() < ends, f"still running: {left}"
            time.sleep(0.1)
        incoming = self.data_dir / "blobs" / "incoming"
        assert list(incoming.iterdir()) == []

    def _processes(self) -> Iterator[str]:
        mark = str(self.data_dir)
        for process in psutil.process_iter(["cmdline"]):
            try:
                if mark in " ".join([*process.cmdline(), *process.environ().values()]):
                    yield " ".join(process.cmdline())
            except psutil.Error:
                continue


@contextmanager
def running(directory: Path, *, linked: bool) -> Iterator[Product]:
    """Run the product.

    Args:
        directory: Where it keeps its data.
        linked: Whether its databases run beside it, behind links that can break.
    """
    with ExitStack() as undo:
        product = Product(directory, _free_port(), small=False, settings=dict(_SETTINGS))
        if linked:
            _link(product, undo.enter_context(LocalDatabases(directory / "servers")), undo)
        else:
            product.small = _is_small(directory, undo)
        product.start()
        undo.callback(product._running.close)
        yield product


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _is_small(directory: Path, undo: ExitStack) -> bool:
    try:
        undo.enter_context(small_disk(directory, _DISK_BYTES))
    except pytest.skip.Exception:
        return False
    return True


def _link(product: Product, databases: LocalDatabases, undo: ExitStack) -> None:
    sockets = Path(urlsplit(databases.broker_url).path).parent
    product.database = undo.enter_context(Link(sockets / f".s.PGSQL.{PORT}"))
    product.broker = undo.enter_context(Link(sockets / "valkey.sock"))
    at = f"127.0.0.1:{product.database.port}"
    product.settings |= {
        "PHISCOPE_DATABASE_URL": f"postgresql+psycopg://{USER}@{at}/{DATABASE}",
        "PHISCOPE_BROKER_URL": f"redis://127.0.0.1:{product.broker.port}/0",
    }
