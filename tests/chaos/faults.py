"""What can go wrong with `phiscope up`: a part is killed, stopped or cut off, the disk is full."""

import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import psutil
import psycopg
import redis
from support import fill

from service.platform.notifications import conninfo_of
from tests.chaos.links import Link
from tests.chaos.product import Product

WORKER, API = r"-m workers$", r"-m service serve"
WARM_PARENT, POSTMASTER, BROKER = r"workers\.child\.warm_parent", r"postgres .*-D", r"valkey-server"

_LINKS: Mapping[str, Callable[[Product], Link | None]] = {
    "database": lambda product: product.database,
    "broker": lambda product: product.broker,
}

_T = TypeVar("_T")

Fault = Callable[[Product, float], None]
"""Makes something go wrong; for so many seconds, where it can last."""


def processes(product: Product, pattern: str) -> list[psutil.Process]:
    """The product's processes whose command line matches, parents before their children."""
    found = []
    for process in psutil.Process(product.process.pid).children(recursive=True):
        try:
            if re.search(pattern, " ".join(process.cmdline())):
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def urls_of(product: Product) -> tuple[str, str]:
    """Addresses of database and broker, as the API has them."""
    while True:
        for process in processes(product, API):
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if "PHISCOPE_BROKER_URL" in environment:
                return environment["PHISCOPE_DATABASE_URL"], environment["PHISCOPE_BROKER_URL"]
        time.sleep(0.05)


@contextmanager
def _broker(product: Product) -> Iterator[redis.Redis]:
    url = urls_of(product)[1].replace("redis+socket://", "unix://", 1)
    with redis.Redis.from_url(url.replace("virtual_host=", "db=", 1)) as connection:
        _insist(connection.ping)
        yield connection


@contextmanager
def _database(product: Product) -> Iterator[psycopg.Connection]:
    conninfo = conninfo_of(urls_of(product)[0])
    with _insist(lambda: psycopg.connect(conninfo, autocommit=True)) as connection:
        yield connection


def _insist(ask: Callable[[], _T]) -> _T:
    """Ask until there is an answer: the fault before may have killed the server that is asked."""
    while True:
        try:
            return ask()
        except (redis.ConnectionError, psycopg.OperationalError):
            time.sleep(0.1)


def _kill(pattern: str) -> Fault:
    def kill(product: Product, _seconds: float) -> None:
        for process in processes(product, pattern)[:1]:
            process.send_signal(signal.SIGKILL)

    return kill


def _suspend(pattern: str) -> Fault:
    def suspend(product: Product, seconds: float) -> None:
        for process in processes(product, pattern)[:1]:
            process.suspend()
            time.sleep(seconds)
            process.resume()

    return suspend


def _kill_child(product: Product, _seconds: float) -> None:
    for parent in processes(product, WARM_PARENT):
        for child in parent.children():
            child.send_signal(signal.SIGKILL)


def _cut_connections(product: Product, _seconds: float) -> None:
    with _database(product) as database:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )


def _make_read_only(product: Product, seconds: float) -> None:
    with _database(product) as database:
        database.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        database.execute("SELECT pg_reload_conf()")
        time.sleep(seconds)
        database.execute("SET default_transaction_read_only = off")
        database.execute("ALTER SYSTEM RESET default_transaction_read_only")
        database.execute("SELECT pg_reload_conf()")


def _lose_messages(product: Product, _seconds: float) -> None:
    with _broker(product) as broker:
        broker.flushall()


def _make_replica(product: Product, seconds: float) -> None:
    with _broker(product) as broker:
        broker.replicaof("127.0.0.1", 1)
        time.sleep(seconds)
        broker.replicaof("NO", "ONE")


def _fill_disk(product: Product, seconds: float) -> None:
    ballast = product.disk / "ballast"
    # Nobody fills the disk of the machine.
    if product.small:
        fill(ballast)
        time.sleep(seconds)
        ballast.unlink()


def _restart(number: signal.Signals) -> Fault:
    def restart(product: Product, _seconds: float) -> None:
        product.end(number)
        product.start()

    return restart


def _harm(link_of: Callable[[Product], Link | None], harm: str) -> Fault:
    def bring_about(product: Product, seconds: float) -> None:
        link = link_of(product)
        assert link is not None
        link.delay = 0.2 if harm == "slow" else 0
        link.is_silent, link.is_closed = harm == "silent", harm == "closed"
        if harm in {"cut", "closed"}:
            link.cut()
        time.sleep(seconds)
        link.delay, link.is_silent, link.is_closed = 0, False, False

    return bring_about


def _end_without_broker(product: Product, seconds: float) -> None:
    assert product.broker is not None
    product.broker.is_silent = True
    time.sleep(seconds)
    product.end(signal.SIGTERM)
    product.broker.is_silent = False
    product.start()


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
    "disk full": _fill_disk,
    "all ended": _restart(signal.SIGTERM),
    "all killed": _restart(signal.SIGKILL),
}
"""By name."""

LINK_FAULTS: Mapping[str, Fault] = {
    f"link to the {name} {harm}": _harm(link_of, harm)
    for name, link_of in _LINKS.items()
    for harm in ("slow", "silent", "cut", "closed")
} | {"all ended, link to the broker silent": _end_without_broker}
"""By name, those that need databases behind links."""
