"""Since when a job has been due, and the index of those that are to be published, oldest first."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column(
            "queued_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
    )
    op.create_index(
        "ix_jobs_unpublished",
        "jobs",
        ["priority", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND published_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_unpublished", table_name="jobs")
    op.drop_column("jobs", "queued_at")
