"""The tables of security events and quarantines."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Select, String, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.platform.database import Base, Identified, new_id


class Event(Identified, Base):
    """Something that an operator has to know of. Written once, never changed.

    It names its job, and refers to nothing: it outlives whatever is deleted.
    """

    __tablename__ = "security_events"
    __table_args__ = (
        CheckConstraint(
            "event IN ('policy_violation', 'untrusted_result', 'crashed', 'not_confined', "
            "'quarantined', 'released')",
            name="event",
        ),
        Index("ix_security_events_created_at", "created_at", "id"),
        Index("ix_security_events_sha256", "sha256", "created_at", "id"),
        Index("ix_security_events_event", "event", "created_at", "id"),
    )

    # The time of the write, not of the transaction's begin: since events are written under the
    # lock of their file, it shows which of them came after the last release.
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    event: Mapped[str]
    sha256: Mapped[str | None] = mapped_column(String(64), comment="The file to blame.")
    digests: Mapped[dict[str, str]] = mapped_column(
        JSONB, comment="SHA-256 of every file of the job, by what it is."
    )
    job_id: Mapped[UUID | None]
    kind: Mapped[str | None]
    subject_id: Mapped[UUID | None]
    attempt: Mapped[int | None]
    worker: Mapped[str | None]
    message: Mapped[str]


class Quarantine(Base):
    """A file that no job opens."""

    __tablename__ = "quarantines"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Parts what was quarantined at the same moment, for pages of the list.
    id: Mapped[UUID] = mapped_column(default=new_id, unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    strikes: Mapped[int]
    reason: Mapped[str]


def lock_of(sha256: str) -> Select[tuple[None]]:
    """Lock the counting and releasing of this file's strikes until the transaction ends."""
    return select(func.pg_advisory_xact_lock(func.hashtextextended(f"quarantine {sha256}", 0)))
