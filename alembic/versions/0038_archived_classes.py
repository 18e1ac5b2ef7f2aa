"""archived classes: what an archived order was in, where its symbol alone does not say it (EUR/USD, SHOP@TSE)

Revision: 0038, after 0036

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

Of orders that were archived before, the files of their archive tell it (`asset_class` in `orders.parquet`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0036"
branch_labels = None
depends_on = None

_INDEX = "ix_archived_orders_symbol_created_at"


def upgrade() -> None:
    op.add_column("archived_orders", sa.Column("asset_class", sa.String(length=16), nullable=True))
    op.add_column("archived_orders", sa.Column("currency", sa.String(length=8), nullable=True))
    op.create_index(_INDEX, "archived_orders", ["symbol", "created_at"])


def downgrade() -> None:
    op.drop_index(_INDEX, "archived_orders")
    for name in ("currency", "asset_class"):
        op.execute(f"ALTER TABLE archived_orders DROP COLUMN {name}")
