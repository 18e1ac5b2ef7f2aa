"""owners: which session every worker has, since when it is in its state, and attempts that are alive though given up

Revision: 0005, after 0004

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STRAY = "stray_at IS NOT NULL"


def upgrade() -> None:
    op.add_column("workers", sa.Column("session", sa.String(length=64), nullable=True))
    op.add_column("workers", sa.Column("state_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("attempts", sa.Column("stray_at", sa.DateTime(timezone=True), nullable=True))
    where = sa.text(_STRAY)
    op.create_index("ix_attempts_stray", "attempts", ["broker"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_attempts_stray", "attempts")
    for table, column in (("attempts", "stray_at"), ("workers", "state_since"), ("workers", "session")):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
