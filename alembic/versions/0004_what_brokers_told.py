"""what brokers told: executions that are corrected, busted, inferred or not priced yet; whose connection an order is

Revision: 0004, after 0003

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: Replaces of an order are attempts too, so brokers are counted.
_BROKERS = "(SELECT count(DISTINCT a.broker) FROM attempts a WHERE a.client_order_id = o.client_order_id)"
_ORDERS = """
CREATE VIEW v_orders AS
SELECT o.client_order_id, o.strategy, o.symbol, o.side, o.quantity, o.order_type, o.limit_price, o.stop_price,
       o.trail_amount, o.trail_percent, o.time_in_force, o.extended_hours, o.tags, o.status, o.route, o.broker,
       o.broker_order_id, o.attempt_no AS attempt_count, $brokers AS brokers_tried, $brokers > 1 AS fell_back,
       o.filled_quantity, round(o.quantity - o.filled_quantity, 9) AS remaining_quantity, o.avg_fill_price,
       round(o.filled_quantity * o.avg_fill_price, 9) AS filled_notional, o.reason, o.reason_code, o.created_at,
       o.expires_at, o.submitted_at, o.accepted_at, o.closed_at, o.updated_at
FROM orders o
""".replace("$brokers", _BROKERS)
# Executions that stand: one that its broker took back, or a placeholder that the real ones replaced, is voided.
_FILLS = """
CREATE VIEW v_fills AS
SELECT f.broker, f.execution_id, f.client_order_id, f.attempt_no, f.strategy, f.symbol, o.side, f.quantity, f.price,
       round(f.quantity * f.price, 9) AS notional, f.currency, f.commission, f.commission_currency, f.late, f.inferred,
       f.filled_at, f.recorded_at
FROM fills f JOIN orders o ON o.client_order_id = f.client_order_id
WHERE f.voided_at IS NULL
"""
_ATTEMPTS = """
CREATE VIEW v_attempts AS
SELECT a.client_order_id, a.attempt_no, o.strategy, o.symbol, o.side, o.quantity, a.broker, a.broker_client_order_id,
       a.broker_order_id, a.outcome, a.code, a.message, a.worker, a.session, a.started_at, a.ended_at, a.checks,
       a.sent_at, a.next_check_at, a.evidence
FROM attempts a JOIN orders o ON o.client_order_id = a.client_order_id
"""
_EXTERNAL_FILLS = """
CREATE VIEW v_external_fills AS
SELECT broker, execution_id, broker_order_id, symbol, side, quantity, price, round(quantity * price, 9) AS notional,
       currency, commission, commission_currency, filled_at, recorded_at
FROM external_fills
WHERE voided_at IS NULL
"""
_OLD_ORDERS = """
CREATE VIEW v_orders AS
SELECT client_order_id, strategy, symbol, side, quantity, order_type, limit_price, stop_price, trail_amount,
       trail_percent, time_in_force, extended_hours, tags, status, route, broker, broker_order_id,
       attempt_no AS attempt_count, filled_quantity, round(quantity - filled_quantity, 9) AS remaining_quantity,
       avg_fill_price, round(filled_quantity * avg_fill_price, 9) AS filled_notional, reason, created_at, expires_at,
       submitted_at, accepted_at, closed_at, updated_at
FROM orders
"""
_OLD_FILLS = """
CREATE VIEW v_fills AS
SELECT f.broker, f.execution_id, f.client_order_id, f.attempt_no, f.strategy, f.symbol, o.side, f.quantity, f.price,
       round(f.quantity * f.price, 9) AS notional, f.commission, f.late, f.filled_at, f.recorded_at
FROM fills f JOIN orders o ON o.client_order_id = f.client_order_id
"""
_OLD_ATTEMPTS = _ATTEMPTS.replace(" a.session,", "")
_OLD_EXTERNAL_FILLS = """
CREATE VIEW v_external_fills AS
SELECT broker, execution_id, broker_order_id, symbol, side, quantity, price, round(quantity * price, 9) AS notional,
       commission, filled_at, recorded_at
FROM external_fills
"""
#: The views over the tables that change, in the order in which they are dropped; v_latency stays as it is.
_VIEWS = ("v_attempts", "v_fills", "v_orders", "v_external_fills")


def _at(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _text(name: str, length: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), nullable=True)


def _told() -> list[sa.Column[Any]]:
    revised = sa.Column("revision", sa.Integer(), nullable=False, server_default="0")
    return [_text("currency", 8), _text("commission_currency", 8), _at("voided_at"), revised]


def _new() -> dict[str, list[sa.Column[Any]]]:
    inferred = sa.Column("inferred", sa.Boolean(), nullable=False, server_default=sa.false())
    return {
        "orders": [_text("reason_code", 32)],
        "attempts": [_text("session", 64)],
        "fills": [*_told(), inferred],
        "external_fills": _told(),
        "position_snapshots": [_text("currency", 8)],
    }


def _drop_views() -> str | None:
    """Drop the views; SQLite makes a table anew to change a column, so there v_latency goes too: return its text."""
    for view in _VIEWS:
        op.execute(f"DROP VIEW {view}")
    if op.get_bind().dialect.name != "sqlite":
        return None
    text = op.get_bind().execute(sa.text("SELECT sql FROM sqlite_master WHERE name = 'v_latency'")).scalar_one()
    op.execute("DROP VIEW v_latency")
    return str(text)


def _create_views(latency: str | None, *views: str) -> None:
    for view in (*views, *([latency] if latency else [])):
        op.execute(view)


def _price_may_be_unknown(known: bool) -> None:
    for table in ("fills", "external_fills"):
        if not known:  # the version before knows no price that nobody told
            op.execute(f"UPDATE {table} SET price = 0 WHERE price IS NULL")
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.alter_column("price", existing_type=sa.Numeric(), nullable=known)


def upgrade() -> None:
    latency = _drop_views()
    for table, columns in _new().items():
        for column in columns:
            op.add_column(table, column)
    op.execute("UPDATE fills SET inferred = true WHERE execution_id LIKE 'inferred:%'")
    _price_may_be_unknown(True)
    unsettled = sa.text("voided_at IS NULL AND (inferred OR price IS NULL)")
    op.create_index("ix_fills_unsettled", "fills", ["broker"], sqlite_where=unsettled, postgresql_where=unsettled)
    with op.batch_alter_table("position_snapshots", schema=None) as batch_op:
        batch_op.alter_column("symbol", existing_type=sa.String(length=32), type_=sa.String(length=64))
    op.create_table(
        "control_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("scope_kind", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_control_events")),
    )
    op.create_table(
        "deployment",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
    )
    _create_views(latency, _ORDERS, _FILLS, _ATTEMPTS, _EXTERNAL_FILLS)


def downgrade() -> None:
    latency = _drop_views()
    op.drop_table("deployment")
    op.drop_table("control_events")
    with op.batch_alter_table("position_snapshots", schema=None) as batch_op:
        batch_op.alter_column("symbol", existing_type=sa.String(length=64), type_=sa.String(length=32))
    op.drop_index("ix_fills_unsettled", "fills")
    _price_may_be_unknown(False)
    for table, columns in _new().items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {column.name}")
    _create_views(latency, _OLD_ORDERS, _OLD_FILLS, _OLD_ATTEMPTS, _OLD_EXTERNAL_FILLS)
