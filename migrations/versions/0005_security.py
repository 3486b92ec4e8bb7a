"""Keep security events, quarantine files, and let workers say that they are there."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "security_events",
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True, comment="The file to blame."),
        sa.Column(
            "digests",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="SHA-256 of every file of the job, by what it is.",
        ),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(), nullable=True),
        sa.Column("subject_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "event IN ('policy_violation', 'untrusted_result', 'crashed', 'not_confined', "
            "'quarantined', 'released')",
            name=op.f("ck_security_events_event"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_events")),
    )
    op.create_index("ix_security_events_event", "security_events", ["event", "id"], unique=False)
    op.create_index("ix_security_events_sha256", "security_events", ["sha256", "id"], unique=False)
    op.create_table(
        "quarantines",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_quarantines")),
        sa.UniqueConstraint("id", name=op.f("uq_quarantines_id")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(), nullable=False, comment="As it signs its claims."),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("device", sa.String(), nullable=False, comment="What its jobs compute on."),
        sa.Column(
            "landlock",
            sa.Integer(),
            nullable=False,
            comment="Version of its kernel's Landlock; 0: none.",
        ),
        sa.Column("slots", sa.Integer(), nullable=False, comment="Jobs that it runs at once."),
        sa.Column("version", sa.String(), nullable=False, comment="Of Phiscope."),
        sa.CheckConstraint("device IN ('cpu', 'cuda')", name=op.f("ck_workers_device")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_table("quarantines")
    op.drop_index("ix_security_events_sha256", table_name="security_events")
    op.drop_index("ix_security_events_event", table_name="security_events")
    op.drop_table("security_events")
