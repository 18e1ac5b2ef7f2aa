"""Keeps balances: what old executions come to is written down, so that a question adds up what came since, not years.

Nothing of this is in the way of an order. A turn reads and reckons without a lock and writes in one short transaction,
which counts only if nobody else has written since it read. An execution is kept in two steps: first its id is marked,
and from then on a trigger tells who changes it; a later turn reads it and keeps it. So no change falls between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from models.record.balance_tables import (
    position_changes,
    position_days,
    position_executions,
    position_lots,
    position_progress,
    position_states,
)
from models.record.balances import Reckoning, ShortKey, executions, of_keys, reckoned
from models.record.database import Database
from models.record.lots import BalanceKey, DayBalance, Execution, Lot, OpenLots, money
from models.record.tables import external_fills, fills

_SOURCES = {"ours": fills, "external": external_fills}
#: Executions of so long ago are marked: nobody can be about to commit an older one any more.
SETTLE = timedelta(minutes=10)
#: What is marked is kept only after so long: a transaction that began before the mark is over by then.
PATIENCE = timedelta(seconds=30)
#: Executions that one turn keeps: its transaction is short, for on SQLite the whole fleet waits for it.
MOST = 500


@dataclass(slots=True)
class Turn:
    """What one turn has read and reckoned, and will write."""

    source: str
    number: int
    up_to: int
    #: Ids of the changes that it takes into account.
    changes: list[int]
    #: Executions that it keeps.
    count: int
    found: Reckoning


def keep(
    database: Database, now: datetime, *, settle: timedelta = SETTLE, patience: timedelta = PATIENCE, most: int = MOST
) -> int:
    """Keep what can be kept, at most one transaction for each source; returns how many executions were.

    Args:
        database: the record.
        now: the time.
        settle: how old an execution has to be to be marked.
        patience: how long it is marked before it is kept.
        most: how many executions one turn keeps.

    Raises:
        DatabaseUnavailable: the record cannot be reached.
    """
    count = 0
    for source in _SOURCES:
        with database.read() as connection:
            turn = _read(connection, source, now - patience, most)
        if turn.changes or turn.count:
            database.transact(lambda c, turn=turn: _write(c, turn))  # type: ignore[misc]
        _mark(database, source, now, settle)
        count += turn.count
    return count


def _mark(database: Database, source: str, now: datetime, settle: timedelta) -> None:
    """Mark what is old enough, once everything that was marked before is kept."""
    p, table = position_progress.c, _SOURCES[source]
    with database.read() as connection:
        row = connection.execute(select(position_progress).where(p.source == source)).one()
        if row.marked_id > row.kept_id:
            return
        old = (table.c.id > row.marked_id) & (table.c.recorded_at < now - settle)
        top = connection.execute(select(func.max(table.c.id)).where(old)).scalar()
    if top is not None:
        marked = update(position_progress).where(p.source == source, p.marked_id < top)
        database.transact(lambda c: c.execute(marked.values(marked_id=top, marked_at=now)))


# -- READING ---
def _read(connection: Connection, source: str, marked_before: datetime, most: int) -> Turn:
    p, e, c = position_progress.c, position_executions.c, position_changes.c
    row = connection.execute(select(position_progress).where(p.source == source)).one()
    up_to, fresh = row.kept_id, list[Execution]()
    if row.marked_id > row.kept_id and row.marked_at <= marked_before:
        table = _SOURCES[source]
        ids = select(table.c.id).where(table.c.id > row.kept_id, table.c.id <= row.marked_id)
        found = list(connection.execute(ids.order_by(table.c.id).limit(most)).scalars())
        up_to = found[-1] if len(found) == most else row.marked_id
        fresh = executions(connection, e.source == source, e.id > row.kept_id, e.id <= up_to)
    changes = connection.execute(select(position_changes).where(c.source == source).limit(most)).all()
    stale = {ShortKey(change.source, change.broker, change.strategy, change.symbol) for change in changes}
    reckoning = reckoned(connection, fresh, stale, e.id <= up_to)
    return Turn(source, row.turn, up_to, [change.id for change in changes], up_to - row.kept_id, reckoning)


# -- WRITING ---
def _write(connection: Connection, turn: Turn) -> None:
    p = position_progress.c
    mine = (p.source == turn.source) & (p.turn == turn.number)
    step = update(position_progress).where(mine).values(kept_id=turn.up_to, turn=turn.number + 1)
    if connection.execute(step).rowcount != 1:
        return  # somebody else was faster
    if turn.changes:
        connection.execute(delete(position_changes).where(position_changes.c.id.in_(turn.changes)))
    found = turn.found
    for table in (position_days, position_states, position_lots):
        for short in found.stale:
            connection.execute(delete(table).where(*(table.c[n] == value for n, value in short._asdict().items())))
    for some in of_keys(position_states, found.holdings):
        connection.execute(delete(position_states).where(some))
    grown = [(key, day) for key, day in found.days if ShortKey.of(key) not in found.stale]
    if grown:
        same = [position_days.c[name] == bindparam(f"of_{name}") for name in BalanceKey._fields]
        place = delete(position_days).where(*same, position_days.c.day == bindparam("of_day"))
        connection.execute(place, [_place(key) | {"of_day": day} for key, day in grown])
    _insert(connection, position_days, [_day_row(key, day, balance) for (key, day), balance in found.days.items()])
    _insert(connection, position_states, [_state_row(key, held) for key, held in found.holdings.items()])
    _write_lots(connection, found.holdings)


def _place(key: BalanceKey) -> dict[str, object]:
    return {f"of_{name}": value for name, value in key._asdict().items()}


def _insert(connection: Connection, table: Table, rows: list[dict[str, object]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _day_row(key: BalanceKey, day: date, balance: DayBalance) -> dict[str, object]:
    is_position = balance.quantity is not None
    return key._asdict() | {
        "day": day, "quantity": balance.quantity, "cost": money(balance.cost) if is_position else None,
        "cost_average": money(balance.cost_average) if is_position else None, "realized": money(balance.realized),
        "realized_average": money(balance.realized_average), "fees": money(balance.fees),
        "fees_missing": balance.fees_missing, "multiplier": balance.multiplier,
    }  # fmt: skip


def _state_row(key: BalanceKey, held: OpenLots) -> dict[str, object]:
    return key._asdict() | {
        "quantity": held.quantity, "cost": money(held.cost), "cost_average": money(held.cost_average),
        "multiplier": held.multiplier, "last_at": held.last_at,
    }  # fmt: skip


def _write_lots(connection: Connection, holdings: Mapping[BalanceKey, OpenLots]) -> None:
    """Write what has changed of the lots: the oldest went, the first that is left may be smaller, some came."""
    same = [position_lots.c[name] == bindparam(f"of_{name}") for name in BalanceKey._fields]
    no = position_lots.c.no
    gone, smaller, new = [], [], list[dict[str, object]]()
    for key, held in holdings.items():
        place = _place(key)
        left = [lot for lot in held.lots if lot.no is not None]
        if held.last_no:
            gone.append(place | {"before": left[0].no if left else held.last_no + 1})
        smaller += [place | {"of_no": lot.no, "now": lot.shares} for lot in left[:1] if lot.shares != lot.kept]
        come = [lot for lot in held.lots if lot.no is None]
        new += [_lot_row(key, held, lot, held.last_no + n) for n, lot in enumerate(come, 1)]
    if gone:
        connection.execute(delete(position_lots).where(*same, no < bindparam("before")), gone)
    if smaller:
        connection.execute(
            update(position_lots).where(*same, no == bindparam("of_no")).values(shares=bindparam("now")), smaller
        )
    _insert(connection, position_lots, new)


def _lot_row(key: BalanceKey, held: OpenLots, lot: Lot, no: int) -> dict[str, object]:
    return key._asdict() | {
        "no": no, "shares": lot.shares, "price": money(lot.price), "multiplier": held.multiplier,
        "filled_at": lot.filled_at,
    }  # fmt: skip
