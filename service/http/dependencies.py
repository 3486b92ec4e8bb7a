"""What routes share beside the database session."""

from typing import Annotated

from fastapi import Depends, Request

from service.platform.settings import Settings
from service.platform.storage import BlobStore


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _store(request: Request) -> BlobStore:
    store: BlobStore = request.app.state.store
    return store


AppSettings = Annotated[Settings, Depends(_settings)]
Store = Annotated[BlobStore, Depends(_store)]
