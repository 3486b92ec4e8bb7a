"""Which blobs are still needed: several resources may share the bytes of one."""

from sqlalchemy import func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.concurrency import run_in_threadpool

from service.platform.storage import BlobStore
from service.tables.analyses import Artifact
from service.tables.models import Model
from service.tables.probes import Probe


async def lock(session: AsyncSession, sha256: str) -> None:
    """Keep others from storing or removing this blob until the transaction ends.

    Without it an upload could find its bytes stored already, while a delete that saw no row of
    that upload yet removes them.
    """
    await session.execute(select(func.pg_advisory_xact_lock(int(sha256[:15], 16))))


async def remove_unless_needed(session: AsyncSession, store: BlobStore, sha256: str) -> None:
    """Remove a blob that no live resource refers to. Call under `lock`."""
    needed = union_all(
        select(Model.id).where(Model.sha256 == sha256, Model.deleted_at.is_(None)),
        select(Probe.id).where(Probe.sha256 == sha256, Probe.deleted_at.is_(None)),
        select(Artifact.analysis_id).where(Artifact.sha256 == sha256),
    )
    await session.flush()
    if (await session.execute(needed.limit(1))).first() is None:
        await run_in_threadpool(store.delete, sha256)
