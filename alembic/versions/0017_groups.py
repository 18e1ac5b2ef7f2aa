"""groups: linked orders, and which leg of which group an order is

Revision: 0017, after 0016

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
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
       o.expires_at, o.submitted_at, o.accepted_at, o.closed_at, o.updated_at$more
FROM orders o
""".replace("$brokers", _BROKERS)
#: One row for each leg; what is of the group is the same in all of them.
_GROUPS = """
CREATE VIEW v_groups AS
SELECT g.group_id, g.kind, g.status, g.reason, o.strategy, o.broker, o.client_order_id, o.leg, o.symbol, o.side,
       o.quantity, o.order_type, o.limit_price, o.stop_price, o.status AS leg_status, o.filled_quantity,
       o.avg_fill_price, o.broker_order_id, g.created_at, g.closed_at, g.updated_at
FROM order_groups g
JOIN orders o ON o.group_id = g.group_id
"""
_COLUMNS = (("group_id", 64), ("group_kind", 16), ("leg", 16))


def upgrade() -> None:
    op.create_table(
        "order_groups",
        sa.Column("group_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_order_groups")),
    )
    op.create_index("ix_order_groups_status_created_at", "order_groups", ["status", "created_at"])
    for name, length in _COLUMNS:
        op.add_column("orders", sa.Column(name, sa.String(length=length), nullable=True))
    op.create_index("ix_orders_group_id", "orders", ["group_id"])
    op.execute("DROP VIEW v_orders")
    op.execute(_ORDERS.replace("$more", ", o.group_id, o.leg"))
    op.execute(_GROUPS)


def downgrade() -> None:
    op.execute("DROP VIEW v_groups")
    op.execute("DROP VIEW v_orders")
    op.drop_index("ix_orders_group_id", "orders")
    for name, _ in reversed(_COLUMNS):
        op.execute(f"ALTER TABLE orders DROP COLUMN {name}")
    op.drop_table("order_groups")
    op.execute(_ORDERS.replace("$more", ""))
