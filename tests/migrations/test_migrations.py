from collections.abc import Iterator

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from service.local.stack import LocalStack
from service.migration import alembic_config, upgrade

pytestmark = pytest.mark.xdist_group("migrations")


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalStack(tmp_path_factory.mktemp("database")) as local:
        yield local.database_url


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url)
    with engine.connect() as opened:
        opened.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        opened.commit()
        yield opened
    engine.dispose()


def test_there_is_one_head(connection: Connection) -> None:
    heads = ScriptDirectory.from_config(alembic_config(connection)).get_heads()
    assert len(heads) == 1


def test_every_migration_goes_up_down_and_up_again(connection: Connection) -> None:
    config = alembic_config(connection)
    revisions = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    for revision in revisions:
        command.upgrade(config, revision.revision)
        command.downgrade(config, "-1")
        command.upgrade(config, revision.revision)
    command.downgrade(config, "base")
    assert set(inspect(connection).get_table_names()) == {"alembic_version"}


def test_migrations_make_exactly_the_tables_of_the_code(connection: Connection) -> None:
    config = alembic_config(connection)
    command.upgrade(config, "head")
    command.check(config)


def test_migrating_twice_changes_nothing(database_url: str, connection: Connection) -> None:
    engine = create_engine(database_url)
    upgrade(engine)
    upgrade(engine)
    engine.dispose()
    assert "analyses" in inspect(connection).get_table_names()
