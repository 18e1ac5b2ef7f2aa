"""Profit: the rows of the view, by the average too, added up, and in another currency.

The views close lots by first in, first out. Whatever else is asked is reckoned from the same executions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import partial

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
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
from models.errors import InvalidRequest
from models.history import rates
from models.history.positions import averaged, held_now, key_in, lot_method
from models.history.views import QueryOf, Row, v_pnl
from models.record.balance_tables import position_days
from models.record.balances import Reckoning, ShortKey, key_of, known, since_kept, touched
from models.record.columns import Money, UtcTime
from models.record.database import Database
from models.record.lots import UNKNOWN, money
from models.record.one_look import one_look
from models.record.trading_days import day_of
from models.vocabulary import LotMethod

#: Makes the query of the rows that count, of `v_pnl` or of something with its columns.
Chosen = Callable[[Table | Subquery], QueryOf]

_ZERO = Decimal(0)
#: Of columns that the view has not, those that are no text.
_TYPES: Mapping[str, type[Money | UtcTime | Integer]] = {"rate": Money, "rate_at": UtcTime, "rates_missing": Integer}
_AMOUNTS = ("realized", "unrealized", "fees", "fees_missing")
_PERIODS: dict[str, Callable[[date], str]] = {
    "week": lambda day: "{}-W{:02}".format(*day.isocalendar()[:2]),
    "month": lambda day: f"{day:%Y-%m}",
    "year": lambda day: f"{day:%Y}",
}
#: What profit may be added up by.
GROUPS = ("day", *_PERIODS, "broker", "account", "strategy", "symbol", "source", "currency")


# -- PROFIT ---
def pnl(database: Database, chosen: Chosen, method: str, into: str | None = None) -> list[Row]:
    """Return rows of `v_pnl`, newest first: see `models.history.pnl`."""
    into = None if into is None else rates.wanted_currency(into)
    is_average = lot_method(method) is LotMethod.AVERAGE
    with one_look(database) as connection:
        rows = _rows(connection, chosen(v_pnl).order_by(v_pnl.c.day.desc()))
        if is_average:
            _average(connection, rows, since_kept(connection), true())
        if into:
            rows = [rates.alone(row) for row in rates.Rates(connection, into).convert(rows)]
    return rows


def sums(
    database: Database, chosen: Chosen, groups: Sequence[Sequence[str] | str], method: str, into: str | None = None
) -> list[list[Row]]:
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
        into: the currency of all amounts, each day's by its rate; None leaves them in those they are in.
    """
    wanted, is_average = [_names(by) for by in groups], lot_method(method) is LotMethod.AVERAGE
    into = None if into is None else rates.wanted_currency(into)
    today = day_of(utcnow())
    with one_look(database) as connection:
        rows = _rows(connection, chosen(v_pnl).where(_is_apart(v_pnl, today)))
        held: Callable[[], list[Row]] = partial(held_now, connection)
        if is_average:
            by_average = _average(connection, rows, since_kept(connection), _is_apart(position_days, today))
            held = partial(list, by_average)
        _mark_unknown(rows, held)
        kept = _kept(today, "realized_average" if is_average else "realized")
        shared = _shared([["day", *by] for by in wanted] if into else wanted)
        added = {by: _rows(connection, _summed(chosen(kept), kept, by)) for by in set(shared)}
        if into:
            found = rates.Rates(connection, into)
            rows, added = found.convert(rows), {by: found.convert(sums) for by, sums in added.items()}
    names = [_shown(by, into) for by in wanted]
    return [_added_up([*rows, *added[asked]], by) for by, asked in zip(names, shared, strict=True)]


def _shown(names: Sequence[str], into: str | None) -> list[str]:
    """Return what to add up by: where all is in one currency, the one it was traded in is another column."""
    return ["traded_in" if into and name == "currency" else name for name in names]


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
        unknown = {key_in(row) for row in held() if row["unrealized"] is None}
        for row in doubtful:
            if key_in(row) in unknown:
                row["unrealized"] = UNKNOWN


def pnl_columns(by: Sequence[str] | str | None, into: str | None = None) -> Table:
    """Return the table whose columns `pnl` has."""
    if by is None:
        names, rest = [column.name for column in v_pnl.c], ["traded_in"]
    else:
        names, rest = _shown(_names(by), into), ["currency", *_AMOUNTS]
    every = dict.fromkeys([*names, *rest, *rates.COLUMNS] if into else [*names, *rest] if by else names)
    kept = (v_pnl.c[n]._copy() if n in v_pnl.c else Column(n, _TYPES.get(n, String)) for n in every)
    return Table("pnl", MetaData(), *kept)


def _names(by: Sequence[str] | str) -> list[str]:
    names = list(dict.fromkeys([by] if isinstance(by, str) else by))
    for name in names:
        if name not in GROUPS:
            raise InvalidRequest(f"by: must be of {', '.join(GROUPS)}, was {name!r}")
    return names


def _added_up(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Add up rows; a sum is null where one of its parts is not known, a fee that is missing is counted instead."""
    sums: dict[tuple[object, ...], Row] = {}
    converted: dict[tuple[object, ...], list[Row]] = {}
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
        if "by" in row:
            converted.setdefault((*place, row["currency"]), []).append(row)
    for place, total in sums.items():
        if place in converted:
            total |= {"fees": money(total["fees"])} | rates.told(converted[place])
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
    held = averaged(connection, held_now(connection), found)
    positions = {key_in(row): row for row in held}
    for row in rows:
        row["realized"] = money(realized.get((key_in(row), row["day"]), _ZERO))
        if row["unrealized"] is not None:
            row["unrealized"] = positions[key_in(row)]["unrealized"]
    return held
