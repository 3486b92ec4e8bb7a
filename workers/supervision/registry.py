"""The worker's entry among those that are there: written, renewed, and taken back at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service import __version__
from service.tables.workers import Device, Worker
from workers.supervision.background import BackgroundThread

# Several times within the minute after which silence counts as death.
_BEAT_SECONDS = 10.0
# An entry is of use for a while after its worker died, to whoever looks for the reason.
_FORGET_AFTER = timedelta(days=1)
# How long the end of the process waits for a database that does not answer.
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Description:
    """What a worker says of itself.

    Args:
        name: How it signs its claims.
        device: What its jobs compute on.
        landlock: Version of its kernel's Landlock; 0 for none.
        slots: Jobs that it runs at once.
    """

    name: str
    device: Device
    landlock: int
    slots: int


class Registry(BackgroundThread):
    """Says again and again, in the background of a worker process, that it is there.

    Args:
        engine: The database. While it is away the entry grows old; then it is renewed.
        description: The worker.
        beat_seconds: How often.
    """

    def __init__(
        self, engine: Engine, description: Description, beat_seconds: float = _BEAT_SECONDS
    ) -> None:
        super().__init__("registry")
        self._engine = engine
        self._description = description
        self._beat_seconds = beat_seconds
        self._started_at = datetime.now(UTC)

    def stop(self) -> None:
        """Take the entry back and end, or give up after some seconds without a database."""
        self.stopping.set()
        if self.is_alive():
            self.join(_STOP_SECONDS)

    def work(self) -> None:
        """Renew the entry, and wait until it is time for the next; at the end take it back."""
        self._change(self.renew)
        if self.stopping.wait(self._beat_seconds):
            self._change(self.remove)

    def renew(self, session: Session) -> None:
        """Write the entry, or say in it that the worker is still there; drop those long dead."""
        entry = {
            "device": self._description.device,
            "landlock": self._description.landlock,
            "slots": self._description.slots,
            "version": __version__,
            "started_at": self._started_at,
            "seen_at": func.now(),
        }
        session.execute(
            insert(Worker)
            .values(name=self._description.name, **entry)
            .on_conflict_do_update(index_elements=[Worker.name], set_=entry)
        )
        session.execute(delete(Worker).where(Worker.seen_at < func.now() - _FORGET_AFTER))

    def remove(self, session: Session) -> None:
        """Take the entry back."""
        session.execute(delete(Worker).where(Worker.name == self._description.name))

    def _change(self, change: Callable[[Session], None]) -> None:
        with Session(self._engine) as session, session.begin():
            change(session)
