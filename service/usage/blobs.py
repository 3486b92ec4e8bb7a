"""Which blobs are still needed: several resources may share the bytes of one."""

from collections.abc import Callable

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    SQLColumnExpression,
    String,
    cast,
    literal,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.concurrency import run_in_threadpool

from service.platform.storage import BlobStore
from service.tables.analyses import Artifact
from service.tables.blobs import lock_of
from service.tables.models import Model
from service.tables.probes import Probe


async def lock(session: AsyncSession, sha256: str) -> None:
    """Keep others from storing or removing this blob until the transaction ends."""
    await session.execute(lock_of(sha256))


def needed(
    which: Callable[[SQLColumnExpression[str | None]], ColumnElement[bool]],
) -> CompoundSelect[str, str, str, str]:
    """Select the blobs that live resources refer to, once for each of them.

    Args:
        which: Whether a digest is among those looked for.

    Returns:
        The digest; then what refers to it: its kind, its id and its name.
    """
    return union_all(
        select(Model.sha256, literal("model"), cast(Model.id, String), Model.name).where(
            which(Model.sha256), Model.deleted_at.is_(None)
        ),
        select(Probe.sha256, literal("probe"), cast(Probe.id, String), Probe.name).where(
            which(Probe.sha256), Probe.deleted_at.is_(None)
        ),
        select(
            Artifact.sha256,
            literal("artifact of analysis"),
            cast(Artifact.analysis_id, String),
            Artifact.name,
        ).where(which(Artifact.sha256)),
    )


async def remove_unless_needed(session: AsyncSession, store: BlobStore, sha256: str) -> None:
    """Remove a blob that no live resource refers to. Call under `lock`."""
    await session.flush()
    found = await session.execute(needed(lambda column: column == sha256).limit(1))
    if found.first() is None:
        await run_in_threadpool(store.delete, sha256)
