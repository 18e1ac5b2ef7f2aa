"""reserved ids: the number under which a connection sends an order of a group, known before its first byte

Revision: 0023, after 0022

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("session_order_id", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE attempts DROP COLUMN session_order_id")
