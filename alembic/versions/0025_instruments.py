"""instruments: what brokers have told of what is traded

Revision: 0025, after 0024

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "instruments",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("asset_class", sa.String(length=16), nullable=False),
        sa.Column("broker", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("underlying", sa.String(length=32), nullable=False),
        sa.Column("expiry", sa.Date()),
        sa.Column("right", sa.String(length=1)),
        sa.Column("strike", sa.Numeric()),
        sa.Column("multiplier", sa.Numeric()),
        sa.Column("listing", sa.String(length=32)),
        sa.Column("price_increment", sa.Numeric()),
        sa.Column("lot_size", sa.Numeric()),
        sa.Column("broker_symbol", sa.String(length=64)),
        sa.Column("broker_id", sa.String(length=64)),
        sa.Column("name", sa.String(length=128)),
        sa.Column("tradable", sa.Boolean()),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "asset_class", "broker", "currency", name="pk_instruments"),
    )
    op.create_index("ix_instruments_underlying", "instruments", ["underlying", "asset_class", "expiry"])


def downgrade() -> None:
    op.drop_index("ix_instruments_underlying", "instruments")
    op.drop_table("instruments")
