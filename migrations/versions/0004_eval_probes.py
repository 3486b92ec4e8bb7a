"""Let an analysis name a second probe, for held-out figures."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("analyses", sa.Column("eval_probe_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_analyses_eval_probe_id_probes"), "analyses", "probes", ["eval_probe_id"], ["id"]
    )
    op.create_index("ix_analyses_eval_probe_id", "analyses", ["eval_probe_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_analyses_eval_probe_id", table_name="analyses")
    op.drop_constraint(op.f("fk_analyses_eval_probe_id_probes"), "analyses", type_="foreignkey")
    op.drop_column("analyses", "eval_probe_id")
