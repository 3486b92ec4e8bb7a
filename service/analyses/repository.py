"""All SQL about analyses, from the API's side."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from service.analyses.schemas import AnalysisQuery
from service.platform.notifications import ANALYSES_CHANNEL
from service.tables.analyses import UNFINISHED, Analysis, Artifact, IdempotencyKey, Report, Status

# Written once: they are the hot ones, and an array is one parameter however many ids there are.
_IDS = any_(bindparam("ids", type_=ARRAY(Uuid)))
_THESE_ANALYSES = (
    select(Analysis).where(Analysis.id == _IDS).execution_options(populate_existing=True)
)
_DIGESTS = select(Report.__table__.c.analysis_id, Report.__table__.c.sha256).where(
    Report.__table__.c.analysis_id == _IDS
)


async def find(session: AsyncSession, analysis_id: UUID) -> Analysis | None:
    """Return an analysis."""
    return await session.get(Analysis, analysis_id, populate_existing=True)


async def find_all(session: AsyncSession, ids: Collection[UUID]) -> Mapping[UUID, Analysis]:
    """Return those of these analyses that there are."""
    found = await session.scalars(_THESE_ANALYSES, {"ids": list(ids)})
    return {analysis.id: analysis for analysis in found}


async def find_succeeded(session: AsyncSession, fingerprint: str) -> Analysis | None:
    """Return a finished analysis that would have the same report."""
    return await session.scalar(
        select(Analysis)
        .where(Analysis.fingerprint == fingerprint, Analysis.status == Status.SUCCEEDED)
        .order_by(Analysis.id)
        .limit(1)
    )


async def list_page(
    session: AsyncSession, query: AnalysisQuery, probe_id: UUID | None
) -> Sequence[Analysis]:
    """Return one entry more than the page holds, newest first."""
    statement = select(Analysis)
    for column, value in (
        (Analysis.status, query.status),
        (Analysis.model_id, query.model),
        (Analysis.probe_id, probe_id),
        (Analysis.regime, query.regime),
    ):
        if value is not None:
            statement = statement.where(column == value)
    page = query.page_of(statement, Analysis.created_at, Analysis.id)
    return (await session.scalars(page)).all()


async def reserve_key(
    session: AsyncSession, key: str, request_sha256: str, analysis_id: UUID
) -> IdempotencyKey | None:
    """Claim an idempotency key for an analysis.

    A second request with the key waits here until the first one has committed.

    Returns:
        None, or the earlier use of the key.
    """
    claimed = await session.execute(
        insert(IdempotencyKey)
        .values(key=key, request_sha256=request_sha256, analysis_id=analysis_id)
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.key)
    )
    if claimed.first() is not None:
        return None
    return await session.get_one(IdempotencyKey, key)


async def point_key(session: AsyncSession, key: str, analysis_id: UUID) -> None:
    """Let a key that was just claimed stand for another analysis."""
    await session.execute(
        update(IdempotencyKey).where(IdempotencyKey.key == key).values(analysis_id=analysis_id)
    )


async def cancel(session: AsyncSession, analysis_id: UUID) -> None:
    """Mark an analysis cancelled unless it has ended, and wake whoever waits for it."""
    await session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id, Analysis.status.in_(UNFINISHED))
        .values(status=Status.CANCELLED, finished_at=func.now())
    )
    await session.execute(select(func.pg_notify(ANALYSES_CHANNEL, str(analysis_id))))


async def find_report(session: AsyncSession, analysis_id: UUID) -> tuple[str, str] | None:
    """Return a report's text, exactly as written, and its digest."""
    row = (
        await session.execute(
            select(Report.document, Report.sha256).where(Report.analysis_id == analysis_id)
        )
    ).first()
    return None if row is None else (row[0], row[1])


async def find_digests(session: AsyncSession, ids: Collection[UUID]) -> Mapping[UUID, str]:
    """Return the digests of those of these analyses' reports that there are."""
    rows = await session.execute(_DIGESTS, {"ids": list(ids)})
    return dict(rows.all())


async def list_artifacts(session: AsyncSession, analysis_id: UUID) -> Sequence[Artifact]:
    """Return an analysis' artifacts by name."""
    return (
        await session.scalars(
            select(Artifact).where(Artifact.analysis_id == analysis_id).order_by(Artifact.name)
        )
    ).all()
