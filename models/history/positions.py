"""Positions: now, as the views have them, by the average too, and at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, case, func, select

from models.clock import utcnow
from models.destinations import destination_of, split
from models.errors import InvalidRequest
from models.history.views import Row, v_positions
from models.record.balance_tables import position_days, position_executions, position_states
from models.record.balances import Reckoning, ShortKey, executions, key_of, known, of_keys, since_kept
from models.record.database import Database
from models.record.destinations import destination
from models.record.lots import BalanceKey, Days, Execution, Lot, OpenLots, money, reckon
from models.record.one_look import one_look
from models.record.position_tables import told_executions
from models.record.tables import position_events
from models.record.trading_days import begin_of, day_of
from models.vocabulary import LotMethod

_ZERO = Decimal(0)
_BASELINE = "baseline"
#: Kinds of `position_events` that shifted a baseline: somebody's word, and what the broker told.
_SHIFTS = ("unlocked", "moved")
#: Days over which lots that were open are looked for, one stretch after the other; None is all there is before.
_LOOK_BACK = (4, 16, 64, 256, None)


def lot_method(method: str) -> LotMethod:
    """Read how lots are closed.

    Raises:
        InvalidRequest: there is no such method.
    """
    if method not in set(LotMethod):
        raise InvalidRequest(f"method: must be {' or '.join(LotMethod)}, was {method!r}")
    return LotMethod(method)


def key_in(row: Row) -> BalanceKey:
    """Return whose lots a row of a view is about."""
    return BalanceKey(*(row[name] or "" for name in BalanceKey._fields))


# -- NOW ---
def positions(
    database: Database, at: datetime | None, method: str, equal: Mapping[str, str | Sequence[str] | None]
) -> list[Row]:
    """Return positions now or at a moment, in the order of their names: see `models.history.positions`."""
    for name in equal:
        if name not in BalanceKey._fields:
            raise ValueError(f"v_positions cannot be filtered by {name!r}")
    chosen = lot_method(method)
    with one_look(database) as connection:
        if at is not None:
            if at > (now := utcnow()):
                raise InvalidRequest(
                    f"at: {at.isoformat()} is in the future, nobody knows it; now is {now.isoformat()}"
                )
            rows = _at(connection, at, chosen)
        else:
            rows = held_now(connection)
            if chosen is LotMethod.AVERAGE:
                rows = averaged(connection, rows, since_kept(connection))
    wanted = {name: [value] if isinstance(value, str) else value for name, value in equal.items() if value is not None}
    rows = [row for row in rows if all(row[name] in values for name, values in wanted.items())]
    return sorted(rows, key=lambda row: (row["symbol"], row["broker"], row["source"], row["strategy"] or ""))


def held_now(connection: Connection) -> list[Row]:
    """Return what is held."""
    return [dict(row) for row in connection.execute(select(v_positions)).mappings()]


def averaged(connection: Connection, rows: Sequence[Row], found: Reckoning) -> list[Row]:
    """Put the cost by the average in the place of that of the lots."""
    costs = {key_of(row): known(row.cost_average) for row in connection.execute(select(position_states))}
    costs |= {key: held.cost_average for key, held in found.holdings.items()}
    return [row if row["source"] == _BASELINE else row | _costs(row, costs[key_in(row)]) for row in rows]


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
    """Return what was there besides executions: as it is now, less what has shifted it since and lots followed."""
    p = position_events.c
    moved = func.sum(p.found - p.expected).label("moved")
    later = select(p.broker, p.symbol, moved).where(p.kind.in_(_SHIFTS), p.at > at).group_by(p.broker, p.symbol)
    t = told_executions.c
    told = select(destination(told_executions).label("broker"), t.symbol, func.sum(-t.moved).label("moved"))
    told = told.where(t.filled_at > at).group_by(t.broker, t.account, t.symbol)
    rows = {(destination_of(row), row["symbol"]): row for row in held_now(connection) if row["source"] == _BASELINE}
    for change in [*connection.execute(later), *connection.execute(told)]:
        blank = dict.fromkeys((column.name for column in v_positions.c), None) | {
            "symbol": change.symbol, "strategy": "(baseline)", "source": _BASELINE,
            "quantity": _ZERO, "currency": "USD", "multiplier": Decimal(1),
        }  # fmt: skip
        blank["broker"], blank["account"] = split(change.broker)
        row = rows.setdefault((change.broker, change.symbol), blank)
        row["quantity"] = round(row["quantity"] - Decimal(str(change.moved)), 9)
    return [row for row in rows.values() if row["quantity"]]
