"""archived accounts: which of several accounts behind a broker's login an archived order was in

Revision: 0034, after 0033

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

Of orders that were archived before, the files of their archive tell it (`account` in `orders.parquet`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("archived_orders", sa.Column("account", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE archived_orders DROP COLUMN account")
