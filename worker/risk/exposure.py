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

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    and_,
    case,
    false,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)

from models.destinations import broker_of, split
from models.record.executions import held_now
from models.record.groups import IS_MERE_EXIT
from models.record.statements import Selected
from models.record.tables import attempts, order_events, orders, risk_tallies
from models.risk.facts import Intended, Usage, Used
from models.risk.names import EVERYTHING, Limit, scopes_of
from models.vocabulary import LIVE, OrderType, Outcome, Side, Status, signed
from worker.positions.holdings import positions
from worker.risk.losses import gains

#: Limits by the figures that they are asked of.
TALLIED = frozenset({"max_open_orders", "max_open_value", "max_day_value"})
RATES = ("orders_per_minute", "messages_per_minute")
#: Limits that count several orders together: two transactions must not ask them at once.
COUNTING = TALLIED | {*RATES, "max_position", "repeat_count", "self_trade", "max_day_loss"}
_ZERO = Decimal(0)
_MINUTE = timedelta(minutes=1)
#: One transaction asks about fewer orders than so many, the legs of each included.
_AT_ONCE = 1_000
#: Kind and name of a scope.
_Scope = tuple[str, str]
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
    """

    def __init__(
        self,
        connection: Connection,
        symbols: Collection[str],
        limits: Sequence[Limit],
        now: datetime,
        today: tuple[str, datetime],
    ) -> None:
        self.connection, self.now = connection, now
        self.today, self.day_began = today
        self.symbols = sorted(symbols)
        self._sums: dict[_Scope, Used] = {(limit.scope_kind, limit.scope): Used() for limit in limits}
        self._positions: dict[tuple[_Scope, str], _Position] = {}
        #: Orders by what makes them alike: who, and when.
        self._alike: dict[_Likeness, list[tuple[str, datetime]]] = {}
        self._resting: list[_Resting] = []
        self._is_self_trade_asked = any(limit.name == "self_trade" for limit in limits)
        self._read({limit.name for limit in limits}, limits)

    def _read(self, names: set[str], limits: Sequence[Limit]) -> None:
        if names & TALLIED:
            self._read_tallies([_scope(limit) for limit in limits if limit.name in TALLIED])
        if "max_position" in names:
            self._read_positions({_scope(limit) for limit in limits if limit.name == "max_position"})
        for limit in limits:
            if limit.name in RATES and limit.number:
                self._read_rate(limit)
        if "repeat_count" in names:
            windows = [limit.number for limit in limits if limit.name == "repeat_seconds"]
            self._read_alike(timedelta(seconds=float(max(windows, default=_ZERO))) or timedelta(seconds=10))
        if "self_trade" in names:
            self._read_resting()
        if "max_day_loss" in names:
            self._read_gains({_scope(limit) for limit in limits if limit.name == "max_day_loss"})

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

    def _used(self, scope: _Scope, order: Intended, alike: list[datetime]) -> Used:
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
    def _read_tallies(self, scopes: Iterable[_Scope]) -> None:
        t, today = risk_tallies.c, risk_tallies.c.day == self.today
        sums = (
            func.sum(case((today, t.sent_value), else_=0)),
            func.sum(t.open_orders),
            func.sum(t.open_buy),
            func.sum(t.open_sell),
        )
        columns = {
            "broker": t.broker,
            "account": t.account,
            "strategy": t.strategy,
            "symbol": t.symbol,
            "key": t.key_id,
        }
        asked = [
            select(literal(kind), literal(scope), *sums).where(
                or_(today, t.open_orders != 0), within(kind, scope, columns)
            )
            for kind, scope in sorted(set(scopes))
        ]
        for kind, scope, sent_value, open_orders, open_buy, open_sell in self.connection.execute(union_all(*asked)):
            used = self._sums[kind, scope]
            used.open_orders = int(open_orders or 0)
            used.sent_value, used.open_buy, used.open_sell = map(_exactly, (sent_value, open_buy, open_sell))

    def _read_positions(self, scopes: set[_Scope]) -> None:
        t = risk_tallies.c
        query = select(t.broker, t.account, t.strategy, t.symbol, t.key_id, func.sum(t.buying), func.sum(t.selling))
        query = query.where(t.symbol.in_(self.symbols), or_(t.buying != 0, t.selling != 0))
        keys = (t.broker, t.account, t.strategy, t.symbol, t.key_id)
        for broker, account, strategy, symbol, key, buying, selling in self.connection.execute(query.group_by(*keys)):
            mine = scopes_of(broker=broker, account=account, strategy=strategy, symbol=symbol, key=key)
            for scope in scopes & mine.items():
                place = self._positions.setdefault((scope, symbol), _Position())
                place.buying, place.selling = place.buying + _exactly(buying), place.selling + _exactly(selling)
        if any(kind in (EVERYTHING, "symbol", "broker", "account") for kind, _ in scopes):
            for (where, symbol), held in positions(self.connection, self.symbols).items():
                broker, account = split(where)
                mine = scopes_of(broker=broker, account=account, strategy=None, symbol=symbol, key=None)
                for kind, name in scopes:  # one that names no account counts in each of its broker's
                    if mine.get(kind) == name or (kind == "account" and not account and broker_of(name) == broker):
                        self._hold((kind, name), symbol, held)
        strategies = {name.rpartition(":")[0] if "+" in kind else name for kind, name in scopes if "strategy" in kind}
        if strategies:
            self._read_strategies(scopes, strategies)

    def _read_strategies(self, scopes: set[_Scope], strategies: set[str]) -> None:
        for (strategy, symbol), units in held_now(self.connection, strategies, self.symbols).items():
            for scope in (("strategy", str(strategy)), ("strategy+symbol", f"{strategy}:{symbol}")):
                if scope in scopes:
                    self._hold(scope, symbol, units)

    def _hold(self, scope: _Scope, symbol: str, units: Decimal) -> None:
        self._positions.setdefault((scope, symbol), _Position()).held += units

    def _read_rate(self, limit: Limit) -> None:
        """Read how many orders, or messages, went out in a minute; and near the limit when those did that it waits for.

        Of all others nobody asks when: they are counted, and stand as sent now.
        """
        past, most = self._gone(limit).subquery(), int(limit.number)
        count: int = self.connection.execute(select(func.count()).select_from(past)).scalar_one()
        newer, times = max(most - _AT_ONCE, 0), list[datetime]()
        if count > newer:
            oldest = select(past.c.at).order_by(past.c.at.desc()).offset(newer).limit(most - newer)
            times = sorted(self.connection.execute(oldest).scalars())
        times += [self.now] * min(count, newer)
        used = self._sums[_scope(limit)]
        if limit.name == "orders_per_minute":
            used.orders_at = times
        else:
            used.messages_at = times

    def _gone(self, limit: Limit) -> Selected | CompoundSelect[tuple[datetime]]:
        """Return the query of when each order, or message, of the last minute went out."""
        a, e, since = attempts.c, order_events.c, self.now - _MINUTE
        gone = (
            select(a.started_at.label("at"))
            .join_from(attempts, orders, a.client_order_id == orders.c.client_order_id)
            .where(a.started_at > since, a.outcome != str(Outcome.NOT_SENT), ~IS_MERE_EXIT)
            .where(within(limit.scope_kind, limit.scope, _columns(a.broker, a.account)))
        )
        if limit.name == "orders_per_minute":
            return gone.where(a.replaces.is_(None))
        canceled = (
            select(e.at)
            .join_from(order_events, orders, e.client_order_id == orders.c.client_order_id)
            .where(e.at > since, e.kind == "cancel_sent")
            .where(within(limit.scope_kind, limit.scope, _columns(orders.c.broker, orders.c.account)))
        )
        return union_all(gone, canceled)

    def _read_alike(self, window: timedelta) -> None:
        a, o = attempts.c, orders.c
        query = (
            select(o.client_order_id, o.strategy, o.symbol, o.side, o.quantity, o.notional, func.min(a.started_at))
            .join_from(attempts, orders, a.client_order_id == o.client_order_id)
            .where(a.started_at > self.now - window, o.symbol.in_(self.symbols))
            .where(a.outcome != str(Outcome.NOT_SENT), a.replaces.is_(None), ~IS_MERE_EXIT)
            .group_by(o.client_order_id, o.strategy, o.symbol, o.side, o.quantity, o.notional)
        )
        for id_, strategy, symbol, side, quantity, notional, at in self.connection.execute(query):
            self._alike.setdefault((strategy, symbol, Side(side), quantity, notional), []).append((id_, at))

    def _read_resting(self) -> None:
        o = orders.c
        query = select(o.client_order_id, o.symbol, o.side, o.limit_price, o.broker, o.account, o.strategy).where(
            o.status.in_([str(s) for s in LIVE | {Status.SUBMITTED}]),
            o.symbol.in_(self.symbols),
            o.order_type.in_([str(OrderType.MARKET), str(OrderType.LIMIT)]),
        )
        for id_, symbol, side, limit_price, broker, account, strategy in self.connection.execute(query):
            scopes = scopes_of(broker=broker, account=account, strategy=strategy, symbol=symbol, key=None)
            self._resting.append(_Resting(id_, symbol, Side(side), limit_price, scopes))

    def _read_gains(self, scopes: set[_Scope]) -> None:
        for (where, strategy, symbol), gain in gains(self.connection, self.day_began).items():
            broker, account = split(where)
            mine = scopes_of(broker=broker, account=account, strategy=strategy, symbol=symbol, key=None)
            for scope in scopes & mine.items():
                self._sums[scope].realized += gain


def _scope(limit: Limit) -> _Scope:
    return limit.scope_kind, limit.scope


def _likeness(order: Intended) -> _Likeness:
    return order.strategy, order.symbol, order.side, order.quantity, order.notional


def _meet(order: Intended, other: _Resting, scope: _Scope) -> bool:
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


def _columns(broker: ColumnElement[str], account: ColumnElement[str]) -> dict[str, ColumnElement[str]]:
    where = {"broker": broker, "account": account}
    return where | {"strategy": orders.c.strategy, "symbol": orders.c.symbol, "key": orders.c.key_id}


def within(kind: str, scope: str, columns: Mapping[str, ColumnElement[str]]) -> ColumnElement[bool]:
    """Say that a row is in a scope.

    Args:
        kind: of the scope.
        scope: which one.
        columns: that name the row's broker, account, strategy, symbol and key; without an account the whole broker is
            meant, without a key nothing is.
    """
    first, _, second = scope.rpartition(":") if kind == "strategy+symbol" else scope.partition(":")
    if kind == EVERYTHING:
        return true()
    if kind == "account":
        account = columns.get("account")
        return and_(columns["broker"] == first, true() if account is None else account == second)
    if kind == "strategy+symbol":
        return and_(columns["strategy"] == first, columns["symbol"] == second)
    return columns[kind] == scope if kind in columns else false()
