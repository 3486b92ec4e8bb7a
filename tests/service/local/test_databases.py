import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it publishes no types
import psycopg
import pytest
import sqlalchemy
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError

from service.local import LocalDatabases, LocalError
from service.local.binaries import find_postgres

HERE = Path(__file__).parent
AS_ROOT = os.geteuid() == 0


def environment_is_open() -> bool:
    """Whether other users may run the databases' programs where they are installed."""
    program = find_postgres().postgres
    return all(parent.stat().st_mode & 0o001 for parent in program.parents)


@dataclass(frozen=True)
class Held:
    """Databases that another process holds open."""

    process: subprocess.Popen[str]
    database_url: str
    broker_url: str
    pids: list[int]

    def family(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def kill_supervisor(self) -> None:
        self.process.kill()
        self.process.wait()


Hold = Callable[..., Held]
AssertGone = Callable[[list[psutil.Process], float], None]


def hold_command(data_dir: Path) -> list[str]:
    return [sys.executable, str(HERE / "hold.py"), str(data_dir)]


@contextmanager
def held(command: Sequence[str]) -> Iterator[Held]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the databases did not start; the reason stands on standard error"
            yield Held(process, **json.loads(line))
        finally:
            process.terminate()
            process.wait(300)


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts databases in a process of their own, and ends them after the test."""
    with ExitStack() as ends:

        def start(data_dir: Path, prefix: Sequence[str] = ()) -> Held:
            return ends.enter_context(held([*prefix, *hold_command(data_dir)]))

        yield start


@pytest.fixture
def as_ordinary_user(tmp_path: Path) -> list[str]:
    """A command prefix for running as an ordinary user, to whom `tmp_path` then belongs.

    That user may read everything, because the interpreter often lies where only root may look.
    """
    if not AS_ROOT:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("becoming an ordinary user takes setpriv, of util-linux")
    if not environment_is_open():
        pytest.skip("this environment is closed to other users")
    os.chown(tmp_path, 65534, 65534)
    reach = "+dac_read_search"
    identity = ["--reuid=65534", "--regid=65534", "--clear-groups"]
    return ["setpriv", *identity, f"--inh-caps={reach}", f"--ambient-caps={reach}"]


def query(database_url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def put(broker_url: str, message: str) -> None:
    with Celery(broker=broker_url).connection() as broker, broker.SimpleQueue("letters") as queue:
        queue.put(message)


def get(broker_url: str) -> object:
    with Celery(broker=broker_url).connection() as broker, broker.SimpleQueue("letters") as queue:
        message = queue.get(timeout=300)
        message.ack()
        return message.payload


def write_one_of_each(databases: Held | LocalDatabases) -> None:
    query(databases.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    put(databases.broker_url, "kept")


def assert_both_kept(databases: Held | LocalDatabases) -> None:
    assert query(databases.database_url, "SELECT answer FROM kept") == [(42,)]
    assert get(databases.broker_url) == "kept"


def test_starts_quickly_and_keeps_what_it_was_given(tmp_path: Path) -> None:
    started = time.monotonic()
    with LocalDatabases(tmp_path / "data") as databases:
        first_start = time.monotonic() - started
        write_one_of_each(databases)
    started = time.monotonic()
    with LocalDatabases(tmp_path / "data") as databases:
        second_start = time.monotonic() - started
        assert_both_kept(databases)
    # 0.75 and 0.17 s on an idle machine with two cores; what waits for a limit takes this long.
    assert first_start < 60
    assert second_start < 60


def test_database_url_is_for_sqlalchemy(tmp_path: Path) -> None:
    with LocalDatabases(tmp_path / "data") as databases:
        engine = sqlalchemy.create_engine(databases.database_url)
        with engine.connect() as connection:
            statement = "SELECT current_database(), current_user"
            assert connection.execute(sqlalchemy.text(statement)).one() == ("phiscope", "phiscope")
        engine.dispose()


def test_listens_on_private_unix_sockets_only(tmp_path: Path, hold: Hold) -> None:
    databases = hold(tmp_path / "data")
    sockets = [psutil.Process(pid).net_connections(kind="inet") for pid in databases.pids]
    assert sockets == [[], []]
    run = tmp_path / "data" / "run"
    assert {path.name for path in run.iterdir()} >= {".s.PGSQL.5432", "valkey.sock"}
    assert stat.S_IMODE(run.stat().st_mode) == 0o700


def test_stops_cleanly_on_sigterm(tmp_path: Path, hold: Hold, assert_gone: AssertGone) -> None:
    databases = hold(tmp_path / "data")
    family = databases.family()
    databases.process.terminate()
    assert databases.process.wait() == 0
    assert_gone(family, 300)
    log = (tmp_path / "data" / "logs" / "postgres.log").read_text()
    assert "database system is shut down" in log
    assert not (tmp_path / "data" / "run").exists()


def test_kill_of_the_supervisor_leaves_no_orphan_and_loses_nothing(
    tmp_path: Path, hold: Hold, assert_gone: AssertGone
) -> None:
    databases = hold(tmp_path / "data")
    write_one_of_each(databases)
    family = databases.family()
    assert len(family) > 2
    databases.process.kill()
    # At once: the databases of the killed one are still shutting down, and its pid is not yet
    # waited for.
    with LocalDatabases(tmp_path / "data") as restarted:
        assert_gone(family, 0)
        assert_both_kept(restarted)


def test_no_orphan_after_a_kill_with_sessions_open(
    tmp_path: Path, hold: Hold, assert_gone: AssertGone
) -> None:
    databases = hold(tmp_path / "data")
    with psycopg.connect(databases.database_url.replace("+psycopg", "")) as connection:
        connection.execute("SELECT 1")
        family = databases.family()
        databases.kill_supervisor()
        assert_gone(family, 300)
        connection.close()


def test_recovers_when_everything_was_killed_and_the_pid_was_given_away(
    tmp_path: Path, hold: Hold, assert_gone: AssertGone
) -> None:
    databases = hold(tmp_path / "data")
    write_one_of_each(databases)
    family = databases.family()
    for pid in (databases.process.pid, *databases.pids):
        os.kill(pid, signal.SIGKILL)
    assert_gone(family, 300)
    pid_file = tmp_path / "data" / "postgres" / "postmaster.pid"
    _, _, rest = pid_file.read_text().partition("\n")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text(f"{stranger.pid}\n{rest}")
        with LocalDatabases(tmp_path / "data") as restarted:
            assert_both_kept(restarted)


def test_a_killed_database_is_started_again(tmp_path: Path, hold: Hold) -> None:
    databases = hold(tmp_path / "data")
    write_one_of_each(databases)
    for pid in databases.pids:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 300
    while True:
        try:
            assert_both_kept(databases)
            break
        except (psycopg.OperationalError, BrokerError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_second_start_on_the_same_directory_names_the_first(tmp_path: Path, hold: Hold) -> None:
    first = hold(tmp_path / "data")
    with pytest.raises(
        LocalError, match=f"in use by another Phiscope, process {first.process.pid}"
    ):
        LocalDatabases(tmp_path / "data").start()
    assert query(first.database_url, "SELECT 1") == [(1,)]


def test_runs_as_an_ordinary_user(
    tmp_path: Path, hold: Hold, as_ordinary_user: list[str], assert_gone: AssertGone
) -> None:
    databases = hold(tmp_path / "data", as_ordinary_user)
    write_one_of_each(databases)
    assert_both_kept(databases)
    family = databases.family()
    assert 0 not in {process.uids().real for process in family}
    databases.kill_supervisor()
    assert_gone(family, 300)


@pytest.mark.skipif(not AS_ROOT, reason="only root can forbid user namespaces for a while")
@pytest.mark.skipif(not environment_is_open(), reason="the programs are closed to other users")
def test_runs_as_root_where_user_namespaces_are_forbidden(
    tmp_path: Path, hold: Hold, assert_gone: AssertGone
) -> None:
    databases = hold(tmp_path / "data", [sys.executable, str(HERE / "without_user_namespaces.py")])
    write_one_of_each(databases)
    assert (tmp_path / "data" / "postgres").stat().st_uid != 0
    family = databases.family()
    # The process we know only waits for the supervisor, which is its one child.
    os.kill(psutil.Process(databases.process.pid).children()[0].pid, signal.SIGKILL)
    assert_gone(family, 300)
    # Where they are allowed, root works as the owner it finds.
    with LocalDatabases(tmp_path / "data") as restarted:
        assert_both_kept(restarted)


def test_directory_that_is_not_writable(tmp_path: Path, as_ordinary_user: list[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = subprocess.run(
        [*as_ordinary_user, *hold_command(locked)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"The data directory {locked} cannot be used: ")
    assert "--data-dir" in result.stderr
    assert "Traceback" not in result.stderr


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(LocalError, match="cannot be used: File exists"):
        LocalDatabases(tmp_path / "data").start()


@pytest.mark.parametrize("name", ["x" * 120, "a b?c#d%e,f"], ids=["long", "reserved characters"])
def test_paths_that_no_socket_can_have(tmp_path: Path, name: str) -> None:
    data_dir = tmp_path / name
    with LocalDatabases(data_dir) as databases:
        write_one_of_each(databases)
        assert_both_kept(databases)
        sockets = (data_dir / "run").readlink()
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


def test_socket_directory_of_killed_databases_is_removed(tmp_path: Path, hold: Hold) -> None:
    databases = hold(tmp_path / ("x" * 120))
    sockets = (tmp_path / ("x" * 120) / "run").readlink()
    databases.kill_supervisor()
    assert sockets.exists()
    with LocalDatabases(tmp_path / ("x" * 120)):
        assert not sockets.exists()


def test_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "data" / "postgres.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with LocalDatabases(tmp_path / "data") as databases:
        assert query(databases.database_url, "SELECT 1") == [(1,)]
    assert not unfinished.exists()


def test_broken_postgres_configuration_shows_its_log(tmp_path: Path) -> None:
    with LocalDatabases(tmp_path / "data"):
        pass
    with (tmp_path / "data" / "postgres" / "postgresql.conf").open("a") as configuration:
        configuration.write("nonsense = 1\n")
    with pytest.raises(LocalError, match=r"(?s)PostgreSQL ended before .*\"nonsense\"") as it:
        LocalDatabases(tmp_path / "data").start()
    assert str(tmp_path / "data" / "logs" / "postgres.log") in str(it.value)


def test_broken_valkey_journal_shows_its_log(tmp_path: Path) -> None:
    with LocalDatabases(tmp_path / "data") as databases:
        put(databases.broker_url, "kept")
    (manifest,) = (tmp_path / "data" / "valkey").rglob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(LocalError, match=r"(?s)Valkey ended before .*nonsense"):
        LocalDatabases(tmp_path / "data").start()


def test_data_of_another_postgres_version(tmp_path: Path) -> None:
    with LocalDatabases(tmp_path / "data"):
        pass
    (tmp_path / "data" / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(LocalError, match="was written by PostgreSQL 9, but"):
        LocalDatabases(tmp_path / "data").start()


def test_urls_before_the_start_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not running"):
        _ = LocalDatabases(tmp_path).database_url
