"""packages that ended: an index of orders with legs by their end, so that looking at them reads no other order

Revision: 0033, after 0032

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("legs IS NOT NULL")
    op.create_index("ix_orders_packages", "orders", ["broker", "closed_at"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_orders_packages", "orders")
