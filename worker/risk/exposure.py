"""What counts against limits at one moment: read once for a transaction, and what passes in it is added.

Orders that are open are read before the fills that come of them: an execution that is booked in between counts twice
for a moment, and never not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from sqlalchemy import Connection

from models.destinations import broker_of, split
from models.record.asking import Questionnaire
from models.record.executions import HELD_NOW, HeldSum, held_of
from models.risk.facts import Intended, Usage, Used
from models.risk.names import EVERYTHING, Limit, scopes_of
from models.vocabulary import Side, signed
from worker.positions.holdings import POSITIONS, PositionPart, added_up
from worker.risk.losses import TODAY, DayExecution, Openings, gains_of
from worker.risk.questions import (
    ALIKE,
    AT_MOST,
    OPEN_UNITS,
    RESTING,
    Alike,
    Moment,
    OpenUnits,
    RestingRow,
    Scope,
    TallySums,
    Went,
    named,
    tallies_of,
    times,
    went,
)

#: Limits by the figures that they are asked of.
TALLIED = frozenset({"max_open_orders", "max_open_value", "max_day_value"})
RATES = ("orders_per_minute", "messages_per_minute")
#: Limits that count several orders together: two transactions must not ask them at once.
COUNTING = TALLIED | {*RATES, "max_position", "repeat_count", "self_trade", "max_day_loss"}
_ZERO = Decimal(0)
_MINUTE = timedelta(minutes=1)
#: What others wrote may be so much newer than the time at which somebody asks, as one waits for the other, and clocks
#: of several machines differ. Of what is newer still nobody knows when it was: a clock was set back since.
_AHEAD = timedelta(minutes=1)
#: What makes orders alike: strategy, symbol, side, quantity or money.
_Likeness = tuple[str | None, str, Side, Decimal | None, Decimal | None]
#: How a database may have added up floats.
_PLACES = 6


@dataclass(slots=True)
class _Position:
    held: Decimal = _ZERO
    buying: Decimal = _ZERO
    selling: Decimal = _ZERO


@dataclass(frozen=True, slots=True)
class _Resting:
    """An order of ours that another one could meet; without a limit price it takes any."""

    client_order_id: str
    symbol: str
    side: Side
    limit_price: Decimal | None
    scopes: Mapping[str, str]


class Exposure:
    """What counts against the limits that apply to some orders.

    Args:
        connection: of the transaction.
        symbols: of the orders.
        limits: those that apply to one of them at least.
        now: the time.
        today: the date, as limits of a day count it, and when it began.
        coming: how many orders may be added; None: none, and how much is used is to be known exactly.
        openings: what is known of the days before; None: they are looked at.
        asking: of what is asked besides, in the same round trip.
    """

    def __init__(
        self,
        connection: Connection,
        symbols: Collection[str],
        limits: Sequence[Limit],
        now: datetime,
        today: tuple[str, datetime],
        coming: int | None = None,
        openings: Openings | None = None,
        asking: Questionnaire | None = None,
    ) -> None:
        self._openings = openings
        self.connection, self.now, self._asking = connection, now, asking or Questionnaire(connection)
        self.today, self.day_began = today
        self.symbols = sorted(symbols)
        self._sums: dict[Scope, Used] = {(limit.scope_kind, limit.scope): Used() for limit in limits}
        self._positions: dict[tuple[Scope, str], _Position] = {}
        #: Orders by what makes them alike: who, and when.
        self._alike: dict[_Likeness, list[tuple[str, datetime]]] = {}
        self._resting: list[_Resting] = []
        self._is_self_trade_asked = any(limit.name == "self_trade" for limit in limits)
        self._read(limits, coming)

    def _read(self, limits: Sequence[Limit], coming: int | None) -> None:
        names = {limit.name for limit in limits}
        if names & TALLIED:
            scopes = tuple(sorted({_scope(limit) for limit in limits if limit.name in TALLIED}))
            kinds = tuple(kind for kind, _ in scopes)
            self._asking.ask(tallies_of(kinds), self._take_tallies, day=self.today, **named(*scopes))
        if "max_position" in names:
            self._ask_positions({_scope(limit) for limit in limits if limit.name == "max_position"})
        since = self.now - _MINUTE
        rated = [limit for limit in limits if limit.name in RATES and limit.number]
        if rated:
            self._asking.ask(
                AT_MOST,
                partial(self._take_counts, {_scope(limit) for limit in rated}),
                since=since,
                until=self.now + _AHEAD,
            )
        if "repeat_count" in names:
            windows = [limit.number for limit in limits if limit.name == "repeat_seconds"]
            window = timedelta(seconds=float(max(windows, default=_ZERO))) or timedelta(seconds=10)
            self._asking.ask(
                ALIKE, self._take_alike, since=self.now - window, until=self.now + _AHEAD, symbols=self.symbols
            )
        if self._is_self_trade_asked:
            self._asking.ask(RESTING, self._take_resting, symbols=self.symbols)
        if "max_day_loss" in names:
            losing = {_scope(limit) for limit in limits if limit.name == "max_day_loss"}
            self._asking.ask(TODAY, partial(self._take_gains, losing), start=self.day_began)
        self._asking.answer()
        self._read_rates(rated, since, coming)

    # -- WHAT A REPORT ASKS ---
    def sums(self, limit: Limit) -> Used:
        """Return what is used in the scope of a limit, symbols apart."""
        return self._sums[_scope(limit)]

    def largest_position(self, limit: Limit) -> Decimal:
        """Return the most units of one symbol, long or short, that are held or may come to be in a limit's scope."""
        mine = [place for (scope, _), place in self._positions.items() if scope == _scope(limit)]
        return max((max(abs(p.held + p.buying), abs(p.held - p.selling)) for p in mine), default=_ZERO)

    # -- WHAT A DECISION ASKS ---
    def usage(self, order: Intended, limits: Iterable[Limit]) -> Usage:
        """Return what counts against the limits of one order."""
        alike = [at for id_, at in self._alike.get(_likeness(order), ()) if id_ != order.client_order_id]
        return Usage({_scope(limit): self._used(_scope(limit), order, alike) for limit in limits})

    def _used(self, scope: Scope, order: Intended, alike: list[datetime]) -> Used:
        place = self._positions.get((scope, order.symbol)) or _Position()
        return replace(
            self._sums[scope],
            held=place.held,
            buying=place.buying,
            selling=place.selling,
            repeats_at=alike,
            meets=next((one.client_order_id for one in self._resting if _meet(order, one, scope)), None),
        )

    def add(self, order: Intended, price: Decimal | None) -> None:
        """Count an order that has passed: the next one of this transaction finds it there.

        Args:
            order: the order.
            price: money per unit at which it counts.
        """
        value = max((order.value(price) or _ZERO) - order.counted, _ZERO)
        buys = signed(order.side) > 0
        moves = [(one.symbol, signed(one.side) * (one.added(price) or _ZERO)) for one in order.by_leg or [order]]
        for scope in order.scopes.items():
            if (sums := self._sums.get(scope)) is None:
                continue
            sums.open_orders += order.is_new
            sums.sent_value += value
            sums.open_buy, sums.open_sell = sums.open_buy + value * buys, sums.open_sell + value * (not buys)
            sums.orders_at += [self.now] * order.is_new
            sums.messages_at.append(self.now)
            for symbol, more in moves:
                place = self._positions.setdefault((scope, symbol), _Position())
                place.buying, place.selling = place.buying + max(more, _ZERO), place.selling - min(more, _ZERO)
        if order.is_new:
            self._alike.setdefault(_likeness(order), []).append((order.client_order_id, self.now))
            if order.rests and self._is_self_trade_asked:
                scopes = order.scopes
                resting = _Resting(order.client_order_id, order.symbol, order.side, order.limit_price, scopes)
                self._resting.append(resting)

    def copy(self) -> Exposure:
        """Return the figures as they are now: what is added afterwards counts in one of both alone."""
        other = copy(self)
        other._sums = {
            scope: replace(used, orders_at=[*used.orders_at], messages_at=[*used.messages_at])
            for scope, used in self._sums.items()
        }
        other._positions = {place: replace(held) for place, held in self._positions.items()}
        other._alike = {likeness: [*sent] for likeness, sent in self._alike.items()}
        other._resting = [*self._resting]
        return other

    # -- WHAT IS READ ---
    def _take_tallies(self, rows: Iterable[TallySums]) -> None:
        for row in rows:
            used = self._sums[row["kind"], row["scope"]]
            used.open_orders = int(row["open_orders"] or 0)
            sums = (row["sent_value"], row["open_buy"], row["open_sell"])
            used.sent_value, used.open_buy, used.open_sell = map(_exactly, sums)

    def _ask_positions(self, scopes: set[Scope]) -> None:
        self._asking.ask(OPEN_UNITS, partial(self._take_open, scopes), symbols=self.symbols)
        if any(kind in (EVERYTHING, "symbol", "broker", "account") for kind, _ in scopes):
            self._asking.ask(POSITIONS, partial(self._take_held, scopes), symbols=self.symbols)
        strategies = {name.rpartition(":")[0] if "+" in kind else name for kind, name in scopes if "strategy" in kind}
        if strategies:
            take = partial(self._take_strategies, scopes)
            self._asking.ask(HELD_NOW, take, strategies=sorted(strategies), symbols=self.symbols)

    def _take_open(self, scopes: set[Scope], rows: Iterable[OpenUnits]) -> None:
        for row in rows:
            mine = _scopes_of(row, key=row["key"])
            for scope in scopes & mine.items():
                place = self._positions.setdefault((scope, row["symbol"]), _Position())
                place.buying, place.selling = (
                    place.buying + _exactly(row["buying"]), place.selling + _exactly(row["selling"])
                )  # fmt: skip

    def _take_held(self, scopes: set[Scope], rows: Iterable[PositionPart]) -> None:
        for (where, symbol), held in added_up(rows).items():
            broker, account = split(where)
            mine = scopes_of(broker=broker, account=account, strategy=None, symbol=symbol, key=None)
            for kind, name in scopes:  # one that names no account counts in each of its broker's
                if mine.get(kind) == name or (kind == "account" and not account and broker_of(name) == broker):
                    self._hold((kind, name), symbol, held)

    def _take_strategies(self, scopes: set[Scope], rows: Iterable[HeldSum]) -> None:
        for (strategy, symbol), units in held_of(rows).items():
            for scope in (("strategy", str(strategy)), ("strategy+symbol", f"{strategy}:{symbol}")):
                if scope in scopes:
                    self._hold(scope, symbol, units)

    def _hold(self, scope: Scope, symbol: str, units: Decimal) -> None:
        self._positions.setdefault((scope, symbol), _Position()).held += units

    def _take_counts(self, scopes: Iterable[Scope], rows: Sequence[Went]) -> None:
        (row,) = rows
        for scope in scopes:
            self._sums[scope].orders_gone, self._sums[scope].messages_gone = row["orders"], row["messages"]

    def _read_rates(self, rated: Sequence[Limit], since: datetime, coming: int | None) -> None:
        """Count in each scope where there may be as many as a limit allows, and then read when they went out.

        Otherwise it is enough that there is room: times tell when there will be again.
        """
        near = [limit for limit in rated if self._may_be_full(limit, coming)]
        for scope in sorted({_scope(limit) for limit in near}):
            self._asking.ask(
                went(scope[0]),
                partial(self._take_counts, [scope]),
                since=since,
                until=self.now + _AHEAD,
                **named(scope),
            )
        self._asking.answer()
        for limit in near:
            if coming is not None and self._may_be_full(limit, coming):
                orders_alone, most = limit.name == "orders_per_minute", int(limit.number)
                take = partial(self._take_times, _scope(limit), orders_alone)
                asked = times(limit.scope_kind, orders_alone=orders_alone)
                self._asking.ask(asked, take, since=since, until=self.now + _AHEAD, most=most, **named(_scope(limit)))
        self._asking.answer()

    def _may_be_full(self, limit: Limit, coming: int | None) -> bool:
        _, count = self._sums[_scope(limit)].gone(orders_alone=limit.name == "orders_per_minute")
        return coming is None or count + coming > limit.number

    def _take_times(self, scope: Scope, orders_alone: bool, rows: Sequence[Moment]) -> None:
        used, at = self._sums[scope], [row["at"] for row in reversed(rows)]
        if orders_alone:
            used.orders_gone, used.orders_at = max(used.orders_gone - len(at), 0), at
        else:
            used.messages_gone, used.messages_at = max(used.messages_gone - len(at), 0), at

    def _take_alike(self, rows: Iterable[Alike]) -> None:
        for row in rows:
            alike = (row["strategy"], row["symbol"], Side(row["side"]), row["quantity"], row["notional"])
            self._alike.setdefault(alike, []).append((row["client_order_id"], row["at"]))

    def _take_resting(self, rows: Iterable[RestingRow]) -> None:
        for row in rows:
            scopes, side = _scopes_of(row, key=None), Side(row["side"])
            one = _Resting(row["client_order_id"], row["symbol"], side, row["limit_price"], scopes)
            self._resting.append(one)

    def _take_gains(self, scopes: set[Scope], rows: Sequence[DayExecution]) -> None:
        found = gains_of(self.connection, rows, self.day_began, self._openings)
        for (where, strategy, symbol), gain in found.items():
            broker, account = split(where)
            mine = scopes_of(broker=broker, account=account, strategy=strategy, symbol=symbol, key=None)
            for scope in scopes & mine.items():
                self._sums[scope].realized += gain


def _scopes_of(row: OpenUnits | RestingRow, key: str | None) -> dict[str, str]:
    where = {"broker": row["broker"], "account": row["account"], "strategy": row["strategy"]}
    return scopes_of(**where, symbol=row["symbol"], key=key)


def _scope(limit: Limit) -> Scope:
    return limit.scope_kind, limit.scope


def _likeness(order: Intended) -> _Likeness:
    return order.strategy, order.symbol, order.side, order.quantity, order.notional


def _meet(order: Intended, other: _Resting, scope: Scope) -> bool:
    """Tell whether an order would trade with another one of ours in the same scope."""
    if not order.rests or other.symbol != order.symbol or other.client_order_id == order.client_order_id:
        return False
    if signed(other.side) == signed(order.side) or other.scopes.get(scope[0]) != scope[1]:
        return False
    if order.limit_price is None or other.limit_price is None:
        return True
    return signed(order.side) * (order.limit_price - other.limit_price) >= 0


def _exactly(value: object) -> Decimal:
    return round(Decimal(str(value or 0)), _PLACES)
