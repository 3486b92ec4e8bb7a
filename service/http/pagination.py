"""Keyset pages: stable while rows are added, and as fast on the last page as on the first.

Newest first is by the database's clock, `created_at`. Ids sort by the clocks of the machines that
made them, which may disagree, so they only part what was made at the same moment.
"""

import base64
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, NamedTuple, Protocol, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

MAX_LIMIT = 200
Item = TypeVar("Item")

_PLACE = struct.Struct("!q16s")
# The beginning keeps the time within the next few thousand years, which databases can write.
_CURSOR = "^A[A-Za-f][A-Za-z0-9_-]{30}$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Listed(Protocol):
    @property
    def id(self) -> UUID: ...

    @property
    def created_at(self) -> datetime: ...


Row = TypeVar("Row", bound=_Listed)
Entry = TypeVar("Entry")


class Place(NamedTuple):
    """Where in a list an entry stands."""

    created_at: datetime
    id: UUID

    @property
    def cursor(self) -> str:
        """The place as clients pass it back."""
        microseconds = (self.created_at - _EPOCH) // _MICROSECOND
        return base64.urlsafe_b64encode(_PLACE.pack(microseconds, self.id.bytes)).decode()

    @classmethod
    def of(cls, cursor: str) -> Self:
        """Read a cursor.

        Raises:
            ValueError: It is not one that we gave out.
        """
        if not re.fullmatch(_CURSOR, cursor):
            raise ValueError(
                "is not one that this version of the API gave out; pass next_cursor of the page "
                "before, or leave it away to start from the newest"
            )
        microseconds, identifier = _PLACE.unpack(base64.urlsafe_b64decode(cursor))
        return cls(_EPOCH + microseconds * _MICROSECOND, UUID(bytes=identifier))


def _check_cursor(cursor: str) -> str:
    Place.of(cursor)
    return cursor


_Cursor = Annotated[
    str, AfterValidator(_check_cursor), Field(json_schema_extra={"pattern": _CURSOR})
]


class Page(BaseModel, Generic[Item]):
    """One page of a list, newest first."""

    items: list[Item]
    next_cursor: str | None = Field(
        description="Pass as `cursor` for the next page; null at the end."
    )


class PageQuery(BaseModel):
    """Which page a client asks for."""

    limit: int = Field(default=50, ge=1, le=MAX_LIMIT, description="Entries a page.")
    cursor: _Cursor | None = Field(default=None, description="`next_cursor` of the page before.")

    def page_of(
        self,
        entries: Select[Entry],
        created_at: InstrumentedAttribute[datetime],
        identifier: InstrumentedAttribute[UUID],
    ) -> Select[Entry]:
        """Of these entries select this page, newest first, and one entry more."""
        if self.cursor is not None:
            place = tuple_(created_at, identifier)
            entries = entries.where(place < tuple_(*Place.of(self.cursor)))
        return entries.order_by(created_at.desc(), identifier.desc()).limit(self.limit + 1)


def split_page(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """Cut `limit + 1` rows into a page and the cursor of the next one."""
    if len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, Place(page[-1].created_at, page[-1].id).cursor
