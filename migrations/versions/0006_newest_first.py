"""Sort lists by the database's clock: indexes of `created_at`, with the id to part equal ones."""

from collections.abc import Sequence

from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LISTED = ("models", "probes", "analyses", "security_events")
_FILTERS = ("sha256", "event")


def upgrade() -> None:
    for table in _LISTED:
        op.create_index(f"ix_{table}_created_at", table, ["created_at", "id"], unique=False)
    for column in _FILTERS:
        name = f"ix_security_events_{column}"
        op.drop_index(name, table_name="security_events")
        op.create_index(name, "security_events", [column, "created_at", "id"], unique=False)


def downgrade() -> None:
    for column in _FILTERS:
        name = f"ix_security_events_{column}"
        op.drop_index(name, table_name="security_events")
        op.create_index(name, "security_events", [column, "id"], unique=False)
    for table in _LISTED:
        op.drop_index(f"ix_{table}_created_at", table_name=table)
