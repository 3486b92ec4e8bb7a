"""The table of probes."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.platform.database import Base, Identified


class ProbeStatus(StrEnum):
    """Whether a probe can be used."""

    VALIDATING = "validating"
    READY = "ready"
    FAILED = "failed"


class Probe(Identified, Base):
    """A reference dataset. Immutable; a second one under the same name is the next version."""

    __tablename__ = "probes"
    __table_args__ = (
        CheckConstraint("status IN ('validating', 'ready', 'failed')", name="status"),
        UniqueConstraint("name", "version"),
        Index("ix_probes_created_at", "created_at", "id"),
        Index("ix_probes_sha256", "sha256"),
    )

    name: Mapped[str]
    version: Mapped[int]
    # Null until a worker has fetched a probe that was registered by URI.
    sha256: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    uri: Mapped[str | None]
    spec: Mapped[dict[str, Any]] = mapped_column(JSONB)
    status: Mapped[str]
    n: Mapped[int | None] = mapped_column(BigInteger)
    input_shape: Mapped[list[int] | None] = mapped_column(JSONB(none_as_null=True))
    inputs: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    classes: Mapped[int | None]
    class_counts: Mapped[list[int] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    deleted_at: Mapped[datetime | None]
