"""Runs the migrations, from the command line or within `phiscope`."""

from alembic import context
from sqlalchemy import Connection

import service.analyses.tables
import service.inspections.tables
import service.jobs.tables
import service.models.tables
import service.probes.tables
import service.security.tables
import service.workers.tables  # noqa: F401 - the imports above register the tables too
from service.database import Base, open_engine
from service.settings import Settings


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
    )
    with context.begin_transaction():
        # Several processes may start at once; the first one migrates, the others find it done.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1885825380)")
        context.run_migrations()


def run() -> None:
    """Use the caller's connection where it gave one (tests do), else the configured database."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    engine = open_engine(Settings())
    try:
        with engine.connect() as opened:
            _run(opened)
    finally:
        engine.dispose()


run()
