"""Reads balances: what is kept of old executions, and what the executions since make of it.

The views do the same for first in, first out; the average, and the lots that were open at a moment, are reckoned here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, CompoundSelect, Connection, Row, Table, select, tuple_, union

from models.record.balance_tables import (
    position_changes,
    position_days,
    position_executions,
    position_lots,
    position_progress,
    position_states,
)
from models.record.lots import UNKNOWN, BalanceKey, DayBalance, Days, Execution, Lot, OpenLots, reckon
from models.record.position_tables import told_executions

#: A row, whose columns are read by name.
Stored = Row[Any]
_KEY = BalanceKey._fields
#: Of executions: our own, and those of others.
SOURCES = ("ours", "external")
#: Above all ids that there will be; lines that are no trades have theirs less this, so they are never among the new.
_FAR = 10**12
#: Keys in one statement.
_KEYS = 300


class ShortKey(NamedTuple):
    """Which lots a changed execution may touch, in whatever account and currency."""

    source: str
    broker: str
    strategy: str
    symbol: str

    @classmethod
    def of(cls, key: BalanceKey) -> ShortKey:
        """Return the short key of a key."""
        return cls(key.source, key.broker, key.strategy, key.symbol)


@dataclass(slots=True)
class Reckoning:
    """What some executions make of what is kept."""

    #: Reckoned from the beginning, so that nothing kept of them counts.
    stale: set[ShortKey]
    holdings: dict[BalanceKey, OpenLots] = field(default_factory=dict)
    #: With what is kept of the same days.
    days: Days = field(default_factory=dict)


def since_kept(connection: Connection) -> Reckoning:
    """Reckon the executions that came since balances were kept."""
    e, p = position_executions.c, position_progress.c
    changed = select(*(position_changes.c[name] for name in ShortKey._fields)).distinct()
    stale = {ShortKey(*row) for row in connection.execute(changed)}
    fresh: list[Execution] = []
    for row in connection.execute(select(p.source, p.kept_id)).all():
        fresh += executions(connection, e.source == row.source, e.id > row.kept_id)
    return reckoned(connection, fresh, stale)


def touched() -> CompoundSelect[Any]:
    """Return the query of the short keys of which what is kept may not be all: something changed, or came since."""
    e, p = position_executions.c, position_progress.c
    found = [select(*(position_changes.c[name] for name in ShortKey._fields))]
    for source in SOURCES:
        kept = select(p.kept_id).where(p.source == source).scalar_subquery()
        since = e.id > kept, e.id < kept + _FAR  # of a range PostgreSQL guesses few, of `>` alone a third of all
        found.append(select(*(e[name] for name in ShortKey._fields)).where(e.source == source, *since))
    return union(*found)


def reckoned(
    connection: Connection, fresh: Iterable[Execution], stale: set[ShortKey], *and_of_stale: ColumnElement[bool]
) -> Reckoning:
    """Apply new executions to what is kept.

    Args:
        connection: of the transaction.
        fresh: the new executions.
        stale: keys of which nothing kept counts: all their executions are read again.
        and_of_stale: which of these, where not all.
    """
    fresh = list(fresh)
    held = _states(connection, {one.key for one in fresh if ShortKey.of(one.key) not in stale})
    found = Reckoning(stale | {ShortKey.of(one.key) for one in fresh if _is_late(one, held)})
    found.holdings = {key: holding for key, holding in held.items() if ShortKey.of(key) not in found.stale}
    _lots(connection, found.holdings)
    new = [one for one in fresh if ShortKey.of(one.key) not in found.stale]
    for short in found.stale:
        same = [position_executions.c[name] == value for name, value in short._asdict().items()]
        new += executions(connection, *same, *and_of_stale)
    found.days = reckon(new, found.holdings)
    _add_kept(connection, found)
    return found


def _is_late(execution: Execution, holdings: Mapping[BalanceKey, OpenLots]) -> bool:
    held = holdings.get(execution.key)
    return held is not None and held.last_at is not None and execution.filled_at < held.last_at


def executions(connection: Connection, *where: ColumnElement[bool]) -> list[Execution]:
    """Return executions that stand, in no order."""
    rows = connection.execute(select(position_executions).where(*where)).all()
    averages = _average_prices(connection) if any(row.id < 0 for row in rows) else {}
    return [
        Execution(
            key_of(row), row.id, row.shares, row.price, row.multiplier, row.fee,
            row.fee_currency, row.filled_at, row.day, averages.get(row.id),
        )
        for row in rows
    ]  # fmt: skip


def _average_prices(connection: Connection) -> dict[int, Decimal]:
    """Return at which prices the average takes lines that are no trades, where those are others than of the lots."""
    t = told_executions.c
    return {
        row.id - _FAR: row.average_price
        for row in connection.execute(select(t.id, t.average_price).where(t.average_price.is_not(None)))
    }


def key_of(row: Stored) -> BalanceKey:
    """Return whose lots a row is about."""
    return BalanceKey(*(getattr(row, name) for name in _KEY))


def known(value: Decimal | None) -> Decimal:
    """Return an amount to reckon with: NaN where it is not known."""
    return UNKNOWN if value is None else value


def _states(connection: Connection, keys: Collection[BalanceKey]) -> dict[BalanceKey, OpenLots]:
    found = {}
    for row in _rows_of(connection, position_states, keys):
        held = OpenLots(row.multiplier, row.quantity, known(row.cost_average), last_at=row.last_at)
        found[key_of(row)] = held
    return found


def _lots(connection: Connection, holdings: Mapping[BalanceKey, OpenLots]) -> None:
    for row in _rows_of(connection, position_lots, holdings, "no"):
        key = key_of(row)
        holdings[key].lots.append(Lot(row.shares, known(row.price), row.filled_at, row.no, row.shares))
        holdings[key].last_no = row.no


def _rows_of(
    connection: Connection, table: Table, keys: Collection[BalanceKey], order: str | None = None
) -> list[Stored]:
    ordered = [table.c[order]] if order else []
    found: list[Stored] = []
    for some in of_keys(table, keys):
        found += connection.execute(select(table).where(some).order_by(*ordered))
    return found


def of_keys(table: Table, keys: Collection[BalanceKey]) -> Iterator[ColumnElement[bool]]:
    """Yield conditions that together find the rows of these keys."""
    columns, listed = [table.c[name] for name in _KEY], [tuple(key) for key in keys]
    for start in range(0, len(listed), _KEYS):
        yield tuple_(*columns).in_(listed[start : start + _KEYS])


def _add_kept(connection: Connection, found: Reckoning) -> None:
    """Add to the days of these executions what is kept of the same days."""
    keys = {key for key, _ in found.days if ShortKey.of(key) not in found.stale}
    first: date = min((day for _, day in found.days), default=date.max)
    for some in of_keys(position_days, keys):
        for row in connection.execute(select(position_days).where(some, position_days.c.day >= first)):
            place = key_of(row), row.day
            if (day := found.days.get(place)) is not None:
                _add(day, row)


def _add(day: DayBalance, row: Stored) -> None:
    if day.quantity is None and row.quantity is not None:  # only a fee came
        day.quantity, day.cost, day.cost_average = row.quantity, known(row.cost), known(row.cost_average)
    day.realized += known(row.realized)
    day.realized_average += known(row.realized_average)
    day.fees = row.fees if day.fees is None else day.fees + (row.fees or 0)
    day.fees_missing += row.fees_missing
