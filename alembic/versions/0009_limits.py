"""limits: what is allowed, what is used of it, the prices at which orders are valued, and what each attempt counts as

Revision: 0009, after 0008

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KEY = (("broker", 32), ("account", 64), ("strategy", 128), ("symbol", 64), ("key_id", 64), ("day", 10))
_COUNTS = ("sent", "open_orders")
_SIZES = ("sent_value", "buying", "selling", "open_buy", "open_sell", "realized")
#: Scope kind -> what names the scope, and which rows have one.
_SCOPES = {
    "*": ("'*'", ""),
    "broker": ("broker", ""),
    "account": ("broker || ':' || account", "account <> ''"),
    "strategy": ("strategy", "strategy <> ''"),
    "symbol": ("symbol", ""),
    "strategy+symbol": ("strategy || ':' || symbol", "strategy <> ''"),
    "key": ("key_id", "key_id <> ''"),
}
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in ("sent", *_SIZES, "open_orders"))


def _one(kind: str, name: str, where: str) -> str:
    rows = f"FROM risk_tallies WHERE {where}" if where else "FROM risk_tallies"
    return f"SELECT '{kind}' AS scope_kind, {name} AS scope, day, {_SUMS} {rows} GROUP BY 1, 2, 3"


def _key(table: str) -> str:
    return op.f(f"pk_{table}")


def upgrade() -> None:
    op.create_table(
        "risk_limits",
        sa.Column("scope_kind", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("set_by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope_kind", "scope", "name", name=_key("risk_limits")),
    )
    op.create_table(
        "risk_tallies",
        *(sa.Column(name, sa.String(length=length), nullable=False) for name, length in _KEY),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("sent_value", sa.Numeric(), nullable=False),
        sa.Column("open_orders", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Numeric(), nullable=False) for name in _SIZES[1:]),
        sa.PrimaryKeyConstraint(*(name for name, _ in _KEY), name=_key("risk_tallies")),
    )
    for column in ("day", "symbol"):
        op.create_index(f"ix_risk_tallies_{column}", "risk_tallies", [column], unique=False)
    op.create_table(
        "reference_prices",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("symbol", name=_key("reference_prices")),
    )
    op.add_column("attempts", sa.Column("reserved", sa.JSON(none_as_null=True), nullable=True))
    op.execute("CREATE VIEW risk_usage AS " + " UNION ALL ".join(_one(k, *of) for k, of in _SCOPES.items()))


def downgrade() -> None:
    op.execute("DROP VIEW risk_usage")
    op.execute("ALTER TABLE attempts DROP COLUMN reserved")
    for table in ("reference_prices", "risk_tallies", "risk_limits"):
        op.drop_table(table)
