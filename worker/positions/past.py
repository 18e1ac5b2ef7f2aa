"""What a reading of positions and money adds to their history: whatever differs from the reading before, and one a day.

| against the reading before                    | is added                            |
|-----------------------------------------------|-------------------------------------|
| of another day in New York, or there was none | the account, or the position        |
| an amount of the account differs              | the account                         |
| size or average price of a position differs   | the position, with its worth of now |
| a position is not there any more              | the position, with quantity 0       |
| only a position's worth differs               | nothing: prices have their own home |
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast

from sqlalchemy import Connection, Table, insert, select

from models.destinations import broker_of
from models.record.history_tables import account_history, position_history
from models.record.statements import Values
from models.record.tables import account_snapshots, position_snapshots
from models.record.trading_days import day_of

_AMOUNTS = (
    "currency", "buying_power", "cash", "equity", "portfolio_value", "total_liquidity", "day_trade_count", "paper",
)  # fmt: skip
_SIZES = ("quantity", "avg_price", "account_id", "currency")
_WORTH = ("avg_price", "market_value", "unrealized_pnl")
#: Amounts closer than this, of one, are the same: SQLite keeps 15 digits.
_CLOSE = 1e-12


def differs(before: Values | None, now: Values, names: Sequence[str]) -> bool:
    """Tell whether a reading says something else than the one before, or is the first of its day."""
    if before is None or not all(_same(before[name], now[name]) for name in names):
        return True
    return _day(before) != _day(now)


def _same(one: object, other: object) -> bool:
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return one == other


def _day(reading: Values) -> object:
    return day_of(cast(datetime, reading["taken_at"]))


def changed_positions(
    before: Mapping[str, Values], held: Mapping[str, Values], unread: Collection[str], at: datetime
) -> Iterator[Values]:
    """Yield what a reading adds to the history of positions.

    Args:
        before: the rows of the reading before, by symbol.
        held: those of this one.
        unread: symbols that are held and whose size could not be read: nothing is said of them.
        at: when it was read.
    """
    for symbol, row in held.items():
        if differs(before.get(symbol), row, _SIZES):
            yield row
    for symbol, row in before.items():
        if symbol not in held and symbol not in unread:
            yield {**row, **dict.fromkeys(_WORTH), "quantity": Decimal(0), "taken_at": at}


def append_positions(
    connection: Connection, where: str, at: datetime, held: Sequence[Values], unread: Collection[str]
) -> None:
    """Add a reading to the history of positions, where it says something new; must come before it is the snapshot.

    Args:
        connection: of the transaction that stores the reading.
        where: whose positions these are: a broker's, or those of one of its accounts.
        at: when they were read.
        held: rows for `position_snapshots`.
        unread: as in `changed_positions`.
    """
    before = {str(row["symbol"]): row for row in _snapshots(connection, position_snapshots, where)}
    new = list(changed_positions(before, {str(row["symbol"]): row for row in held}, unread, at))
    _insert(connection, position_history, [{**row, "broker": broker_of(where)} for row in new])


def append_money(connection: Connection, broker: str, accounts: Sequence[Values]) -> None:
    """Add a reading of accounts, rows for `account_snapshots`, to their history: those that say something new."""
    before = {row["account_id"]: row for row in _snapshots(connection, account_snapshots, broker)}
    _insert(connection, account_history, [a for a in accounts if differs(before.get(a["account_id"]), a, _AMOUNTS)])


def _snapshots(connection: Connection, table: Table, broker: str) -> list[Values]:
    rows = connection.execute(select(table).where(table.c.broker == broker)).mappings()
    return [cast(Values, dict(row)) for row in rows]


def _insert(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Write rows of snapshots as rows of a history."""
    if rows:
        dated = [{**row, "at": row["taken_at"], "day": _day(row)} for row in rows]
        connection.execute(insert(table), [{n: v for n, v in row.items() if n != "taken_at"} for row in dated])
