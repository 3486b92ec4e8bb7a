from collections.abc import Iterator

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session
from support import ServedApi, served_api

from service.tables.security import Event, Quarantine
from service.tables.workers import Worker


@pytest.fixture(scope="session")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    with served_api(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def api(shared_api: ServedApi) -> ServedApi:
    """An API that knows of no event, no quarantine and no worker."""
    with Session(shared_api.engine) as session, session.begin():
        for table in (Event, Quarantine, Worker):
            session.execute(delete(table))
    return shared_api
