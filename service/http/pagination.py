"""Keyset pages: stable while rows are added, and as fast on the last page as on the first."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from service.http.problems import InvalidRequest

MAX_LIMIT = 200
Item = TypeVar("Item")


class _Identified(Protocol):
    @property
    def id(self) -> UUID: ...


Row = TypeVar("Row", bound=_Identified)


class Page(BaseModel, Generic[Item]):
    """One page of a list, newest first."""

    items: list[Item]
    next_cursor: str | None = Field(
        description="Pass as `cursor` for the next page; null at the end."
    )


class PageQuery(BaseModel):
    """Which page a client asks for."""

    limit: int = Field(default=50, ge=1, le=MAX_LIMIT, description="Entries a page.")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before.")

    @property
    def before(self) -> UUID | None:
        """The id that the page's entries come after in the list (ids sort by time of making).

        Raises:
            InvalidRequest: The cursor is not one that we gave out.
        """
        if self.cursor is None:
            return None
        try:
            return UUID(bytes=base64.urlsafe_b64decode(self.cursor.encode()))
        except (ValueError, binascii.Error):
            raise InvalidRequest(
                "cursor is not one that this API gave out; pass next_cursor of the page before, "
                "or leave it away to start from the newest."
            ) from None


PageParameters = Annotated[PageQuery, Query()]


def split_page(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """Cut `limit + 1` rows into a page and the cursor of the next one."""
    if len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, base64.urlsafe_b64encode(page[-1].id.bytes).decode()
