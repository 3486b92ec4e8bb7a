"""PostgreSQL as a child process: its data directory, its start, its readiness."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from service.local.binaries import PostgresPrograms
from service.local.errors import LocalError
from service.local.processes import Child, tail, tied_to_this_process

USER = "phiscope"
DATABASE = "phiscope"
# Part of the socket's name. Spelled out, because PGPORT would otherwise decide.
PORT = 5432
# Replaying the log after a crash takes the longest; a minute of it is already unusual.
READY_SECONDS = 120.0


class Postgres(Child):
    """A PostgreSQL server on a unix socket, with a database `phiscope`."""

    # Fast shutdown: ends open sessions, then writes everything down. SIGTERM would wait for them.
    stop_signal = signal.SIGINT
    # Immediate shutdown: no checkpoint; the log is replayed at the next start. After SIGKILL the
    # server's own children would have to notice by themselves.
    kill_signal = signal.SIGQUIT
    stop_seconds = 60.0

    def __init__(
        self,
        programs: PostgresPrograms,
        *,
        directory: Path,
        sockets: Path,
        log: Path,
        pass_fds: Sequence[int],
    ) -> None:
        """Describe the server without starting it.

        Args:
            programs: Where its programs are.
            directory: Its data directory; created by the first start.
            sockets: Directory of its socket, which only the owner may enter.
            log: File for its output.
            pass_fds: Open files it inherits.
        """
        super().__init__(
            "PostgreSQL",
            [
                str(programs.postgres),
                *("-D", str(directory)),
                *("-k", str(sockets)),
                *("-p", str(PORT)),
                *("-c", "listen_addresses="),
                *("-c", "unix_socket_permissions=0700"),
            ],
            env=_environment(),
            log=log,
            death_signal=signal.SIGINT,
            unprivileged_in=directory,
            pass_fds=pass_fds,
        )
        self._programs = programs
        self._directory = directory
        self._sockets = sockets
        self._log = log

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database."""
        return f"postgresql+psycopg://{USER}@/{DATABASE}?host={self._sockets}&port={PORT}"

    def start(self) -> None:
        """Start the server and wait until it answers; create its data directory at first.

        Raises:
            LocalError: The data is another version's, or the server does not come up.
        """
        if not self._directory.exists():
            self._create()
        self._check_version()
        self._forget_dead_postmaster()
        super().start()
        self.wait_ready(self._answers, READY_SECONDS)
        self._ensure_database()

    def _create(self) -> None:
        """Run initdb beside the final place, then rename: a directory that exists is complete."""
        unfinished = self._directory.with_name(f"{self._directory.name}.new")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        initdb = [
            str(self._programs.initdb),
            *("-D", str(unfinished)),
            *("-U", USER),
            # Whoever may enter the socket's directory is let in; no one else can connect.
            "--auth=trust",
            # The same order of strings on every machine, whatever its language.
            *("--encoding=UTF8", "--no-locale"),
        ]
        with self._log.open("wb") as output:
            result = subprocess.run(
                tied_to_this_process(initdb, signal.SIGKILL, unfinished),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
            )
        if result.returncode != 0:
            raise LocalError(
                f"PostgreSQL could not create its data directory {self._directory}."
                f"{tail(self._log)}"
            )
        unfinished.rename(self._directory)
        _write_through(self._directory.parent)

    def _check_version(self) -> None:
        found = _major_version_of_data(self._directory)
        expected = _major_version_of_program(self._programs.postgres)
        if found != expected:
            raise LocalError(
                f"The data in {self._directory} was written by PostgreSQL {found}, but "
                f"{self._programs.postgres} is PostgreSQL {expected}, which cannot read it. "
                f"Name the programs of PostgreSQL {found} in PHISCOPE_PG_BIN, "
                "or choose another directory with --data-dir."
            )

    def _forget_dead_postmaster(self) -> None:
        """Remove the pid file of a server that is gone.

        PostgreSQL does so itself unless the pid has meanwhile gone to another process, which is
        the rule in containers; then it would refuse to start.
        """
        pid_file = self._directory / "postmaster.pid"
        with suppress(FileNotFoundError):
            pid = pid_file.read_text().split("\n", 1)[0]
            if not _works_in(pid, self._directory):
                pid_file.unlink()

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _ensure_database(self) -> None:
        with self._connect() as connection:
            exists = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
            ).fetchone()
            if exists is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self._sockets),
            port=PORT,
            user=USER,
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        )


def _environment() -> dict[str, str]:
    """Return this process's environment without what would change PostgreSQL's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    # A locale that the machine lacks would stop it; so its messages are in English.
    return kept | {"LC_ALL": "C"}


def _major_version_of_data(directory: Path) -> str:
    try:
        return (directory / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise LocalError(
            f"{directory} is not a data directory of PostgreSQL: its file PG_VERSION cannot be "
            f"read ({error.strerror}). Choose another directory with --data-dir."
        ) from error


def _major_version_of_program(postgres: Path) -> str:
    """Ask the program; it answers `postgres (PostgreSQL) 18.4`, with more after it at times."""
    try:
        answer = subprocess.run(
            [str(postgres), "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LocalError(f"Cannot run {postgres}: {error}.") from error
    return answer.partition("(PostgreSQL) ")[2].partition(".")[0]


def _works_in(pid: str, directory: Path) -> bool:
    """Return whether a process runs in this directory, as a PostgreSQL server does in its own."""
    try:
        return Path("/proc", pid, "cwd").samefile(directory)
    except OSError:
        return False


def _write_through(directory: Path) -> None:
    """Make the renaming of an entry in this directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
