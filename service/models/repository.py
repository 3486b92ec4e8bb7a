"""All SQL about models."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.models.schemas import ModelFields, ModelQuery
from service.platform.database import RowLock, locked
from service.tables.models import Model


async def find(session: AsyncSession, model_id: UUID, lock: RowLock = "none") -> Model | None:
    """Return a model that has not been deleted."""
    found = select(Model).where(Model.id == model_id, Model.deleted_at.is_(None))
    return await session.scalar(locked(found, lock))


async def find_same(session: AsyncSession, fields: ModelFields, sha256: str) -> Model | None:
    """Return the model of the same bytes under the same name, run and step."""
    return await session.scalar(
        select(Model).where(
            Model.name == fields.name,
            Model.run.is_not_distinct_from(fields.run),
            Model.step.is_not_distinct_from(fields.step),
            Model.sha256 == sha256,
            Model.deleted_at.is_(None),
        )
    )


async def list_page(session: AsyncSession, query: ModelQuery) -> Sequence[Model]:
    """Return one entry more than the page holds, newest first."""
    statement = select(Model).where(Model.deleted_at.is_(None))
    for column, value in (
        (Model.name, query.name),
        (Model.run, query.run),
        (Model.sha256, query.sha256),
    ):
        if value is not None:
            statement = statement.where(column == value)
    page = query.page_of(statement, Model.created_at, Model.id)
    return (await session.scalars(page)).all()


async def mark_deleted(session: AsyncSession, model_id: UUID) -> None:
    """Take a model out of sight; reports that name it stay."""
    await session.execute(update(Model).where(Model.id == model_id).values(deleted_at=func.now()))
