"""Positions and profit: the views' rows, by the average too, as of a moment, and added up.

The views close lots by first in, first out. Whatever else is asked is reckoned from the same executions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    String,
    Subquery,
    Table,
    case,
    func,
    null,
    or_,
    select,
    true,
    tuple_,
)

from models.clock import utcnow
from models.destinations import destination_of, split
from models.errors import InvalidRequest
from models.history.views import QueryOf, Row, v_pnl, v_positions
from models.record.balance_tables import position_days, position_executions, position_states
from models.record.balances import Reckoning, ShortKey, executions, key_of, known, of_keys, since_kept, touched
from models.record.database import Database
from models.record.lots import UNKNOWN, BalanceKey, Days, Execution, Lot, OpenLots, money, reckon
from models.record.one_look import one_look
from models.record.tables import position_events
from models.record.trading_days import begin_of, day_of
from models.vocabulary import LotMethod

#: Makes the query of the rows that count, of `v_pnl` or of something with its columns.
Chosen = Callable[[Table | Subquery], QueryOf]

_ZERO = Decimal(0)
_BASELINE = "baseline"
#: Kinds of `position_events` that shifted a baseline: somebody's word, and what the broker told.
_SHIFTS = ("unlocked", "moved")
#: Days over which lots that were open are looked for, one stretch after the other; None is all there is before.
_LOOK_BACK = (4, 16, 64, 256, None)
_AMOUNTS = ("realized", "unrealized", "fees", "fees_missing")
_PERIODS: dict[str, Callable[[date], str]] = {
    "week": lambda day: "{}-W{:02}".format(*day.isocalendar()[:2]),
    "month": lambda day: f"{day:%Y-%m}",
    "year": lambda day: f"{day:%Y}",
}
#: What profit may be added up by.
GROUPS = ("day", *_PERIODS, "broker", "account", "strategy", "symbol", "source", "currency")


# -- PROFIT ---
def pnl(database: Database, chosen: Chosen, method: str) -> list[Row]:
    """Return rows of `v_pnl`, newest first: see `models.history.pnl`."""
    is_average = _method(method) is LotMethod.AVERAGE
    with one_look(database) as connection:
        rows = _rows(connection, chosen(v_pnl).order_by(v_pnl.c.day.desc()))
        if is_average:
            _average(connection, rows, since_kept(connection), true())
    return rows


def sums(database: Database, chosen: Chosen, groups: Sequence[Sequence[str] | str], method: str) -> list[list[Row]]:
    """Return the sums by each of several groups: see `models.history.pnl`.

    | row of `v_pnl`                                  | it is                            |
    |-------------------------------------------------|----------------------------------|
    | of today, or of lots in which something is new  | read, and reckoned, by itself    |
    | of a day that is over, with nothing new         | added up where it is kept, by SQL |

    Args:
        database: the record.
        chosen: the rows that count.
        groups: what to add up by, each time.
        method: how lots are closed.
    """
    wanted, is_average = [_names(by) for by in groups], _method(method) is LotMethod.AVERAGE
    today = day_of(utcnow())
    with one_look(database) as connection:
        rows = _rows(connection, chosen(v_pnl).where(_is_apart(v_pnl, today)))
        held: Callable[[], list[Row]] = partial(_held, connection)
        if is_average:
            averaged = _average(connection, rows, since_kept(connection), _is_apart(position_days, today))
            held = partial(list, averaged)
        _mark_unknown(rows, held)
        kept = _kept(today, "realized_average" if is_average else "realized")
        shared = _shared(wanted)
        added = {by: _rows(connection, _summed(chosen(kept), kept, by)) for by in set(shared)}
    return [_added_up([*rows, *added[asked]], by) for by, asked in zip(wanted, shared, strict=True)]


def _shared(wanted: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return by what the database adds up for each group: those without days are few rows, and are parts of one sum."""
    dated = [any(name == "day" or name in _PERIODS for name in by) for by in wanted]
    others = dict.fromkeys(name for by, is_dated in zip(wanted, dated, strict=True) if not is_dated for name in by)
    return [tuple(by) if is_dated else tuple(others) for by, is_dated in zip(wanted, dated, strict=True)]


def _rows(connection: Connection, query: QueryOf) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _is_apart(table: Table, today: date) -> ColumnElement[bool]:
    """Tell of a day whether its kept balance may not be all of it."""
    c = table.c
    whose = tuple_(c.source, c.broker, func.coalesce(c.strategy, ""), c.symbol)
    return or_(c.day >= today, whose.in_(touched()))


def _kept(today: date, realized: str) -> Subquery:
    """Return the kept balances that are all there is of their days, with the columns of `v_pnl`."""
    d = position_days.c
    texts = (func.nullif(d[name], "").label(name) for name in ("account", "strategy"))
    amounts = (d[realized].label("realized"), null().label("unrealized"), d.fees, d.fees_missing)
    query = select(d.day, d.source, d.broker, *texts, d.symbol, d.currency, *amounts).where(
        ~_is_apart(position_days, today)
    )
    return query.subquery(v_pnl.name)


def _summed(query: QueryOf, kept: Subquery, names: Sequence[str]) -> QueryOf:
    """Let the database add up; a sum is null where one of its parts is not known."""
    by = [kept.c[name] for name in dict.fromkeys([*("day" if n in _PERIODS else n for n in names), "currency"])]
    realized = case((func.count(kept.c.realized) == func.count(), func.sum(kept.c.realized))).label("realized")
    fees = (func.sum(kept.c[name]).label(name) for name in ("fees", "fees_missing"))
    return query.with_only_columns(*by, realized, null().label("unrealized"), *fees).group_by(*by)


def _mark_unknown(rows: Sequence[Row], held: Callable[[], Sequence[Row]]) -> None:
    """Tell what is open and has no known worth from what is not open: of both the view says null."""
    now = utcnow()
    doubtful = [row for row in rows if row["unrealized"] is None and row["day"] == day_of(now, row["symbol"])]
    if doubtful:
        unknown = {_key(row) for row in held() if row["unrealized"] is None}
        for row in doubtful:
            if _key(row) in unknown:
                row["unrealized"] = UNKNOWN


def pnl_columns(by: Sequence[str] | str | None) -> Table:
    """Return the table whose columns `pnl` has."""
    if by is None:
        return v_pnl
    names = _names(by)
    kept = [v_pnl.c[name]._copy() if name in v_pnl.c else Column(name, String) for name in names]
    return Table(
        "pnl", MetaData(), *kept, *(v_pnl.c[name]._copy() for name in ("currency", *_AMOUNTS) if name not in names)
    )


def _names(by: Sequence[str] | str) -> list[str]:
    names = list(dict.fromkeys([by] if isinstance(by, str) else by))
    for name in names:
        if name not in GROUPS:
            raise InvalidRequest(f"by: must be of {', '.join(GROUPS)}, was {name!r}")
    return names


def _method(method: str) -> LotMethod:
    if method not in set(LotMethod):
        raise InvalidRequest(f"method: must be {' or '.join(LotMethod)}, was {method!r}")
    return LotMethod(method)


def _added_up(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Add up rows; a sum is null where one of its parts is not known, a fee that is missing is counted instead."""
    sums: dict[tuple[object, ...], Row] = {}
    for row in rows:
        place = tuple(_PERIODS[name](row["day"]) if name in _PERIODS else row[name] for name in names)
        blank = {"realized": _ZERO, "unrealized": None, "fees": _ZERO, "fees_missing": 0}
        total = sums.setdefault((*place, row["currency"]), {**dict(zip(names, place, strict=True)), **blank})
        total["currency"] = row["currency"]
        total["realized"] += known(row["realized"])
        for name in ("unrealized", "fees"):
            if row[name] is not None:
                total[name] = (total[name] or _ZERO) + row[name]
        total["fees_missing"] += row["fees_missing"]
    for total in sums.values():
        total |= {name: money(total[name]) for name in ("realized", "unrealized")}
        if total["fees_missing"] and not total["fees"]:  # none of them is known: that is not nothing
            total["fees"] = None
    return _in_order(sums)


def _in_order(sums: Mapping[tuple[object, ...], Row]) -> list[Row]:
    return [sums[place] for place in sorted(sums, key=lambda place: [str(part or "") for part in place])]


def _average(connection: Connection, rows: Sequence[Row], found: Reckoning, those: ColumnElement[bool]) -> list[Row]:
    """Put profit by the average in the place of that by first in, first out.

    Args:
        connection: to read by.
        rows: of `v_pnl`, which change.
        found: what executions came to since balances were kept.
        those: says which kept days the rows are made of.

    Returns:
        What is held, with its cost by the average.
    """
    first, last = (choice((row["day"] for row in rows), default=date.max) for choice in (min, max))
    d = position_days.c
    kept = select(position_days).where(those, d.day >= first, d.day <= last)
    realized = {
        (key_of(row), row.day): known(row.realized_average)
        for row in connection.execute(kept)
        if ShortKey.of(key_of(row)) not in found.stale
    }
    realized |= {place: day.realized_average for place, day in found.days.items()}
    held = _averaged(connection, _held(connection), found)
    positions = {_key(row): row for row in held}
    for row in rows:
        row["realized"] = money(realized.get((_key(row), row["day"]), _ZERO))
        if row["unrealized"] is not None:
            row["unrealized"] = positions[_key(row)]["unrealized"]
    return held


def _key(row: Row) -> BalanceKey:
    return BalanceKey(*(row[name] or "" for name in BalanceKey._fields))


# -- POSITIONS ---
def positions(
    database: Database, at: datetime | None, method: str, equal: Mapping[str, str | Sequence[str] | None]
) -> list[Row]:
    """Return positions now or at a moment, in the order of their names: see `models.history.positions`."""
    for name in equal:
        if name not in BalanceKey._fields:
            raise ValueError(f"v_positions cannot be filtered by {name!r}")
    chosen = _method(method)
    with one_look(database) as connection:
        if at is not None:
            if at > (now := utcnow()):
                raise InvalidRequest(
                    f"at: {at.isoformat()} is in the future, nobody knows it; now is {now.isoformat()}"
                )
            rows = _at(connection, at, chosen)
        else:
            rows = _held(connection)
            if chosen is LotMethod.AVERAGE:
                rows = _averaged(connection, rows, since_kept(connection))
    wanted = {name: [value] if isinstance(value, str) else value for name, value in equal.items() if value is not None}
    rows = [row for row in rows if all(row[name] in values for name, values in wanted.items())]
    return sorted(rows, key=lambda row: (row["symbol"], row["broker"], row["source"], row["strategy"] or ""))


def _held(connection: Connection) -> list[Row]:
    return [dict(row) for row in connection.execute(select(v_positions)).mappings()]


def _averaged(connection: Connection, rows: Sequence[Row], found: Reckoning) -> list[Row]:
    """Put the cost by the average in the place of that of the lots."""
    costs = {key_of(row): known(row.cost_average) for row in connection.execute(select(position_states))}
    costs |= {key: held.cost_average for key, held in found.holdings.items()}
    return [row if row["source"] == _BASELINE else row | _costs(row, costs[_key(row)]) for row in rows]


def _costs(row: Row, cost: Decimal) -> Row:
    worth = None if row["price"] is None else row["quantity"] * row["price"] * row["multiplier"] - cost
    average = cost / row["quantity"] / row["multiplier"]
    return {"cost": money(cost), "avg_price": money(average), "unrealized": money(worth)}


# -- AT A MOMENT ---
def _at(connection: Connection, at: datetime, method: LotMethod) -> list[Row]:
    """Take the balances at the end of the day before, and apply the day's executions up to the moment."""
    today = {symbol: day_of(at, symbol) for symbol in ("", "/")}
    found = since_kept(connection)
    days = _ends(connection, found, today)
    e = position_executions.c
    since = min(begin_of(day, symbol) for symbol, day in today.items())
    lately = executions(connection, e.filled_at >= since, e.filled_at <= at)
    moved = [one for one in lately if one.day == today["/" if "/" in one.key.symbol else ""]]
    holdings = {one.key: days.pop(one.key) for one in moved if one.key in days}
    if method is LotMethod.FIFO:
        _reopen(connection, holdings, {symbol: begin_of(day, symbol) for symbol, day in today.items()})
    reckon(moved, holdings)
    rows = []
    for key, held in {**days, **holdings}.items():
        cost = held.cost if key in holdings else held.kept_cost
        if held.quantity:
            rows.append(_row(key, held, held.cost_average if method is LotMethod.AVERAGE else cost))
    return [*rows, *_baselines(connection, at)]


def _ends(connection: Connection, found: Reckoning, today: Mapping[str, date]) -> dict[BalanceKey, OpenLots]:
    """Return what each key held at the end of its last day before today."""
    d, s = position_days.c, position_states.c
    of_key = [d[name] == s[name] for name in BalanceKey._fields]
    before = case((s.symbol.like("%/%"), today["/"]), else_=today[""])
    last = select(position_days).where(*of_key, d.day < before, d.quantity.is_not(None)).order_by(d.day.desc()).limit(1)
    # One look into the index a column and key: a join may read all days of all keys.
    told = (d.day, d.quantity, d.cost, d.cost_average, d.multiplier)
    looked_up = [last.with_only_columns(column).scalar_subquery().label(column.name) for column in told]
    newest = select(*(s[name] for name in BalanceKey._fields), *looked_up)
    ends: dict[BalanceKey, tuple[date, OpenLots]] = {}
    for row in connection.execute(newest):
        if row.day is not None and ShortKey.of(key_of(row)) not in found.stale:
            held = OpenLots(row.multiplier, row.quantity, known(row.cost_average), kept_cost=known(row.cost))
            ends[key_of(row)] = row.day, held
    for (key, day), balance in _before(found.days, today).items():
        if balance.quantity is not None and (key not in ends or day >= ends[key][0]):
            held = OpenLots(balance.multiplier, balance.quantity, balance.cost_average, kept_cost=balance.cost)
            ends[key] = day, held
    return {key: held for key, (_, held) in ends.items()}


def _before(days: Days, today: Mapping[str, date]) -> Days:
    return {place: day for place, day in days.items() if place[1] < today["/" if "/" in place[0].symbol else ""]}


def _reopen(connection: Connection, holdings: Mapping[BalanceKey, OpenLots], begins: Mapping[str, datetime]) -> None:
    """Find the lots that were open: whoever closes takes the oldest, so they are the newest of their side.

    Of all keys at once, and each time over a longer while before: most lots are young.
    """
    rest = {key: held.quantity for key, held in holdings.items() if held.quantity}
    until, e = max(begins.values()), position_executions.c
    for days in _LOOK_BACK:
        if not rest:
            return
        since = None if days is None else until - timedelta(days=days)
        during = [e.filled_at < until] if since is None else [e.filled_at < until, e.filled_at >= since]
        found = [
            one for some in of_keys(position_executions, list(rest)) for one in executions(connection, some, *during)
        ]
        for one in sorted(found, key=_by_time, reverse=True):
            left = rest.get(one.key, _ZERO)
            if one.filled_at < begins["/" if "/" in one.key.symbol else ""] and left * one.shares > 0:
                part = min(left, one.shares, key=abs)
                holdings[one.key].lots.appendleft(Lot(part, known(one.price), one.filled_at))
                rest[one.key] -= part
        rest = {key: left for key, left in rest.items() if left}
        until = since or until


def _by_time(one: Execution) -> tuple[datetime, int]:
    return one.filled_at, one.id


def _row(key: BalanceKey, held: OpenLots, cost: Decimal) -> Row:
    blank = dict.fromkeys((column.name for column in v_positions.c), None)
    names = {name: value or None for name, value in key._asdict().items()}
    average = money(cost / held.quantity / held.multiplier)
    return blank | names | {
        "quantity": held.quantity, "multiplier": held.multiplier, "cost": money(cost), "avg_price": average,
    }  # fmt: skip


def _baselines(connection: Connection, at: datetime) -> list[Row]:
    """Return what was there besides executions: as it is now, less what has shifted it since."""
    p = position_events.c
    moved = func.sum(p.found - p.expected).label("moved")
    later = select(p.broker, p.symbol, moved).where(p.kind.in_(_SHIFTS), p.at > at).group_by(p.broker, p.symbol)
    rows = {(destination_of(row), row["symbol"]): row for row in _held(connection) if row["source"] == _BASELINE}
    for change in connection.execute(later):
        blank = dict.fromkeys((column.name for column in v_positions.c), None) | {
            "symbol": change.symbol, "strategy": "(baseline)", "source": _BASELINE,
            "quantity": _ZERO, "currency": "USD", "multiplier": Decimal(1),
        }  # fmt: skip
        blank["broker"], blank["account"] = split(change.broker)
        row = rows.setdefault((change.broker, change.symbol), blank)
        row["quantity"] = round(row["quantity"] - Decimal(str(change.moved)), 9)
    return [row for row in rows.values() if row["quantity"]]
