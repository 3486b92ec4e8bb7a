"""Runs the migrations, from the command line or within `phiscope`."""

from alembic import context
from sqlalchemy import Connection

import service.tables.analyses
import service.tables.inspections
import service.tables.jobs
import service.tables.models
import service.tables.probes
import service.tables.security
import service.tables.workers  # noqa: F401 - the imports above register the tables too
from service.platform.database import Base, open_engine
from service.platform.settings import Settings


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
    engine = open_engine(Settings(), patience=None)
    try:
        with engine.connect() as opened:
            _run(opened)
    finally:
        engine.dispose()


run()
