"""What a day has brought: gain less fees, from the fills, at average cost.

What was paid for a position that is held overnight stands in all executions of before, years of them. So what each
symbol began the day with is kept in the process that asks, and those executions are looked at again every five minutes:
added up by the database, and read one by one only where a sum has changed. What happened today is read each time.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from sqlalchemy import Connection, Float, FromClause, bindparam, func, select, type_coerce, union_all

from models.instruments import told_multiplier
from models.record.archive_tables import archived_fills
from models.record.destinations import destination
from models.record.statements import Query, Selected, among
from models.record.tables import SIDE_TO_OPEN, fills, orders
from models.vocabulary import CLOSING, Side, signed
from worker.runtime.clock import Stopwatch

_ZERO, _ONE = Decimal(0), Decimal(1)
#: Seconds for which the days before are taken to be as they were seen.
_GOOD_S = 300.0
#: Destination, strategy and symbol of a gain.
Place = tuple[str, str | None, str]


class DayExecution(TypedDict):
    """An execution; quantity in units, price and fee in money, `multiplier` is money per unit and unit of price."""

    place: str
    strategy: str | None
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal | None
    fee: Decimal | None
    at: datetime
    multiplier: Decimal | None


@dataclass(slots=True)
class AtAverage:
    """What is held, negative when short, and the money per unit that it cost on the average."""

    held: Decimal = _ZERO
    cost: Decimal = _ZERO

    def take(self, one: DayExecution) -> Decimal:
        """Apply an execution; returns the gain that it brings, before its fee.

        A closing order that closes more than was opened here closes a position of before; nobody knows what that cost,
        so it brings nothing. An execution without a price brings nothing either.
        """
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


class Openings:
    """What each symbol began a day with, by destination and strategy; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget(None)

    def _forget(self, start: datetime | None) -> None:
        self._start, self._watch = start, Stopwatch()
        self._sums: dict[str, list[_DaysBefore]] = {}
        self._held: dict[Place, AtAverage] = {}

    def of(self, connection: Connection, symbols: Collection[str], start: datetime) -> dict[Place, AtAverage]:
        """Return what these symbols began the day with; who asks may change it."""
        with self._lock:
            if self._start != start:
                self._forget(start)
            if self._watch.age() > _GOOD_S:
                self._look(connection, {*symbols, *self._sums}, start)
                self._watch = Stopwatch()
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
    today = _TODAY.rows(connection, start=start)
    held = (openings or Openings()).of(connection, {one["symbol"] for one in today}, start) if today else {}
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


def _executions(*, today: bool) -> Query[DayExecution]:
    """Those since the beginning of a day; or those of before, of some symbols."""
    f, o, a = fills.c, orders.c, archived_fills.c
    own = select(
        destination(fills).label("place"), f.strategy, f.symbol, SIDE_TO_OPEN.label("side"), f.quantity, f.price,
        f.commission.label("fee"), f.filled_at.label("at"), f.multiplier, f.id,
    ).join_from(fills, orders, f.client_order_id == o.client_order_id).where(f.quantity > 0)  # fmt: skip
    gone = select(
        destination(archived_fills).label("place"), a.strategy, a.symbol, a.side, a.quantity, a.price,
        a.commission.label("fee"), a.filled_at.label("at"), a.multiplier, a.id,
    )  # fmt: skip
    if today:
        both = own.where(f.filled_at >= _start, f.symbol.is_not(None)), gone.where(a.filled_at >= _start)
    else:
        both = (
            own.where(f.filled_at < _start, among(f.symbol, "symbols")),
            gone.where(a.filled_at < _start, among(a.symbol, "symbols")),
        )
    every = union_all(*both).subquery()
    told = [column for column in every.c if column.name != "id"]
    return Query(select(*told).order_by(every.c.at, every.c.id), DayExecution)


def _summed(t: FromClause) -> Selected:
    units = type_coerce(t.c.quantity, Float)
    sums = (
        func.count().label("count"),
        func.max(t.c.id).label("newest"),
        func.sum(units).label("units"),
        func.sum(units * type_coerce(t.c.price, Float)).label("money"),
        func.sum(type_coerce(t.c.multiplier, Float)).label("sizes"),
    )
    return select(t.c.symbol, *sums).where(t.c.filled_at < _start, among(t.c.symbol, "symbols")).group_by(t.c.symbol)


_TODAY, _BEFORE = _executions(today=True), _executions(today=False)
_SUMS = Query(union_all(_summed(fills), _summed(archived_fills)), _DaysBefore)
