"""held orders: until when an order is not to be sent, in which session alone, and why it is held

Revision: 0010, after 0009

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.add_column("orders", sa.Column("session", sa.String(length=16), nullable=True))
    op.add_column("orders", sa.Column("held_for", sa.String(length=64), nullable=True))


def downgrade() -> None:
    for column in ("held_for", "session", "not_before"):
        op.execute(f"ALTER TABLE orders DROP COLUMN {column}")
