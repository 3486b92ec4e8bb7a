"""The databases of a local Phiscope, started and stopped as one."""

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from service.local import directory
from service.local.binaries import find_postgres, find_valkey
from service.local.errors import LocalError
from service.local.postgres import Postgres
from service.local.processes import Child, stop_all
from service.local.valkey import Valkey


class LocalDatabases:
    """PostgreSQL and Valkey, private to one data directory.

    Use it as a context manager from the main thread: both end when the thread that started them
    does. They listen on unix sockets that only the owner can reach. What they hold survives any
    end of this process, and the next start on the same directory finds it.
    """

    def __init__(self, data_dir: Path) -> None:
        """Set the data directory without touching it.

        Args:
            data_dir: Directory for everything the databases keep; created at the first start.
        """
        self._data_dir = data_dir.expanduser().absolute()
        self._undo = ExitStack()
        self._parts: tuple[Postgres, Valkey] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the running database, `postgresql+psycopg://…`."""
        postgres, _ = self._running()
        return postgres.url

    @property
    def broker_url(self) -> str:
        """Celery's URL of the running broker, `redis+socket://…`."""
        _, valkey = self._running()
        return valkey.url

    @property
    def children(self) -> tuple[Child, ...]:
        """The running servers, for a supervisor to keep."""
        return self._running()

    def start(self) -> None:
        """Take the data directory and start both servers; returns when both answer.

        Raises:
            LocalError: The directory is in use or not writable, a program is missing, the
                data is of another version, or a server does not come up.
        """
        if sys.platform != "linux":
            raise LocalError(
                "The embedded databases need Linux. Elsewhere, start PostgreSQL and Valkey (or "
                "Redis) yourself, and set PHISCOPE_DATABASE_URL and PHISCOPE_BROKER_URL."
            )
        programs, server = find_postgres(), find_valkey()
        here = self._data_dir
        directory.prepare(here, "valkey", "logs")
        with ExitStack() as undo:
            lock = undo.enter_context(directory.exclusive(here))
            sockets = undo.enter_context(directory.socket_directory(here))
            postgres = Postgres(
                programs,
                directory=here / "postgres",
                sockets=sockets,
                log=here / "logs" / "postgres.log",
                pass_fds=[lock],
            )
            valkey = Valkey(
                server,
                directory=here / "valkey",
                sockets=sockets,
                log=here / "logs" / "valkey.log",
                pass_fds=[lock],
            )
            # Before the start, so that a failure or an interrupt half way stops what runs.
            undo.callback(stop_all, [valkey, postgres])
            valkey.start()
            postgres.start()
            self._undo = undo.pop_all()
        self._parts = (postgres, valkey)

    def stop(self) -> None:
        """Stop both servers and release the data directory. Does nothing if they do not run."""
        self._parts = None
        self._undo.close()

    def _running(self) -> tuple[Postgres, Valkey]:
        if self._parts is None:
            raise RuntimeError("The local databases are not running: call start() first.")
        return self._parts
