"""readings: what accounts and positions were, append only, and the curve of equity

Revision: 0019, after 0018

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

#: One row a day, by the last reading; the peak is that of the days before.
_EQUITY = """
SELECT d.day, d.broker, d.account, d.currency, d.equity, d.cash, d.peak, round(d.equity - d.peak, 9) AS drawdown,
       CASE WHEN d.peak > 0 THEN round((d.equity - d.peak) * 100.0 / d.peak, 4) END AS drawdown_percent, d.at,
       'America/New_York' AS day_timezone
FROM (
    SELECT h.day, h.broker, h.account_id AS account, h.currency, h.equity, h.cash, h.at,
           max(h.equity) OVER (PARTITION BY h.broker, h.account_id, h.currency ORDER BY h.day) AS peak
    FROM account_history h
    JOIN (SELECT max(id) AS id FROM account_history GROUP BY broker, account_id, currency, day) l ON l.id = h.id
    WHERE h.equity IS NOT NULL) d
"""


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False)


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def _money(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Numeric(), nullable=True) for name in names]


def _dated() -> list[sa.Column[Any]]:
    return [sa.Column("day", sa.Date(), nullable=False), sa.Column("at", sa.DateTime(timezone=True), nullable=False)]


def _new_york(time: str) -> str:
    """The date in New York of a time in UTC; daylight time by the rule that holds since 2007."""
    if op.get_bind().dialect.name != "sqlite":
        return f"CAST({time} AT TIME ZONE 'America/New_York' AS date)"
    spring = f"date(substr({time}, 1, 4) || '-03-01', 'weekday 0', '+7 days') || ' 07'"
    autumn = f"date(substr({time}, 1, 4) || '-11-01', 'weekday 0') || ' 06'"
    return f"date({time}, CASE WHEN {time} >= {spring} AND {time} < {autumn} THEN '-4 hours' ELSE '-5 hours' END)"


def upgrade() -> None:
    op.create_table(
        "account_history", _id(), _text("broker", 32), _text("account_id", 64), _text("currency", 8),
        *_money("buying_power", "cash", "equity", "portfolio_value", "total_liquidity"),
        sa.Column("day_trade_count", sa.Integer(), nullable=True), sa.Column("paper", sa.Boolean(), nullable=True),
        *_dated(), sa.PrimaryKeyConstraint("id", name="pk_account_history"),
    )  # fmt: skip
    op.create_index("ix_account_history_day", "account_history", ["broker", "account_id", "currency", "day", "id"])
    op.create_table(
        "position_history", _id(), _text("broker", 32), _text("symbol", 64),
        sa.Column("quantity", sa.Numeric(), nullable=False), *_money("avg_price", "market_value", "unrealized_pnl"),
        _text("account_id", 64, nullable=True), _text("currency", 8, nullable=True), *_dated(),
        sa.PrimaryKeyConstraint("id", name="pk_position_history"),
    )  # fmt: skip
    op.create_index("ix_position_history_symbol", "position_history", ["broker", "symbol", "at"])
    # The next reading is held against these, so they are the first.
    money = "buying_power, cash, equity, portfolio_value, total_liquidity, day_trade_count, paper"
    held = "symbol, quantity, avg_price, market_value, unrealized_pnl, account_id, currency"
    for kind, columns in (("account", f"account_id, currency, {money}"), ("position", held)):
        op.execute(
            f"INSERT INTO {kind}_history (broker, {columns}, day, at) "
            f"SELECT broker, {columns}, {_new_york('taken_at')}, taken_at FROM {kind}_snapshots"
        )
    op.execute(f"CREATE VIEW v_equity AS {_EQUITY}")


def downgrade() -> None:
    op.execute("DROP VIEW v_equity")
    op.drop_table("position_history")
    op.drop_table("account_history")
