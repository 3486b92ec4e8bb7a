"""The tables of analyses: state, report, artifacts, and the requests that made them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    Text,
    func,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.platform.database import Base, Identified


class Status(StrEnum):
    """Where an analysis stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (Status.QUEUED, Status.RUNNING)
FINISHED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


class Analysis(Identified, Base):
    """One model judged on one probe."""

    __tablename__ = "analyses"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status"
        ),
        Index("ix_analyses_created_at", "created_at", "id"),
        Index("ix_analyses_eval_probe_id", "eval_probe_id"),
        Index("ix_analyses_fingerprint", "fingerprint"),
        Index("ix_analyses_model_id", "model_id"),
        Index("ix_analyses_probe_id", "probe_id"),
        Index("ix_analyses_status", "status"),
    )

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    probe_id: Mapped[UUID] = mapped_column(ForeignKey("probes.id"))
    eval_probe_id: Mapped[UUID | None] = mapped_column(ForeignKey("probes.id"))
    options: Mapped[dict[str, Any]] = mapped_column(JSONB)
    priority: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=Status.QUEUED)
    progress: Mapped[dict[str, Any]] = mapped_column(JSONB)
    attempts: Mapped[int] = mapped_column(server_default="0")
    regime: Mapped[str | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    fingerprint: Mapped[str] = mapped_column(
        String(64), comment="Digest of everything that decides the report's figures."
    )
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Report(Base):
    """The report of an analysis that succeeded. Written once, never changed."""

    __tablename__ = "reports"

    analysis_id: Mapped[UUID] = mapped_column(ForeignKey("analyses.id"), primary_key=True)
    # The text as it was written, so that its digest is a strong ETag; cast it to query it.
    document: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))


class Artifact(Base):
    """A file that came out of an analysis. Its bytes are a blob."""

    __tablename__ = "artifacts"
    __table_args__ = (Index("ix_artifacts_sha256", "sha256"),)

    analysis_id: Mapped[UUID] = mapped_column(ForeignKey("analyses.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    media_type: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class IdempotencyKey(Base):
    """An `Idempotency-Key` that was used, and what came of it. Commits with the analysis."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    # Deferred: the key is claimed before the analysis is written.
    analysis_id: Mapped[UUID] = mapped_column(
        ForeignKey("analyses.id", deferrable=True, initially="DEFERRED")
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def of_model(model_id: UUID) -> ColumnElement[bool]:
    """Select the analyses of a model."""
    return Analysis.model_id == model_id


def of_probe(probe_id: UUID) -> ColumnElement[bool]:
    """Select the analyses on a probe, or with held-out figures on it."""
    return or_(Analysis.probe_id == probe_id, Analysis.eval_probe_id == probe_id)
