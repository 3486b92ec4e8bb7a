"""What routes share beside the database session that commits."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from service.platform.settings import Settings
from service.platform.storage import BlobStore


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _store(request: Request) -> BlobStore:
    store: BlobStore = request.app.state.store
    return store


async def _reading(request: Request) -> AsyncIterator[AsyncSession]:
    sessions: async_sessionmaker[AsyncSession] = request.app.state.reading
    async with sessions() as session:
        yield session


AppSettings = Annotated[Settings, Depends(_settings)]
Store = Annotated[BlobStore, Depends(_store)]
# Each statement by itself, without a transaction; given back before the response is sent.
ReadSession = Annotated[AsyncSession, Depends(_reading, scope="function")]
