"""The tables of positions and profit that are kept, so that nobody adds up years: `models.record.balances` writes them.

They hold what executions up to `position_progress.kept_id` come to; the views reckon what came since. A key without an
account or a strategy has an empty text there, for no part of a primary key may be null.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Date, Index, Integer, MetaData, String, Table

from models.record.columns import Money, UtcTime, metadata


def _key() -> list[Column[Any]]:
    lengths = {"source": 16, "broker": 32, "account": 64, "strategy": 128, "symbol": 64, "currency": 8}
    return [Column(name, String(length), primary_key=True) for name, length in lengths.items()]


#: Per key and day on which something happened: the position at its end, and what the day itself earned and cost.
position_days = Table(
    "position_days",
    metadata,
    *_key(),
    Column("day", Date, primary_key=True),
    #: Null in a row that is a fee in another currency and nothing else.
    Column("quantity", Money),
    #: Money that the open lots cost, negative when short; null where a price is not known. By first in, first out, and
    #: by the average.
    Column("cost", Money),
    Column("cost_average", Money),
    Column("realized", Money),
    Column("realized_average", Money),
    #: Null where none is known.
    Column("fees", Money),
    #: Executions whose commission is not known.
    Column("fees_missing", Integer, nullable=False),
    Column("multiplier", Money, nullable=False),
    Index("ix_position_days_day", "day"),
)

#: The position of each key after its last execution that is kept.
position_states = Table(
    "position_states",
    metadata,
    *_key(),
    Column("quantity", Money),
    Column("cost", Money),
    Column("cost_average", Money),
    Column("multiplier", Money, nullable=False),
    Column("last_at", UtcTime, nullable=False),
)

#: The lots that are open there, oldest first; negative are short.
position_lots = Table(
    "position_lots",
    metadata,
    *_key(),
    Column("no", Integer, primary_key=True),
    Column("shares", Money, nullable=False),
    Column("price", Money),
    Column("multiplier", Money, nullable=False),
    Column("filled_at", UtcTime, nullable=False),
)

#: How far the executions of a source (ours, external) are kept, and how far they will be at the next turn: who changes
#: one of those says so in `position_changes`.
position_progress = Table(
    "position_progress",
    metadata,
    Column("source", String(16), primary_key=True),
    Column("kept_id", BigInteger, nullable=False),
    Column("marked_id", BigInteger, nullable=False),
    Column("marked_at", UtcTime),
    #: Counts the writes: of two writers that read the same, one writes.
    Column("turn", BigInteger, nullable=False),
)

#: Written by triggers: an execution of these was changed after it was kept, so they are reckoned from the beginning.
position_changes = Table(
    "position_changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("source", String(16), nullable=False),
    Column("broker", String(32), nullable=False),
    Column("strategy", String(128), nullable=False),
    Column("symbol", String(64), nullable=False),
)

#: The view of every execution that stands, ours and external, with its sign, its multiplier and its day.
position_executions = Table(
    "position_executions",
    MetaData(),
    *(Column(name, String) for name in ("source", "broker", "account", "strategy", "symbol", "currency")),
    Column("id", BigInteger),
    Column("shares", Money),
    Column("price", Money),
    Column("multiplier", Money),
    Column("fee", Money),
    Column("fee_currency", String),
    Column("filled_at", UtcTime),
    Column("day", Date),
)
