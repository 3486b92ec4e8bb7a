"""The table of models."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.platform.database import Base, Identified


class Model(Identified, Base):
    """A model somebody uploaded. Deleting keeps the row, so that reports still name their model."""

    __tablename__ = "models"
    __table_args__ = (
        # The same bytes under the same name, run and step are the same model.
        Index(
            "uq_models_identity",
            "name",
            "run",
            "step",
            "sha256",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("ix_models_created_at", "created_at", "id"),
        Index("ix_models_sha256", "sha256"),
        Index("ix_models_run_step", "run", "step"),
    )

    name: Mapped[str]
    run: Mapped[str | None]
    step: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    format: Mapped[str]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    deleted_at: Mapped[datetime | None]
