"""first schema

Revision: 0001, the first

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# -- VIEWS: the public face; see docs/history.md ---
_ORDERS = """
CREATE VIEW v_orders AS
SELECT client_order_id, strategy, symbol, side, quantity, order_type, limit_price, stop_price, trail_amount,
       trail_percent, time_in_force, extended_hours, tags, status, route, broker, broker_order_id,
       attempt_no AS attempt_count, filled_quantity, round(quantity - filled_quantity, 9) AS remaining_quantity,
       avg_fill_price, round(filled_quantity * avg_fill_price, 9) AS filled_notional, reason, created_at, expires_at,
       submitted_at, accepted_at, closed_at, updated_at
FROM orders
"""
_FILLS = """
CREATE VIEW v_fills AS
SELECT f.broker, f.execution_id, f.client_order_id, f.attempt_no, o.strategy, o.symbol, o.side, f.quantity, f.price,
       round(f.quantity * f.price, 9) AS notional, f.commission, f.late, f.filled_at, f.recorded_at
FROM fills f JOIN orders o ON o.client_order_id = f.client_order_id
"""
_ATTEMPTS = """
CREATE VIEW v_attempts AS
SELECT a.client_order_id, a.attempt_no, o.strategy, o.symbol, o.side, o.quantity, a.broker, a.broker_client_order_id,
       a.broker_order_id, a.outcome, a.code, a.message, a.worker, a.started_at, a.ended_at, a.checks
FROM attempts a JOIN orders o ON o.client_order_id = a.client_order_id
"""
# queue_ms: recorded until the first worker took it; send_ms: the accepted attempt, from claim to the broker's answer;
# accept_ms: recorded until accepted; fill_ms: recorded until our books had the last fill (brokers
# stamp fills by their own clocks, IB in whole seconds). Milliseconds, null if not yet.
_LATENCY = """
CREATE VIEW v_latency AS
SELECT o.client_order_id, o.strategy, o.symbol, o.broker, o.attempt_no AS attempt_count, o.created_at,
       {queue} AS queue_ms, {send} AS send_ms, {accept} AS accept_ms, {fill} AS fill_ms
FROM orders o
LEFT JOIN attempts a ON a.client_order_id = o.client_order_id AND a.attempt_no = o.attempt_no
                    AND a.outcome = 'accepted'
"""
_LAST_FILL = "(SELECT max(f.recorded_at) FROM fills f WHERE f.client_order_id = o.client_order_id)"
_SPANS = {
    "queue": ("o.created_at", "(SELECT min(b.started_at) FROM attempts b WHERE b.client_order_id = o.client_order_id)"),
    "send": ("a.started_at", "a.ended_at"),
    "accept": ("o.created_at", "o.accepted_at"),
    "fill": ("o.created_at", _LAST_FILL),
}
_MILLISECONDS = {
    "sqlite": "round((julianday({end}) - julianday({start})) * 86400000.0, 1)",
    "postgresql": "round((extract(epoch FROM ({end}) - ({start})) * 1000.0)::numeric, 1)",
}
VIEWS = ("v_latency", "v_attempts", "v_fills", "v_orders")


def _create_views() -> None:
    span = _MILLISECONDS[op.get_bind().dialect.name]
    latency = _LATENCY.format(**{name: span.format(start=start, end=end) for name, (start, end) in _SPANS.items()})
    for view in (_ORDERS, _FILLS, _ATTEMPTS, latency):
        op.execute(view)


def upgrade() -> None:
    op.create_table(
        "account_snapshots",
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("buying_power", sa.Numeric(), nullable=True),
        sa.Column("cash", sa.Numeric(), nullable=True),
        sa.Column("equity", sa.Numeric(), nullable=True),
        sa.Column("portfolio_value", sa.Numeric(), nullable=True),
        sa.Column("total_liquidity", sa.Numeric(), nullable=True),
        sa.Column("day_trade_count", sa.Integer(), nullable=True),
        sa.Column("paper", sa.Boolean(), nullable=True),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("broker", "account_id", name=op.f("pk_account_snapshots")),
    )
    op.create_table(
        "bars",
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("open", sa.Numeric(), nullable=False),
        sa.Column("high", sa.Numeric(), nullable=False),
        sa.Column("low", sa.Numeric(), nullable=False),
        sa.Column("close", sa.Numeric(), nullable=False),
        sa.Column("volume", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("broker", "symbol", "timeframe", "start", name=op.f("pk_bars")),
    )
    op.create_table(
        "fetches",
        sa.Column("fetch_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("route", sa.JSON(), nullable=False),
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Numeric(), nullable=True),
        sa.Column("cursor", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stored", sa.Integer(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("available_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("fetch_id", name=op.f("pk_fetches")),
    )
    with op.batch_alter_table("fetches", schema=None) as batch_op:
        batch_op.create_index("ix_fetches_status_broker", ["status", "broker"], unique=False)

    op.create_table(
        "halts",
        sa.Column("scope", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("by", sa.String(length=128), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", "kind", name=op.f("pk_halts")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "orders",
        sa.Column("client_order_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("strategy", sa.String(length=128), nullable=True),
        sa.Column("symbol", sa.String(length=32), nullable=True),
        sa.Column("side", sa.String(length=16), nullable=True),
        sa.Column("quantity", sa.Numeric(), nullable=True),
        sa.Column("order_type", sa.String(length=16), nullable=True),
        sa.Column("limit_price", sa.Numeric(), nullable=True),
        sa.Column("stop_price", sa.Numeric(), nullable=True),
        sa.Column("trail_amount", sa.Numeric(), nullable=True),
        sa.Column("trail_percent", sa.Numeric(), nullable=True),
        sa.Column("time_in_force", sa.String(length=8), nullable=True),
        sa.Column("extended_hours", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=True),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("route", sa.JSON(), nullable=True),
        sa.Column("broker", sa.String(length=32), nullable=True),
        sa.Column("broker_order_id", sa.String(length=64), nullable=True),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("filled_quantity", sa.Numeric(), nullable=False),
        sa.Column("avg_fill_price", sa.Numeric(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replace_request", sa.JSON(), nullable=True),
        sa.Column("available_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_order_id", name=op.f("pk_orders")),
    )
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index("ix_orders_created_at", ["created_at"], unique=False)
        batch_op.create_index(
            "ix_orders_status_broker_available_at", ["status", "broker", "available_at"], unique=False
        )
        batch_op.create_index("ix_orders_strategy_created_at", ["strategy", "created_at"], unique=False)
        batch_op.create_index("ix_orders_symbol_created_at", ["symbol", "created_at"], unique=False)

    op.create_table(
        "position_snapshots",
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("symbol", sa.String(length=32), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("avg_price", sa.Numeric(), nullable=True),
        sa.Column("market_value", sa.Numeric(), nullable=True),
        sa.Column("unrealized_pnl", sa.Numeric(), nullable=True),
        sa.Column("account_id", sa.String(length=64), nullable=True),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("broker", "symbol", name=op.f("pk_position_snapshots")),
    )
    op.create_table(
        "workers",
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=128), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("positions_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_workers")),
    )
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.create_index("ix_workers_broker", ["broker"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("client_order_id", sa.String(length=64), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("broker_client_order_id", sa.String(length=128), nullable=False),
        sa.Column("broker_order_id", sa.String(length=64), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("baseline", sa.JSON(), nullable=True),
        sa.Column("replaces", sa.Integer(), nullable=True),
        sa.Column("terms", sa.JSON(), nullable=True),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("alerted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["orders.client_order_id"], name=op.f("fk_attempts_client_order_id")
        ),
        sa.PrimaryKeyConstraint("client_order_id", "attempt_no", name=op.f("pk_attempts")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index(
            "ix_attempts_broker_broker_client_order_id", ["broker", "broker_client_order_id"], unique=False
        )
        batch_op.create_index("ix_attempts_broker_broker_order_id", ["broker", "broker_order_id"], unique=False)
        batch_op.create_index("ix_attempts_broker_outcome", ["broker", "outcome"], unique=False)

    op.create_table(
        "fills",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("execution_id", sa.String(length=128), nullable=False),
        sa.Column("client_order_id", sa.String(length=64), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=False),
        sa.Column("cumulative_quantity", sa.Numeric(), nullable=True),
        sa.Column("commission", sa.Numeric(), nullable=True),
        sa.Column("filled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["client_order_id"], ["orders.client_order_id"], name=op.f("fk_fills_client_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fills")),
        sa.UniqueConstraint("broker", "execution_id", name=op.f("uq_fills_broker_execution_id")),
    )
    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.create_index("ix_fills_client_order_id", ["client_order_id"], unique=False)
        batch_op.create_index("ix_fills_filled_at", ["filled_at"], unique=False)

    op.create_table(
        "order_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("client_order_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("from_status", sa.String(length=24), nullable=True),
        sa.Column("to_status", sa.String(length=24), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_order_id"], ["orders.client_order_id"], name=op.f("fk_order_events_client_order_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_events")),
    )
    with op.batch_alter_table("order_events", schema=None) as batch_op:
        batch_op.create_index("ix_order_events_client_order_id_id", ["client_order_id", "id"], unique=False)
    _create_views()


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    with op.batch_alter_table("order_events", schema=None) as batch_op:
        batch_op.drop_index("ix_order_events_client_order_id_id")

    op.drop_table("order_events")
    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.drop_index("ix_fills_filled_at")
        batch_op.drop_index("ix_fills_client_order_id")

    op.drop_table("fills")
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index("ix_attempts_broker_outcome")
        batch_op.drop_index("ix_attempts_broker_broker_order_id")
        batch_op.drop_index("ix_attempts_broker_broker_client_order_id")

    op.drop_table("attempts")
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_index("ix_workers_broker")

    op.drop_table("workers")
    op.drop_table("position_snapshots")
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index("ix_orders_symbol_created_at")
        batch_op.drop_index("ix_orders_strategy_created_at")
        batch_op.drop_index("ix_orders_status_broker_available_at")
        batch_op.drop_index("ix_orders_created_at")

    op.drop_table("orders")
    op.drop_table("leases")
    op.drop_table("halts")
    with op.batch_alter_table("fetches", schema=None) as batch_op:
        batch_op.drop_index("ix_fetches_status_broker")

    op.drop_table("fetches")
    op.drop_table("bars")
    op.drop_table("account_snapshots")
