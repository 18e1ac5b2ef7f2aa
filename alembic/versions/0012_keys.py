"""keys: who may trade, and what signed an order; wishes that wait to be looked at

Revision: 0012, after 0011

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_ORDERS = (
    ("key_id", sa.String(length=64)),
    ("signed_text", sa.Text()),
    ("signature", sa.String(length=128)),
    ("amended_at", _TIME),
    ("wishes", sa.JSON()),
)
_WISHED = "wishes IS NOT NULL"


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("alg", sa.String(length=16), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=True),
        sa.Column("secret_ref", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("operator", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("strategies", sa.JSON(), nullable=True),
        sa.Column("symbols", sa.JSON(), nullable=True),
        sa.Column("brokers", sa.JSON(), nullable=True),
        sa.Column("may_cancel", sa.String(length=8), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), nullable=False),
        sa.Column("may_approve", sa.Boolean(), nullable=False),
        sa.Column("not_before", _TIME, nullable=True),
        sa.Column("not_after", _TIME, nullable=True),
        sa.Column("added_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="pk_keys"),
    )
    for name, kind in _ORDERS:
        op.add_column("orders", sa.Column(name, kind, nullable=True))
    where = sa.text(_WISHED)
    op.create_index("ix_orders_wishes", "orders", ["broker"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_orders_wishes", "orders")
    for name, _ in reversed(_ORDERS):
        op.execute(f"ALTER TABLE orders DROP COLUMN {name}")
    op.drop_table("keys")
