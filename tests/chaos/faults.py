"""What goes wrong, on a stack that `phiscope up` runs: parts are killed, stopped, cut off."""

import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psutil
import psycopg
import redis
from support import Stack

from service.platform.notifications import conninfo_of

WORKER, API = r"-m workers$", r"-m service serve"
WARM_PARENT, POSTMASTER, BROKER = r"workers\.child\.warm_parent", r"postgres .*-D", r"valkey-server"

Fault = Callable[[Stack, float], None]
"""Brings something about, lasting for so many seconds where it can last."""


def processes(stack: Stack, pattern: str) -> list[psutil.Process]:
    """The stack's processes whose command line matches, parents before their children."""
    found = []
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        try:
            if re.search(pattern, " ".join(process.cmdline())):
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def urls_of(stack: Stack) -> tuple[str, str]:
    """Addresses of database and broker, as the API has them."""
    while True:
        for process in processes(stack, API):
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if "PHISCOPE_BROKER_URL" in environment:
                return environment["PHISCOPE_DATABASE_URL"], environment["PHISCOPE_BROKER_URL"]
        time.sleep(0.05)


@contextmanager
def _broker(stack: Stack) -> Iterator[redis.Redis]:
    url = urls_of(stack)[1].replace("redis+socket://", "unix://", 1)
    with redis.Redis.from_url(url.replace("virtual_host=", "db=", 1)) as connection:
        yield connection


@contextmanager
def _database(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(conninfo_of(urls_of(stack)[0]), autocommit=True) as connection:
        yield connection


def _kill(pattern: str) -> Fault:
    def kill(stack: Stack, _seconds: float) -> None:
        for process in processes(stack, pattern)[:1]:
            process.send_signal(signal.SIGKILL)

    return kill


def _suspend(pattern: str) -> Fault:
    def suspend(stack: Stack, seconds: float) -> None:
        for process in processes(stack, pattern)[:1]:
            process.suspend()
            time.sleep(seconds)
            process.resume()

    return suspend


def _kill_child(stack: Stack, _seconds: float) -> None:
    for parent in processes(stack, WARM_PARENT):
        for child in parent.children():
            child.send_signal(signal.SIGKILL)


def _cut_connections(stack: Stack, _seconds: float) -> None:
    with _database(stack) as database:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )


def _make_read_only(stack: Stack, seconds: float) -> None:
    with _database(stack) as database:
        database.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        database.execute("SELECT pg_reload_conf()")
        time.sleep(seconds)
        database.execute("SET default_transaction_read_only = off")
        database.execute("ALTER SYSTEM RESET default_transaction_read_only")
        database.execute("SELECT pg_reload_conf()")


def _lose_messages(stack: Stack, _seconds: float) -> None:
    with _broker(stack) as broker:
        broker.flushall()


def _make_replica(stack: Stack, seconds: float) -> None:
    with _broker(stack) as broker:
        broker.replicaof("127.0.0.1", 1)
        time.sleep(seconds)
        broker.replicaof("NO", "ONE")


FAULTS: Mapping[str, Fault] = {
    "worker killed": _kill(WORKER),
    "worker stopped": _suspend(WORKER),
    "warm parent killed": _kill(WARM_PARENT),
    "child killed": _kill_child,
    "API killed": _kill(API),
    "API stopped": _suspend(API),
    "postmaster killed": _kill(POSTMASTER),
    "postmaster stopped": _suspend(POSTMASTER),
    "database connections cut": _cut_connections,
    "database read-only": _make_read_only,
    "broker killed": _kill(BROKER),
    "broker hung": _suspend(BROKER),
    "broker lost its data": _lose_messages,
    "broker a replica": _make_replica,
}
"""By name. Not among them, yet: a full disk, delayed connections, and the end of `up` itself."""
