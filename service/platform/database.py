"""Connections to PostgreSQL: engines, sessions, and the transaction around each request."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVarTuple
from uuid import UUID

import uuid_utils.compat
from fastapi import Depends, Request
from sqlalchemy import DateTime, Engine, MetaData, Select, create_engine, event, func
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.platform.settings import Settings

# A request or a worker that has to wait this long for its connection fails, instead of piling up.
CONNECT_SECONDS = 10

Selected = TypeVarTuple("Selected")

AWAY: tuple[type[SQLAlchemyError], ...] = (
    OperationalError,
    InterfaceError,
    InternalError,
    PoolTimeoutError,
)
"""What is raised while the database is gone, read-only, overloaded or too slow.

None of it says anything of the statement, which may succeed when it is tried again.
"""

# A connection that a dead machine or a firewall cut off is noticed within half a minute.
CONNECTION_ARGUMENTS: dict[str, int] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class Patience(NamedTuple):
    """How long PostgreSQL lets a session go on, in milliseconds, before it ends the statement.

    Attributes:
        statement: For one statement.
        lock: For a lock that another session holds.
        idle: Between two statements of one transaction, whose locks others wait for.
    """

    statement: int
    lock: int
    idle: int


_OF_REQUESTS = Patience(statement=15_000, lock=2_000, idle=30_000)
_OF_WORKERS = Patience(statement=60_000, lock=10_000, idle=60_000)


class Base(DeclarativeBase):
    """Base of all tables. Constraint names are spelled out so that migrations can name them."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}


def new_id() -> UUID:
    """Make a UUIDv7: rows that are made one after another lie together in the index."""
    return uuid_utils.compat.uuid7()


RowLock = Literal["none", "share", "update"]
"""How rows that are read are locked until the transaction ends.

share: against deletion, by all who are about to refer to them. update: by whoever deletes them.
"""


def locked(statement: Select[*Selected], lock: RowLock) -> Select[*Selected]:
    """Have a query lock the rows that it finds.

    One that waits for a lock sees the rows as they are then; those deleted meanwhile are not found.
    """
    if lock == "none":
        return statement
    return statement.with_for_update(read=lock == "share")


class Identified:
    """Columns of every resource that clients address: an id, and when it was made."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def require_database_url(settings: Settings) -> str:
    """Return the database's URL.

    Raises:
        ValueError: None is set.
    """
    if settings.database_url is None:
        raise ValueError(
            "PHISCOPE_DATABASE_URL is not set; expected e.g. postgresql+psycopg://user@host/phiscope."
            " `phiscope up` starts a database of its own."
        )
    return settings.database_url


def open_engine(settings: Settings, *, patience: Patience | None = _OF_WORKERS) -> Engine:
    """Open the workers' synchronous engine.

    Args:
        settings: Where the database is.
        patience: How long statements may take; None: without end, for migrations of large tables.
    """
    engine = create_engine(
        require_database_url(settings),
        pool_size=settings.database_pool_size,
        pool_pre_ping=True,
        connect_args=CONNECTION_ARGUMENTS,
    )
    if patience is not None:
        _limit(engine, patience)
    return engine


def open_async_engine(settings: Settings) -> AsyncEngine:
    """Open the API's asynchronous engine."""
    engine = create_async_engine(
        require_database_url(settings),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        connect_args=CONNECTION_ARGUMENTS,
    )
    _limit(engine.sync_engine, _OF_REQUESTS)
    return engine


def _limit(engine: Engine, patience: Patience) -> None:
    """Have each new session of an engine say how long it may take.

    As statements, not as start-up parameters, which connection poolers such as PgBouncer refuse.
    """

    @event.listens_for(engine, "connect")
    def limit(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET statement_timeout = {patience.statement}")
        cursor.execute(f"SET lock_timeout = {patience.lock}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {patience.idle}")
        cursor.close()
        connection.commit()


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Give a request its one transaction: committed when the route returns, else rolled back."""
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    async with sessions.begin() as session:
        yield session


# Scope "function": the commit has happened, or failed, before the response is sent.
Session = Annotated[AsyncSession, Depends(open_session, scope="function")]
