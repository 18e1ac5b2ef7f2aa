"""What is asked of the record about limits, each built once for the kinds of scopes that it is about.

Which scopes is bound with `named`: statements are few, and symbols, strategies and accounts are many.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import TypedDict

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    String,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)

from models.record.groups import IS_MERE_EXIT
from models.record.statements import Column, Query, Selected, among, one_of
from models.record.tables import attempts, order_events, orders, risk_tallies
from models.risk.names import EVERYTHING
from models.vocabulary import LIVE, OrderType, Outcome, Status

#: Kind and name of a scope.
Scope = tuple[str, str]
#: So many sets of kinds are remembered with their statements.
_REMEMBERED = 256


class TallySums(TypedDict):
    """What is used in one scope, symbols apart."""

    kind: str
    scope: str
    sent_value: Decimal | None
    open_orders: int | None
    open_buy: Decimal | None
    open_sell: Decimal | None


class OpenUnits(TypedDict):
    """Units of a symbol that are left to buy and to sell."""

    broker: str
    account: str
    strategy: str
    symbol: str
    key: str
    buying: Decimal
    selling: Decimal


class Moment(TypedDict):
    """When an order, or a message, went out."""

    at: datetime


class Went(TypedDict):
    """How much went out: orders, and every message for one."""

    orders: int
    messages: int


class Alike(TypedDict):
    """An order that went out lately."""

    client_order_id: str
    strategy: str | None
    symbol: str
    side: str
    quantity: Decimal | None
    notional: Decimal | None
    at: datetime


class RestingRow(TypedDict):
    """An order that another one of ours could meet."""

    client_order_id: str
    symbol: str
    side: str
    limit_price: Decimal | None
    broker: str | None
    account: str | None
    strategy: str | None


_t, _a, _e, _o = risk_tallies.c, attempts.c, order_events.c, orders.c
_since, _until = (bindparam(name, type_=_a.started_at.type) for name in ("since", "until"))


def _lately(at: Column) -> ColumnElement[bool]:
    """Within a stretch of time: what was written before a clock was set back lies beyond its end."""
    return (at > _since) & (at <= _until)


def named(*scopes: Scope) -> dict[str, object]:
    """Return the values that say which scopes are meant."""
    found: dict[str, object] = {}
    for n, (kind, scope) in enumerate(scopes):
        first, _, second = scope.rpartition(":") if kind == "strategy+symbol" else scope.partition(":")
        whole = kind not in ("strategy+symbol", "account")
        found |= {f"scope_{n}": scope, f"first_{n}": scope if whole else first, f"second_{n}": second}
    return found


@lru_cache(_REMEMBERED)
def tallies_of(kinds: tuple[str, ...]) -> Query[TallySums]:
    """Sums of the tallies in scopes of these kinds; bind `day`."""
    today = _t.day == bindparam("day", type_=_t.day.type)
    columns = {"broker": _t.broker, "account": _t.account, "strategy": _t.strategy, "symbol": _t.symbol}
    columns["key"] = _t.key_id
    sums = (
        func.sum(case((today, _t.sent_value), else_=0)).label("sent_value"),
        func.sum(_t.open_orders).label("open_orders"),
        func.sum(_t.open_buy).label("open_buy"),
        func.sum(_t.open_sell).label("open_sell"),
    )
    asked = [
        select(literal(kind).label("kind"), _bound(f"scope_{n}").label("scope"), *sums).where(
            or_(today, _t.open_orders != 0), within(kind, columns, n)
        )
        for n, kind in enumerate(kinds)
    ]
    return Query(union_all(*asked), TallySums)


def _open_units() -> Query[OpenUnits]:
    keys = (_t.broker, _t.account, _t.strategy, _t.symbol, _t.key_id)
    query = select(*keys[:-1], _t.key_id.label("key"), func.sum(_t.buying).label("buying"),
                   func.sum(_t.selling).label("selling"))  # fmt: skip
    return Query(
        query.where(among(_t.symbol, "symbols"), or_(_t.buying != 0, _t.selling != 0)).group_by(*keys), OpenUnits
    )


#: What is open in some symbols; bind `symbols`.
OPEN_UNITS = _open_units()


def _at_most() -> Query[Went]:
    sent = select(func.count()).select_from(attempts).where(_lately(_a.started_at)).scalar_subquery()
    cancels = select(func.count()).select_from(order_events).where(_lately(_e.at), _e.kind == "cancel_sent")
    return Query(select(sent.label("orders"), (sent + cancels.scalar_subquery()).label("messages")), Went)


#: How many orders, and messages, can have gone out at most, in whatever scope: no order is looked at. Bind `since` and
#: `until`.
AT_MOST = _at_most()


@lru_cache(_REMEMBERED)
def went(kind: str) -> Query[Went]:
    """How many orders, and messages, went out in a scope of this kind; bind `since` and `until`."""
    sent = _sent(kind, func.count().label("every"), func.count().filter(_a.replaces.is_(None)).label("placed"))
    every, cancels = sent.subquery().c, _cancels(kind, func.count()).scalar_subquery()
    return Query(select(every.placed.label("orders"), (every.every + cancels).label("messages")), Went)


@lru_cache(_REMEMBERED)
def times(kind: str, *, orders_alone: bool) -> Query[Moment]:
    """When the last orders, or messages, went out in such a scope, the newest first; bind `since`, `until`, `most`."""
    sent, most = _sent(kind, _a.started_at.label("at")), bindparam("most", type_=Integer)
    if orders_alone:
        return Query(sent.where(_a.replaces.is_(None)).order_by(_a.started_at.desc()).limit(most), Moment)
    every = union_all(sent, _cancels(kind, _e.at.label("at"))).subquery()
    return Query(select(every.c.at).order_by(every.c.at.desc()).limit(most), Moment)


def _sent(kind: str, *columns: Column) -> Selected:
    mine = within(kind, _columns(_a.broker, _a.account))
    sent = select(*columns).join_from(attempts, orders, _a.client_order_id == _o.client_order_id)
    return sent.where(_lately(_a.started_at), _a.outcome != str(Outcome.NOT_SENT), ~IS_MERE_EXIT, mine)


def _cancels(kind: str, *columns: Column) -> Selected:
    mine = within(kind, _columns(_o.broker, _o.account))
    sent = select(*columns).join_from(order_events, orders, _e.client_order_id == _o.client_order_id)
    return sent.where(_lately(_e.at), _e.kind == "cancel_sent", mine)


def _alike() -> Query[Alike]:
    same = (_o.client_order_id, _o.strategy, _o.symbol, _o.side, _o.quantity, _o.notional)
    query = select(*same, func.min(_a.started_at).label("at"))
    query = query.join_from(attempts, orders, _a.client_order_id == _o.client_order_id)
    query = query.where(_lately(_a.started_at), among(_o.symbol, "symbols"), _a.outcome != str(Outcome.NOT_SENT))
    return Query(query.where(_a.replaces.is_(None), ~IS_MERE_EXIT).group_by(*same), Alike)


def _resting() -> Query[RestingRow]:
    query = select(_o.client_order_id, _o.symbol, _o.side, _o.limit_price, _o.broker, _o.account, _o.strategy).where(
        one_of(_o.status, LIVE | {Status.SUBMITTED}),
        among(_o.symbol, "symbols"),
        one_of(_o.order_type, (OrderType.MARKET, OrderType.LIMIT)),
    )
    return Query(query, RestingRow)


#: Orders in some symbols that went out lately; bind `since`, `until` and `symbols`.
ALIKE = _alike()
#: Orders in some symbols that are live; bind `symbols`.
RESTING = _resting()


def _columns(broker: Column, account: Column) -> dict[str, Column]:
    where = {"broker": broker, "account": account}
    return where | {"strategy": _o.strategy, "symbol": _o.symbol, "key": _o.key_id}


def within(kind: str, columns: Mapping[str, Column], n: int = 0) -> ColumnElement[bool]:
    """Say that a row is in a scope.

    Args:
        kind: of the scope.
        columns: that name the row's broker, account, strategy, symbol and key; without an account the whole broker is
            meant, without a key nothing is.
        n: which of the scopes that are bound with `named`.
    """
    first, second = _bound(f"first_{n}"), _bound(f"second_{n}")
    if kind == EVERYTHING:
        return true()
    if kind == "account":
        account = columns.get("account")
        return and_(columns["broker"] == first, true() if account is None else account == second)
    if kind == "strategy+symbol":
        return and_(columns["strategy"] == first, columns["symbol"] == second)
    return columns[kind] == first if kind in columns else false()


def _bound(name: str) -> BindParameter[str]:
    return bindparam(name, type_=String())
