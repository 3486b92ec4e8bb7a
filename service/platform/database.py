"""Connections to PostgreSQL: engines, sessions, and the transaction around each request."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

import uuid_utils.compat
from fastapi import Depends, Request
from sqlalchemy import DateTime, Engine, MetaData, create_engine, func
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
    """Make a UUIDv7: ids sort by the time they were made, so lists page by id alone."""
    return uuid_utils.compat.uuid7()


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


def open_engine(settings: Settings) -> Engine:
    """Open the workers' synchronous engine."""
    return create_engine(
        require_database_url(settings),
        pool_size=settings.database_pool_size,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_SECONDS},
    )


def open_async_engine(settings: Settings) -> AsyncEngine:
    """Open the API's asynchronous engine."""
    return create_async_engine(
        require_database_url(settings),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_SECONDS},
    )


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Give a request its one transaction: committed when the route returns, else rolled back."""
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    async with sessions.begin() as session:
        yield session


# Scope "function": the commit has happened, or failed, before the response is sent.
Session = Annotated[AsyncSession, Depends(open_session, scope="function")]
