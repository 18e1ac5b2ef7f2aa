"""What a day has brought: gain less fees, from the fills, at average cost.

What a broker has told besides trades counts as well, as it does in profit and loss (`models.record.lot_changes`): what
expired or was exercised closes what is held, a split changes its size and not its cost, and an archived execution
counts as it was told last.

What was paid for a position that is held overnight stands in all executions of before, years of them. So what each
symbol began the day with is kept in the process that asks, and those executions are looked at again every five minutes:
added up by the database, and read one by one only where a sum has changed. What happened today is read each time, and
the days before as well once something besides trades is told: a split of yesterday evening must be no loss until then.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    FromClause,
    bindparam,
    case,
    exists,
    func,
    null,
    select,
    type_coerce,
    union_all,
)

from models.instruments import told_multiplier
from models.record.archive_tables import archived_fills
from models.record.destinations import destination
from models.record.position_tables import told_executions
from models.record.statements import Query, Selected, among
from models.record.tables import SIDE_TO_OPEN, fills, orders
from models.vocabulary import CLOSING, CashKind, Side, signed
from worker.runtime.clock import Stopwatch

_ZERO, _ONE = Decimal(0), Decimal(1)
#: Seconds for which the days before are taken to be as they were seen.
_GOOD_S = 300.0
#: Decimals of shares that a split leaves.
_PLACES = 9
#: Above all ids that there will be: what is told besides comes before the executions of the same moment.
_FAR = 10**12
#: Destination, strategy and symbol of a gain.
Place = tuple[str, str | None, str]


class DayExecution(TypedDict):
    """An execution; quantity in units, price and fee in money, `multiplier` is money per unit and unit of price.

    A line that is no trade has a `kind`. Of a split there is one line for each lot that it takes, and then one for each
    that it gives: these have the same `event`.
    """

    place: str
    strategy: str | None
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal | None
    fee: Decimal | None
    at: datetime
    multiplier: Decimal | None
    kind: str | None
    event: str | None
    #: The newest line that is no trade, of whatever day and symbol.
    newest_told: int | None


@dataclass(slots=True)
class AtAverage:
    """What is held, negative when short, and the money per unit that it cost on the average."""

    held: Decimal = _ZERO
    cost: Decimal = _ZERO
    #: The split that is being taken: of which event, what was held before, shares that go, and that come.
    _split: tuple[str | None, AtAverage, Decimal, Decimal] | None = None

    def take(self, one: DayExecution) -> Decimal:
        """Apply an execution; returns the gain that it brings, before its fee.

        A closing order that closes more than was opened here closes a position of before; nobody knows what that cost,
        so it brings nothing. An execution without a price brings nothing either.
        """
        if one["kind"] == CashKind.SPLIT:
            self._divide(one)
            return _ZERO
        if one["price"] is None:
            return _ZERO
        side, gain = Side(one["side"]), _ZERO
        turn = signed(side)
        closed = min(one["quantity"], max(-turn * self.held, _ZERO))
        if closed:
            size = one["multiplier"] or told_multiplier(one["symbol"]) or _ONE
            gain = closed * (one["price"] - self.cost) * -turn * size
            self.held += turn * closed
        opened = _ZERO if side in CLOSING else one["quantity"] - closed
        if opened:
            held = abs(self.held)
            self.cost = (held * self.cost + opened * one["price"]) / (held + opened)
            self.held += turn * opened
        return gain

    def _divide(self, one: DayExecution) -> None:
        """Apply a line of a split: as many shares for each as the lots have got, of the same cost altogether."""
        if self._split is None or self._split[0] != one["event"]:
            self._split = one["event"], replace(self, _split=None), _ZERO, _ZERO
        event, before, gone, come = self._split
        shares = one["quantity"]
        is_taken = not come and (not gone or shares * gone > 0)
        gone, come = (gone + shares, come) if is_taken else (gone, come + shares)
        self._split = event, before, gone, come
        if come and before.held:
            self.held = round(before.held * come / -gone, _PLACES)
            self.cost = before.cost * before.held / self.held if self.held else _ZERO


class Openings:
    """What each symbol began a day with, by destination and strategy; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget(None)

    def _forget(self, start: datetime | None) -> None:
        self._start, self._watch = start, Stopwatch()
        self._sums: dict[str, list[_DaysBefore]] = {}
        self._told: int | None = None
        self._held: dict[Place, AtAverage] = {}

    def of(
        self, connection: Connection, symbols: Collection[str], start: datetime, told: int | None
    ) -> dict[Place, AtAverage]:
        """Return what these symbols began the day with; who asks may change it.

        `told` is the newest line that is no trade.
        """
        with self._lock:
            if self._start != start:
                self._forget(start)
            if self._watch.age() > _GOOD_S or self._told != told:
                self._look(connection, {*symbols, *self._sums}, start)
                self._watch, self._told = Stopwatch(), told
            elif new := {*symbols} - self._sums.keys():
                self._look(connection, new, start)
            return {place: replace(held) for place, held in self._held.items() if place[2] in symbols}

    def _look(self, connection: Connection, symbols: Collection[str], start: datetime) -> None:
        """Read the executions of those symbols whose sums are not as they were."""
        found: dict[str, list[_DaysBefore]] = {symbol: [] for symbol in symbols}
        for row in _SUMS.rows(connection, start=start, symbols=sorted(symbols)):
            found[row["symbol"]].append(row)
        changed = sorted(symbol for symbol, sums in found.items() if sums != self._sums.get(symbol))
        self._held = {place: held for place, held in self._held.items() if place[2] not in changed}
        for one in _BEFORE.rows(connection, start=start, symbols=changed):
            self._held.setdefault(_place(one), AtAverage()).take(one)
        self._sums |= found


def gains(connection: Connection, start: datetime, openings: Openings | None = None) -> dict[Place, Decimal]:
    """Return the gains since the beginning of a day, by where they were made; places without a fill are left out.

    Args:
        connection: to read by.
        start: of the day.
        openings: what is known of the days before; None: they are looked at now.
    """
    return gains_of(connection, TODAY.rows(connection, start=start), start, openings)


def gains_of(
    connection: Connection, today: Sequence[DayExecution], start: datetime, openings: Openings | None = None
) -> dict[Place, Decimal]:
    """Return the gains of a day's executions, the rows of `TODAY`: see `gains`."""
    known, symbols = openings or Openings(), {one["symbol"] for one in today}
    held = known.of(connection, symbols, start, today[0]["newest_told"]) if today else {}
    found: dict[Place, Decimal] = {}
    for one in today:
        gain = held.setdefault(_place(one), AtAverage()).take(one) - (one["fee"] or _ZERO)
        found[_place(one)] = found.get(_place(one), _ZERO) + gain
    return found


def _place(one: DayExecution) -> Place:
    return one["place"], one["strategy"], one["symbol"]


# -- WHAT IS ASKED ---
class _DaysBefore(TypedDict):
    symbol: str
    count: int
    newest: int
    units: float
    money: float
    sizes: float


_start = bindparam("start", type_=fills.c.filled_at.type)


#: Archived executions that a line of its own does not stand for.
_IS_LAST = ~exists(select(told_executions.c.id).where(told_executions.c.replaces == archived_fills.c.id))
_IS_TOLD = told_executions.c.source == "ours", told_executions.c.shares != 0


def _executions(*, today: bool) -> Query[DayExecution]:
    """Those since the beginning of a day; or those of before, of some symbols."""
    f, o, a, t = fills.c, orders.c, archived_fills.c, told_executions.c
    no_kind = null().label("kind"), null().label("event")
    own = select(
        destination(fills).label("place"), f.strategy, f.symbol, SIDE_TO_OPEN.label("side"), f.quantity, f.price,
        f.commission.label("fee"), f.filled_at.label("at"), f.multiplier, f.id, *no_kind,
    ).join_from(fills, orders, f.client_order_id == o.client_order_id).where(f.quantity > 0)  # fmt: skip
    gone = select(
        destination(archived_fills).label("place"), a.strategy, a.symbol, a.side, a.quantity, a.price,
        a.commission.label("fee"), a.filled_at.label("at"), a.multiplier, a.id, *no_kind,
    ).where(_IS_LAST)  # fmt: skip
    closes = case((t.shares > 0, str(Side.BUY_TO_COVER)), else_=str(Side.SELL))
    quantity = case((t.kind == str(CashKind.SPLIT), t.shares), (t.shares > 0, t.shares), else_=-t.shares)
    told = select(
        destination(told_executions).label("place"), t.strategy, t.symbol, func.coalesce(a.side, closes).label("side"),
        type_coerce(quantity, t.shares.type).label("quantity"), func.coalesce(t.average_price, t.price).label("price"),
        t.fee, t.filled_at.label("at"), t.multiplier, (t.id - _FAR).label("id"), t.kind, t.event_id.label("event"),
    ).outerjoin_from(told_executions, archived_fills, a.id == t.replaces).where(*_IS_TOLD)  # fmt: skip
    if today:
        is_asked = [f.filled_at >= _start, a.filled_at >= _start, t.filled_at >= _start]
    else:
        is_asked = [(one.filled_at < _start) & among(one.symbol, "symbols") for one in (f, a, t)]
    both = own.where(is_asked[0], f.symbol.is_not(None)), gone.where(is_asked[1]), told.where(is_asked[2])
    every = union_all(*both).subquery()
    shown = [column for column in every.c if column.name != "id"]
    newest = select(func.max(t.id)).scalar_subquery() if today else null()
    return Query(select(*shown, newest.label("newest_told")).order_by(every.c.at, every.c.id), DayExecution)


def _summed(t: FromClause, *where: ColumnElement[bool]) -> Selected:
    units = type_coerce(t.c.quantity if "quantity" in t.c else t.c.shares, Float)
    sums = (
        func.count().label("count"),
        func.max(t.c.id).label("newest"),
        func.sum(units).label("units"),
        func.sum(units * type_coerce(t.c.price, Float)).label("money"),
        func.sum(type_coerce(t.c.multiplier, Float)).label("sizes"),
    )
    mine = t.c.filled_at < _start, among(t.c.symbol, "symbols"), *where
    return select(t.c.symbol, *sums).where(*mine).group_by(t.c.symbol)


#: Those of a day, in their order; bind `start`.
TODAY = _executions(today=True)
_BEFORE = _executions(today=False)
_SUMS = Query(
    union_all(_summed(fills), _summed(archived_fills, _IS_LAST), _summed(told_executions, *_IS_TOLD)), _DaysBefore
)
