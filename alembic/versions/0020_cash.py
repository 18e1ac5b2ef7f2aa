"""cash: what accounts were paid, charged or given besides their trades, and the positions that moved by it

Revision: 0020, after 0019

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_COLUMNS = (
    "broker, event_id, account, kind, amount, currency, symbol, quantity, price, client_order_id, detail, at"
)  # fmt: skip


def _text(name: str, length: int | None, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length) if length else sa.Text(), nullable=nullable)


def _money(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric(), nullable=True)


def upgrade() -> None:
    op.create_table(
        "cash_events", _text("broker", 32, nullable=False), _text("event_id", 128, nullable=False),
        _text("account", 64), _text("kind", 24, nullable=False), _money("amount"), _text("currency", 8),
        _text("symbol", 64), _money("quantity"), _money("price"), _text("client_order_id", 64), _text("detail", None),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("broker", "event_id", name="pk_cash_events"),
    )  # fmt: skip
    op.create_index("ix_cash_events_at", "cash_events", ["at"])
    op.add_column("position_events", _text("event_id", 128))
    op.execute(f"CREATE VIEW v_cash AS SELECT {_COLUMNS} FROM cash_events")


def downgrade() -> None:
    op.execute("DROP VIEW v_cash")
    op.execute("ALTER TABLE position_events DROP COLUMN event_id")
    op.drop_table("cash_events")
