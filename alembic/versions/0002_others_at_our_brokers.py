"""others at our brokers: external orders, position locks, the evidence of unknown outcomes, tenures

Revision: 0002, after 0001

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# -- VIEWS: the public face; see docs/history.md ---
_OLD_ATTEMPTS = """
CREATE VIEW v_attempts AS
SELECT a.client_order_id, a.attempt_no, o.strategy, o.symbol, o.side, o.quantity, a.broker, a.broker_client_order_id,
       a.broker_order_id, a.outcome, a.code, a.message, a.worker, a.started_at, a.ended_at, a.checks
FROM attempts a JOIN orders o ON o.client_order_id = a.client_order_id
"""
_ATTEMPTS = _OLD_ATTEMPTS.replace("a.checks\n", "a.checks, a.sent_at,\n       a.next_check_at, a.evidence\n")
_EXTERNAL_ORDERS = """
CREATE VIEW v_external_orders AS
SELECT broker, broker_order_id, broker_client_order_id, symbol, side, order_type, time_in_force, quantity, limit_price,
       stop_price, filled_quantity, avg_fill_price, status, raw_status, submitted_at, first_seen_at, last_seen_at
FROM external_orders
"""
_EXTERNAL_FILLS = """
CREATE VIEW v_external_fills AS
SELECT broker, execution_id, broker_order_id, symbol, side, quantity, price, round(quantity * price, 9) AS notional,
       commission, filled_at, recorded_at
FROM external_fills
"""
_NEW_VIEWS = {"v_external_orders": _EXTERNAL_ORDERS, "v_external_fills": _EXTERNAL_FILLS}


def _key(table: str) -> str:
    return op.f(f"pk_{table}")


def _numbered() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False)


def upgrade() -> None:
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("evidence", sa.JSON(none_as_null=True), nullable=True))
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.add_column(sa.Column("since", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "external_orders",
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("broker_order_id", sa.String(length=64), nullable=False),
        sa.Column("broker_client_order_id", sa.String(length=128), nullable=True),
        sa.Column("symbol", sa.String(length=64), nullable=True),
        sa.Column("side", sa.String(length=16), nullable=True),
        sa.Column("order_type", sa.String(length=16), nullable=True),
        sa.Column("time_in_force", sa.String(length=8), nullable=True),
        sa.Column("quantity", sa.Numeric(), nullable=True),
        sa.Column("limit_price", sa.Numeric(), nullable=True),
        sa.Column("stop_price", sa.Numeric(), nullable=True),
        sa.Column("filled_quantity", sa.Numeric(), nullable=True),
        sa.Column("avg_fill_price", sa.Numeric(), nullable=True),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("raw_status", sa.String(length=64), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("broker", "broker_order_id", name=_key("external_orders")),
    )
    op.create_table(
        "external_fills",
        _numbered(),
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("execution_id", sa.String(length=128), nullable=False),
        sa.Column("broker_order_id", sa.String(length=64), nullable=True),
        sa.Column("symbol", sa.String(length=64), nullable=True),
        sa.Column("side", sa.String(length=16), nullable=True),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=False),
        sa.Column("cumulative_quantity", sa.Numeric(), nullable=True),
        sa.Column("commission", sa.Numeric(), nullable=True),
        sa.Column("filled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=_key("external_fills")),
        sa.UniqueConstraint("broker", "execution_id", name=op.f("uq_external_fills_broker_execution_id")),
    )
    with op.batch_alter_table("external_fills", schema=None) as batch_op:
        batch_op.create_index("ix_external_fills_broker_broker_order_id", ["broker", "broker_order_id"], unique=False)
    op.create_table(
        "position_ledgers",
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("fills_id", sa.BigInteger(), nullable=False),
        sa.Column("external_fills_id", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.JSON(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fills_read_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("broker", name=_key("position_ledgers")),
    )
    op.create_table(
        "position_baselines",
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("broker", "symbol", name=_key("position_baselines")),
    )
    op.create_table(
        "position_locks",
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("expected", sa.Numeric(), nullable=False),
        sa.Column("found", sa.Numeric(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("broker", "symbol", name=_key("position_locks")),
    )
    op.create_table(
        "position_events",
        _numbered(),
        sa.Column("broker", sa.String(length=32), nullable=False),
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("expected", sa.Numeric(), nullable=True),
        sa.Column("found", sa.Numeric(), nullable=True),
        sa.Column("by", sa.String(length=128), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=_key("position_events")),
    )
    with op.batch_alter_table("position_events", schema=None) as batch_op:
        batch_op.create_index("ix_position_events_broker_symbol", ["broker", "symbol"], unique=False)
    op.execute("DROP VIEW v_attempts")
    for view in (_ATTEMPTS, *_NEW_VIEWS.values()):
        op.execute(view)


def downgrade() -> None:
    for view in ("v_attempts", *_NEW_VIEWS):
        op.execute(f"DROP VIEW {view}")
    # Not in a batch: on SQLite that would make the table anew under the other views.
    op.execute("ALTER TABLE attempts DROP COLUMN evidence")
    op.execute("ALTER TABLE leases DROP COLUMN since")
    op.execute(_OLD_ATTEMPTS)
    for table in (
        "position_events",
        "position_locks",
        "position_baselines",
        "position_ledgers",
        "external_fills",
        "external_orders",
    ):
        op.drop_table(table)
