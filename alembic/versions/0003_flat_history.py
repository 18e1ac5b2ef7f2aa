"""flat history: what analysts and leaders ask takes as long at a million orders as at ten thousand

Revision: 0003, after 0002

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NEW = (
    ("orders", ["status", "created_at"]),
    ("attempts", ["outcome", "broker", "started_at"]),
    ("attempts", ["started_at"]),
    ("fills", ["symbol", "filled_at"]),
    ("fills", ["strategy", "filled_at"]),
    ("order_events", ["at"]),
)
_OLD = (("attempts", ["broker", "outcome"]),)
_OLD_FILLS = """
CREATE VIEW v_fills AS
SELECT f.broker, f.execution_id, f.client_order_id, f.attempt_no, o.strategy, o.symbol, o.side, f.quantity, f.price,
       round(f.quantity * f.price, 9) AS notional, f.commission, f.late, f.filled_at, f.recorded_at
FROM fills f JOIN orders o ON o.client_order_id = f.client_order_id
"""
# By the fill's own symbol and strategy: the way through the orders grows with the years.
_FILLS = _OLD_FILLS.replace("o.strategy, o.symbol", "f.strategy, f.symbol")
_COPY = """
UPDATE fills SET symbol = (SELECT o.symbol FROM orders o WHERE o.client_order_id = fills.client_order_id),
                 strategy = (SELECT o.strategy FROM orders o WHERE o.client_order_id = fills.client_order_id)
"""


def _name(table: str, columns: list[str]) -> str:
    return "_".join(["ix", table, *columns])


def _swap(old: tuple[tuple[str, list[str]], ...], new: tuple[tuple[str, list[str]], ...]) -> None:
    for table, columns in old:
        op.drop_index(_name(table, columns), table_name=table)
    for table, columns in new:
        op.create_index(_name(table, columns), table, columns, unique=False)


def upgrade() -> None:
    op.execute("DROP VIEW v_fills")
    op.add_column("fills", sa.Column("symbol", sa.String(length=32), nullable=True))
    op.add_column("fills", sa.Column("strategy", sa.String(length=128), nullable=True))
    op.execute(_COPY)
    _swap(_OLD, _NEW)
    op.execute(_FILLS)


def downgrade() -> None:
    op.execute("DROP VIEW v_fills")
    _swap(_NEW, _OLD)
    # Not in a batch: on SQLite that would make the table anew under the other views.
    for column in ("symbol", "strategy"):
        op.execute(f"ALTER TABLE fills DROP COLUMN {column}")
    op.execute(_OLD_FILLS)
