"""While a child works: shows its progress, keeps the lease, and notices that the job was lost."""

import threading
import time

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.contract.progress import Progress as ShownProgress
from service.platform.database import AWAY
from service.platform.settings import Settings
from workers.protocol.progress import Progress
from workers.supervision import leases
from workers.supervision.kinds.catalogue import KINDS
from workers.supervision.leases import Lease

# A cancelled job is noticed within this, and the child is gone soon after.
_LOOK_SECONDS = 1.0


class Ticker:
    """Called by the runner again and again, for one job.

    Args:
        engine: The database. While it is away, the job goes on until its lease has run out.
        lease: The job's.
        settings: How long a lease lasts.
        stopping: Set when the worker is to end.
    """

    def __init__(
        self, engine: Engine, lease: Lease, settings: Settings, stopping: threading.Event
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._seconds = settings.lease_seconds
        self._stopping = stopping
        self._renewed_at = time.monotonic()
        self._looked_at = self._renewed_at
        self._shown: ShownProgress | None = None

    def __call__(self, progress: Progress | None) -> bool:
        """Return whether the job is to go on."""
        if progress is None:
            return self.show(None)
        return self.show(
            ShownProgress(stage=progress.stage.label, done=progress.done, total=progress.total)
        )

    def show(self, progress: ShownProgress | None) -> bool:
        """Return whether the job is to go on, and show clients how far it is."""
        if self._stopping.is_set():
            return False
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS and not _is_new_stage(progress, self._shown):
            return True
        self._looked_at = now
        try:
            held = self._renew(progress)
        except AWAY:
            # The database may come back before the lease has run out.
            return now - self._renewed_at < self._seconds
        self._renewed_at = now
        return held

    def _renew(self, progress: ShownProgress | None) -> bool:
        with Session(self._engine) as session, session.begin():
            if not leases.renew(session, self._lease, self._seconds):
                return False
            if progress is not None and progress != self._shown:
                KINDS[self._lease.kind].progressed(session, self._lease.subject_id, progress)
                self._shown = progress
        return True


def _is_new_stage(progress: ShownProgress | None, shown: ShownProgress | None) -> bool:
    return progress is not None and (shown is None or progress.stage != shown.stage)
