"""`phiscope check-store`: whether every stored file is there, and still what was stored."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from obstore.exceptions import BaseError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.local import LocalDatabases
from service.platform.database import open_engine
from service.platform.settings import Settings
from service.platform.storage import BlobDamagedError, BlobMissingError, BlobStore
from service.usage.blobs import needed

# What refers to a file is written after the file: by an upload soon, by a job within its time.
_SETTLED = timedelta(days=1)


class _Finding(NamedTuple):
    """What is wrong with a blob, in a word, and whom it concerns."""

    fault: str
    sha256: str
    about: str


def check_store(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where data is kept. [default: ~/.local/share/phiscope]"),
    ] = None,
) -> None:
    """Read every stored file, and list those that are damaged, missing or orphaned.

    One line for each; the exit status is 1 if there is any. It changes no stored file, and removes
    what killed uploads left of files that were never stored whole. Uploading the same file once
    more mends a damaged or missing one. Without PHISCOPE_DATABASE_URL it starts the data
    directory's own database, so `phiscope up` must not be running there.
    """
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    counts: Counter[str] = Counter()
    with _engine(settings) as engine:
        try:
            store = BlobStore(settings.blob_url)
            left_behind = store.remove_left_behind()
            for finding in _findings(engine, store):
                counts[finding.fault] += 1
                typer.echo("  ".join(finding))
        except (BaseError, OSError) as error:
            raise ValueError(f"The file store does not answer: {error}") from error
    found = ", ".join(f"{counts[fault]} {fault}" for fault in ("damaged", "missing", "orphaned"))
    typer.echo(f"{found}; {left_behind} unfinished removed", err=True)
    if counts:
        raise typer.Exit(1)


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    if settings.database_url is not None:
        engine = open_engine(settings)
        yield engine
        engine.dispose()
        return
    if not (settings.data_dir / "postgres").is_dir():
        raise ValueError(
            f"{settings.data_dir} holds no database. Name the data directory with --data-dir, or "
            "set PHISCOPE_DATABASE_URL."
        )
    with LocalDatabases(settings.data_dir) as local:
        engine = open_engine(settings.model_copy(update={"database_url": local.database_url}))
        yield engine
        engine.dispose()


def _findings(engine: Engine, store: BlobStore) -> Iterator[_Finding]:
    """Look at a 256th of all blobs at a time, so that their names take no memory to speak of."""
    for start in (f"{number:02x}" for number in range(256)):
        settled = datetime.now(UTC) - _SETTLED
        # Listed before the database is asked: what is stored and referred to later is no orphan.
        old = {blob.sha256: blob for blob in store.list(start) if blob.stored_at < settled}
        users = _users(engine, start)
        for sha256 in sorted(users):
            fault = _fault(store, sha256)
            # Whatever needed it may have been deleted meanwhile, and the file with it.
            if fault is not None and (still := _users(engine, sha256)):
                yield _Finding(fault, sha256, ", ".join(still[sha256]))
        for sha256 in sorted(old.keys() - users.keys()):
            yield _Finding("orphaned", sha256, f"{old[sha256].size_bytes} bytes")


def _users(engine: Engine, start: str) -> dict[str, list[str]]:
    """Return what refers to the blobs whose digests start so, by digest."""
    users: dict[str, list[str]] = {}
    with Session(engine) as session:
        # As a range, which an index finds in any collation: no digest has a g.
        rows = session.execute(needed(lambda column: column.between(start, f"{start}g")))
        for sha256, kind, key, name in rows:
            # As JSON, since a name may hold what a terminal obeys.
            users.setdefault(sha256, []).append(f"{kind} {key} {json.dumps(name)}")
    return users


def _fault(store: BlobStore, sha256: str) -> str | None:
    try:
        store.open_whole(sha256).close()
    except BlobMissingError:
        return "missing"
    except BlobDamagedError:
        return "damaged"
    return None
