"""What other slices ask about analyses without being analyses' clients themselves."""

from uuid import UUID

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.analyses.tables import UNFINISHED, Analysis
from service.problems import InUse


async def refuse_if_unfinished(session: AsyncSession, needs: ColumnElement[bool]) -> None:
    """Refuse to go on while an unfinished analysis needs the resource.

    Raises:
        InUse: One does; the message names it.
    """
    busy = await session.scalar(
        select(Analysis).where(needs, Analysis.status.in_(UNFINISHED)).limit(1)
    )
    if busy is not None:
        raise InUse(
            f"Analysis {busy.id}, which needs it, is {busy.status}. Wait for it, or cancel it with "
            f"POST /v1/analyses/{busy.id}/cancel."
        )


def of_model(model_id: UUID) -> ColumnElement[bool]:
    """Analyses of a model."""
    return Analysis.model_id == model_id


def of_probe(probe_id: UUID) -> ColumnElement[bool]:
    """Analyses on a probe, or with held-out figures on it."""
    return or_(Analysis.probe_id == probe_id, Analysis.eval_probe_id == probe_id)
