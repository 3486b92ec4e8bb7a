"""Everything in one command: databases, migrations, API and worker, as children of this process."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from service.http.listening import describe, listen
from service.local.databases import LocalDatabases
from service.local.supervisor import Supervisor
from service.platform.database import open_engine
from service.platform.migration import upgrade
from service.platform.settings import Settings

_READY_SECONDS = 120.0
"""It answers after 2 s where nothing else runs, and far later beside other work."""


class LocalPhiscope:
    """A running Phiscope. Use it as a context manager, from the main thread.

    Args:
        settings: Where a database or broker is named, none is started.
        host: Address of the API.
        port: Its port; 0 for any free one.
        announce: Takes a line whenever a child ends unexpectedly.
        log_dir: Directory for the output of API and worker; None lets them write to the terminal.

    Raises:
        LocalError: A database, the API or the worker does not come up.
        ValueError: The port is taken, or a setting is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        host: str,
        port: int,
        *,
        announce: Callable[[str], None],
        log_dir: Path | None = None,
    ) -> None:
        self._settings = settings
        self._host = host
        self._port = port
        self._announce = announce
        self._log_dir = log_dir
        self._undo = ExitStack()
        self.data_dir = settings.data_dir.expanduser().absolute()
        self.url = ""

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._start(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._undo.close()

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Look after the children until Ctrl-C, or until the caller has seen enough.

        Raises:
            LocalError: One of them ends again and again.
        """
        self._supervisor.wait(until)

    def _start(self, undo: ExitStack) -> None:
        # The port first: it is what is taken most often, and fails at once.
        listening = undo.enter_context(listen(self._host, self._port, self._settings))
        self.url = describe(listening)
        settings, local = self._databases(undo)
        engine = open_engine(settings, patience=None)
        upgrade(engine)
        engine.dispose()
        self._supervisor = undo.enter_context(Supervisor(self._announce))
        if local is not None:
            self._supervisor.keep(*local.children)
        environment = self._environment(settings)
        api = self._supervisor.spawn(
            "api",
            [sys.executable, "-m", "service", "serve", "--fd", str(listening.fileno())],
            env=environment,
            log=self._log("api"),
            pass_fds=[listening.fileno()],
        )
        api.wait_ready(self._is_ready, _READY_SECONDS)
        if find_spec("torch") is None:
            self._announce(
                'No worker was started, for torch is missing: pip install "phiscope[worker]"'
            )
            return
        self._supervisor.spawn(
            "worker",
            [sys.executable, "-m", "workers"],
            env=environment,
            log=self._log("worker"),
            death_signal=signal.SIGTERM,
        )

    def _databases(self, undo: ExitStack) -> tuple[Settings, LocalDatabases | None]:
        if self._settings.database_url is not None and self._settings.broker_url is not None:
            return self._settings, None
        if self._settings.database_url is not None or self._settings.broker_url is not None:
            raise ValueError(
                "Only one of PHISCOPE_DATABASE_URL and PHISCOPE_BROKER_URL is set. Set both to use "
                "your own, or none to have both started here."
            )
        local = undo.enter_context(LocalDatabases(self.data_dir))
        return (
            self._settings.model_copy(
                update={"database_url": local.database_url, "broker_url": local.broker_url}
            ),
            local,
        )

    def _environment(self, settings: Settings) -> dict[str, str]:
        assert settings.database_url is not None  # noqa: S101 - _databases has seen to both
        assert settings.broker_url is not None  # noqa: S101 - likewise
        return os.environ | {
            "PHISCOPE_DATABASE_URL": settings.database_url,
            "PHISCOPE_BROKER_URL": settings.broker_url,
            "PHISCOPE_DATA_DIR": str(self.data_dir),
        }

    def _log(self, name: str) -> Path | None:
        return None if self._log_dir is None else self._log_dir / f"{name}.log"

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx.TransportError:
            return False
