from pathlib import Path

import pytest
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from service.tables.security import Event, Quarantine
from tests.workers.supervision.bench import Bench


@pytest.fixture
def bench(shared_engine: Engine, tmp_path: Path) -> Bench:
    with Session(shared_engine) as session, session.begin():
        session.execute(delete(Event))
        session.execute(delete(Quarantine))
    return Bench(shared_engine, tmp_path)
