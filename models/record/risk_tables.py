"""The tables of limits: what is allowed, how much of it is used, and at which prices orders are valued.

`risk_tallies` has one row for each broker, account, strategy, symbol, key and day, so that the claims of one broker
never wait for a row of another's. The view `risk_usage` (made by the migration) adds them up for each scope.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table

from models.record.columns import Money, Name, UtcTime, Words, metadata

risk_limits = Table(
    "risk_limits",
    metadata,
    #: "*", broker, account, strategy, symbol, strategy+symbol or key; and which.
    Column("scope_kind", String(16), primary_key=True),
    Column("scope", String(200), primary_key=True),
    Column("name", String(32), primary_key=True),
    #: A number as decimal text, or a word.
    Column("value", String(64), nullable=False),
    #: In force before then; null: until somebody ends it.
    Column("until", UtcTime),
    Column("set_by", String(128), nullable=False),
    Column("reason", Words(), nullable=False),
    Column("set_at", UtcTime, nullable=False),
)

risk_tallies = Table(
    "risk_tallies",
    metadata,
    Column("broker", String(32), primary_key=True),
    #: Empty where an order has none.
    Column("account", String(64), primary_key=True),
    Column("strategy", String(128), primary_key=True),
    Column("symbol", String(64), primary_key=True),
    Column("key_id", String(64), primary_key=True),
    #: The date on which the orders were sent, YYYY-MM-DD in the zone of `[risk] day_timezone`.
    Column("day", String(10), primary_key=True),
    #: Orders that are at the broker, were there, or may be; and their value.
    Column("sent", Integer, nullable=False),
    Column("sent_value", Money, nullable=False),
    #: Those of them that have not ended: how many, units left to buy and to sell, and their value.
    Column("open_orders", Integer, nullable=False),
    Column("buying", Money, nullable=False),
    Column("selling", Money, nullable=False),
    Column("open_buy", Money, nullable=False),
    Column("open_sell", Money, nullable=False),
    #: Gain less fees of the day, as the leader last added it up; kept while a limit asks for it.
    Column("realized", Money, nullable=False),
    Index("ix_risk_tallies_day", "day"),
    Index("ix_risk_tallies_symbol", "symbol"),
)

reference_prices = Table(
    "reference_prices",
    metadata,
    Column("symbol", Name(64), primary_key=True),
    #: Per unit, in `currency`.
    Column("price", Money, nullable=False),
    Column("currency", Words(8), nullable=False),
    #: When somebody traded or quoted so.
    Column("at", UtcTime, nullable=False),
    #: quote, fill or position, and of which broker: `quote alpaca`.
    Column("source", String(64), nullable=False),
)
