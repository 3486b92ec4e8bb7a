"""Bringing the database to the version that this code expects."""

from functools import cache
from importlib.resources import files

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from service import __version__
from service.platform.database import AWAY, open_engine
from service.platform.settings import Settings

log = structlog.get_logger()


class SchemaError(ValueError):
    """The tables in the database are not those that this version works with."""


def alembic_config(connection: Connection | None = None) -> Config:
    """Configure Alembic for a connection, with the migrations that are installed beside us."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def check_schema(connection: Connection) -> None:
    """Make sure that the tables are those that this version works with.

    Raises:
        SchemaError: They are older or newer; the message says what to do.
    """
    expected, *_ = _revisions()
    found = _refuse_newer(connection)
    if found is None:
        raise SchemaError("The database has no tables of Phiscope's yet. Run: phiscope migrate")
    if found != expected:
        raise SchemaError(
            f"The database's tables are of revision {found}; Phiscope {__version__} works with "
            f"{expected}. Run: phiscope migrate"
        )


def refuse_other_schema(settings: Settings) -> None:
    """Check the schema before anything starts; a database that is away is waited for later.

    Raises:
        SchemaError: The tables are not those of this version.
    """
    engine = open_engine(settings)
    try:
        with engine.connect() as connection:
            check_schema(connection)
    except AWAY as error:
        log.warning("database away", error=str(error).partition("\n")[0])
    finally:
        engine.dispose()


def _refuse_newer(connection: Connection) -> str | None:
    """Return the revision of the tables, None if there are none, unless it is one of the future."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in _revisions():
        raise SchemaError(
            f"The database's tables are of revision {found}, which Phiscope {__version__} does not "
            "know: a newer version has migrated them. Run that version, or restore a backup."
        )
    return found


@cache
def _revisions() -> tuple[str, ...]:
    """Return all revisions that this version knows, the newest first."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return tuple(each.revision for each in scripts.walk_revisions())


def upgrade(engine: Engine) -> None:
    """Run the migrations that have not run yet. Safe to call from several processes at once.

    Raises:
        SchemaError: A newer version has migrated the database.
    """
    with engine.connect() as connection:
        _refuse_newer(connection)
        command.upgrade(alembic_config(connection), "head")
        connection.commit()
