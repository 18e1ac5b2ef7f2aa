"""slippage: the price at which a strategy decided, the quote when its order arrived, and what a fill cost against both

Revision: 0014, after 0013

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_MULTIPLIER = (
    "(CASE WHEN length(f.symbol) > 15 AND substr(f.symbol, length(f.symbol) - 8, 1) IN ('C', 'P') THEN 100 ELSE 1 END)"
)


def _tca() -> str:
    """Positive is a cost: bought above, or sold below. SQLite divides whole numbers as such, so ` * 1.0`."""
    worse = "(CASE WHEN o.side IN ('buy', 'buy_to_cover') THEN 1 ELSE -1 END)"
    mid = "((a.arrival_bid + a.arrival_ask) / 2.0)"

    def against(price: str, name: str) -> str:
        return f"""round({worse} * (f.price - {price}) * f.quantity * {_MULTIPLIER}, 9) AS slippage_{name},
       round({worse} * (f.price - {price}) * 10000.0 / {price}, 4) AS slippage_{name}_bps"""

    decision, arrival = against("a.decision_price", "decision"), against(mid, "arrival")
    return f"""
SELECT f.client_order_id, f.execution_id, f.broker, f.strategy, f.symbol, o.side, f.quantity, f.price,
       a.decision_price, round({mid}, 9) AS arrival_mid, a.arrival_at, {decision}, {arrival},
       f.attempt_no, o.order_type, f.currency, f.filled_at
FROM fills f
JOIN orders o ON o.client_order_id = f.client_order_id
LEFT JOIN attempts a ON a.client_order_id = f.client_order_id AND a.attempt_no = f.attempt_no
WHERE f.voided_at IS NULL
"""


def upgrade() -> None:
    op.add_column("orders", sa.Column("decision_price", sa.Numeric(), nullable=True))
    for name in ("decision_price", "arrival_bid", "arrival_ask"):
        op.add_column("attempts", sa.Column(name, sa.Numeric(), nullable=True))
    op.add_column("attempts", sa.Column("arrival_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(f"CREATE VIEW v_tca AS {_tca()}")


def downgrade() -> None:
    op.execute("DROP VIEW v_tca")
    for table, column in (
        ("attempts", "arrival_at"), ("attempts", "arrival_ask"), ("attempts", "arrival_bid"),
        ("attempts", "decision_price"), ("orders", "decision_price"),
    ):  # fmt: skip
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
