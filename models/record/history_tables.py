"""The tables of what accounts and positions were, and were paid: append only, and never needed by an order."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Date, Index, Integer, String, Table

from models.record.columns import Money, Name, UtcTime, Words, metadata

#: Readings of accounts: each that differs from the one before, and one a day.
account_history = Table(
    "account_history",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("broker", String(32), nullable=False),
    Column("account_id", Name(64), nullable=False),
    Column("currency", Words(8), nullable=False),
    Column("buying_power", Money),
    Column("cash", Money),
    Column("equity", Money),
    Column("portfolio_value", Money),
    Column("total_liquidity", Money),
    Column("day_trade_count", Integer),
    Column("paper", Boolean),
    #: The date in New York.
    Column("day", Date, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_account_history_day", "broker", "account_id", "currency", "day", "id"),
)

#: Readings of positions: each with another size or average price than the one before, and one a day.
position_history = Table(
    "position_history",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("broker", String(32), nullable=False),
    Column("symbol", Name(64), nullable=False),
    #: Negative for a short position; 0 where it is held no more.
    Column("quantity", Money, nullable=False),
    Column("avg_price", Money),
    Column("market_value", Money),
    Column("unrealized_pnl", Money),
    Column("account_id", Name(64)),
    Column("currency", Words(8)),
    #: The date in New York.
    Column("day", Date, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_position_history_symbol", "broker", "symbol", "at"),
)

#: What accounts were paid, charged or given besides their trades: dividends, interest, fees, transfers, splits.
cash_events = Table(
    "cash_events",
    metadata,
    Column("broker", String(32), primary_key=True),
    #: The broker's id of it.
    Column("event_id", Name(128), primary_key=True),
    Column("account", Name(64)),
    #: In the words of `models.vocabulary.CashKind`.
    Column("kind", String(24), nullable=False),
    #: Positive is a gain of the account.
    Column("amount", Money),
    Column("currency", Words(8)),
    Column("symbol", Name(64)),
    Column("quantity", Money),
    Column("price", Money),
    #: Of our order that it is about.
    Column("client_order_id", String(64)),
    #: The broker's own word and description.
    Column("detail", Words()),
    Column("at", UtcTime, nullable=False),
    Index("ix_cash_events_at", "at"),
)
