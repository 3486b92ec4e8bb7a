"""What other slices ask about analyses without being analyses' clients themselves."""

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.http.problems import InUse
from service.tables.analyses import UNFINISHED, Analysis


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
