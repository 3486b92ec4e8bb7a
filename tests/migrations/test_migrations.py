import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, select, text
from sqlalchemy.orm import Session

from service.local.databases import LocalDatabases
from service.platform.migration import SchemaError, alembic_config, check_schema, upgrade
from service.probes.schemas import ProbeRead
from service.tables.probes import Probe

pytestmark = pytest.mark.xdist_group("migrations")


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalDatabases(tmp_path_factory.mktemp("database")) as local:
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


def test_a_probe_from_before_several_inputs_is_still_served(connection: Connection) -> None:
    config = alembic_config(connection)
    command.upgrade(config, "0001")
    connection.execute(
        text(
            "INSERT INTO probes (id, name, version, spec, status, n, input_shape) VALUES "
            "(gen_random_uuid(), 'old', 1, CAST(:spec AS jsonb), 'ready', 9, '[3]')"
        ),
        {"spec": '{"input": "x", "transform": {"scale": 0.5}}'},
    )
    command.upgrade(config, "head")
    with Session(connection) as session:
        probe = ProbeRead.model_validate(session.scalars(select(Probe)).one())
    assert (probe.spec.inputs, probe.input_shape, probe.inputs) == (["x"], [3], None)


def test_migrating_twice_changes_nothing(database_url: str, connection: Connection) -> None:
    engine = create_engine(database_url)
    upgrade(engine)
    upgrade(engine)
    engine.dispose()
    assert "analyses" in inspect(connection).get_table_names()


def run(*arguments: str, database_url: str) -> subprocess.CompletedProcess[str]:
    """Run a part that refuses to start, and does not get to its other settings."""
    environment = {
        **{name: value for name, value in os.environ.items() if "PHISCOPE" not in name},
        "PHISCOPE_DATABASE_URL": database_url,
        "PHISCOPE_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


SERVE, WORKER, MIGRATE = ("service", "serve", "--port", "0"), ("workers",), ("service", "migrate")


@pytest.mark.parametrize(
    ("part", "revision"), [(SERVE, "0001"), (WORKER, None)], ids=["serve: old", "worker: none"]
)
def test_parts_refuse_tables_that_are_not_migrated(
    part: tuple[str, ...], revision: str | None, connection: Connection, database_url: str
) -> None:
    if revision is not None:
        command.upgrade(alembic_config(connection), revision)
        connection.commit()
    ended = run(*part, database_url=database_url)
    assert ended.returncode == 1
    assert "phiscope migrate" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("part", [WORKER, MIGRATE], ids=["worker", "migrate"])
def test_parts_refuse_tables_of_the_future(
    part: tuple[str, ...], connection: Connection, database_url: str
) -> None:
    command.upgrade(alembic_config(connection), "head")
    connection.execute(text("UPDATE alembic_version SET version_num = 'zz99'"))
    connection.commit()
    ended = run(*part, database_url=database_url)
    said = " ".join((ended.stderr + ended.stdout).split())
    assert ended.returncode == 1
    assert "revision zz99" in said
    assert "newer version" in said
    assert "Traceback" not in said


def test_tables_of_this_version_are_in_order(connection: Connection) -> None:
    with pytest.raises(SchemaError, match="phiscope migrate"):
        check_schema(connection)
    command.upgrade(alembic_config(connection), "head")
    check_schema(connection)
