"""The table of inspections."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.platform.database import Base, Identified


class InspectionStatus(StrEnum):
    """Where an inspection stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Inspection(Identified, Base):
    """One look into a model. It is made when it is first asked for, and goes with its model."""

    __tablename__ = "inspections"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed')", name="status"),
        Index("ix_inspections_model_id", "model_id"),
    )

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    fingerprint: Mapped[str] = mapped_column(
        String(64), unique=True, comment="Digest of everything that decides what is found."
    )
    status: Mapped[str] = mapped_column(server_default=InspectionStatus.QUEUED)
    document: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    finished_at: Mapped[datetime | None]
