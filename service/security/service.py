"""What may be done with quarantines, and what is told of security events."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from service.contract.security_events import SecurityEvent
from service.http.problems import NotFound
from service.security import repository
from service.tables.security import Quarantine


class Counts(NamedTuple):
    """How much has happened.

    Attributes:
        events: How often each event has.
        quarantined: Files that are quarantined now.
    """

    events: dict[SecurityEvent, int]
    quarantined: int


async def get(session: AsyncSession, sha256: str) -> Quarantine:
    """Return the quarantine of a file.

    Raises:
        NotFound: It is not quarantined.
    """
    quarantine = await repository.find_quarantine(session, sha256)
    if quarantine is None:
        raise _not_quarantined(sha256)
    return quarantine


async def release(session: AsyncSession, sha256: str) -> None:
    """Let jobs open a file again.

    Raises:
        NotFound: It is not quarantined.
    """
    if not await repository.release(session, sha256):
        raise _not_quarantined(sha256)


def _not_quarantined(sha256: str) -> NotFound:
    return NotFound(
        f"No file of SHA-256 {sha256} is quarantined. GET /v1/quarantines lists those that are."
    )


async def count(session: AsyncSession) -> Counts:
    """Return how often each event has happened, those that never did among them."""
    found = await repository.count_events(session)
    events = {event: found.get(event, 0) for event in SecurityEvent}
    return Counts(events, await repository.count_quarantines(session))
