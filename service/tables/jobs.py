"""The table of jobs: outbox and lease in one row."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from service.platform.database import Base, Identified


class JobKind(StrEnum):
    """What a job does."""

    ANALYSIS = "analysis"
    PROBE = "probe"
    INSPECTION = "inspection"


class JobState(StrEnum):
    """Where a job stands in the queue. The outcome is kept with its subject, not here."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Job(Identified, Base):
    """Work to be done on one analysis, probe or inspection.

    The row commits together with its subject, and a relay publishes its id to the broker
    (`published_at` is null until then): that makes it the outbox. A worker claims it by raising
    `attempt` and setting `lease_until`; whatever it writes later names that attempt, so a worker
    that lost its lease can write nothing: that makes it lease and fence.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'done')", name="state"),
        CheckConstraint("kind IN ('analysis', 'probe', 'inspection')", name="kind"),
        Index("ix_jobs_open", "state", "priority", "id", postgresql_where=text("state <> 'done'")),
        Index(
            "ix_jobs_unpublished",
            "priority",
            "created_at",
            "id",
            postgresql_where=text("state = 'queued' AND published_at IS NULL"),
        ),
        Index("ix_jobs_subject_id", "subject_id"),
    )

    kind: Mapped[str]
    subject_id: Mapped[UUID]
    queue: Mapped[str]
    priority: Mapped[int]
    state: Mapped[str] = mapped_column(server_default=JobState.QUEUED)
    # Since when nothing but the relay has kept it from being published.
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempt: Mapped[int] = mapped_column(server_default="0")
    published_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
