"""How much of a position a closing order may take, broker by broker: read from the record, never from a broker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict

from sqlalchemy import Connection, Row, String, and_, cast, func, null, or_, select, union_all

from models.destinations import broker_of
from models.groups import EXCLUSIVE, LEADS, SAME_SCOPES, WAITING, GroupKind, is_mere_exit
from models.legs import taken_by
from models.record.destinations import destination, is_at
from models.record.statements import Column, Query, Selected, among
from models.record.tables import (
    SIDE_OF_FILL,
    attempts,
    external_fills,
    external_orders,
    fills,
    orders,
    position_baselines,
    position_ledgers,
    position_locks,
    position_snapshots,
    workers,
)
from models.reports import DONE, BrokerStatus
from models.vocabulary import OPEN, UNSENT, Outcome, Side, signed

_ZERO = Decimal(0)
#: Orders of other people that take from what a side closes, as brokers with two sides name them.
_THEIRS = {Side.SELL: ("sell",), Side.BUY_TO_COVER: ("buy", "buy_to_cover")}
#: Legs that take nothing before their lead is filled.
_WAITING = frozenset(leg for legs in WAITING.values() for leg in legs)
_PLACE = destination(orders).label("place")
#: What tells how much a leg may take beside its lead.
_AS_LED = tuple(orders.c[name] for name in ("group_id", *SAME_SCOPES, "side", "quantity", "filled_quantity"))
_CLOSED = [*map(str, DONE), str(BrokerStatus.UNKNOWN)]


@dataclass(frozen=True, slots=True)
class Holding:
    """A position at one broker in shares that one side may take: negative where it is the opposite one."""

    #: When the positions there were last read; None: never.
    read_at: datetime | None
    #: As the broker showed it.
    shown: Decimal = _ZERO
    #: As our books explain it; None where they cannot tell.
    books: Decimal | None = None
    #: What other orders may still take.
    busy: Decimal = _ZERO

    @property
    def least(self) -> Decimal:
        """What is free whoever is right."""
        return (self.shown if self.books is None else min(self.shown, self.books)) - self.busy

    @property
    def most(self) -> Decimal:
        """What may be free."""
        return (self.shown if self.books is None else max(self.shown, self.books)) - self.busy


def holdings(
    connection: Connection,
    brokers: Iterable[str],
    symbol: str,
    side: Side,
    *,
    but: str | None = None,
    queued: bool = False,
) -> dict[str, Holding]:
    """Return what is held at these brokers.

    Args:
        connection: of the transaction.
        brokers: names from the settings, or destinations: accounts behind their logins.
        symbol: of the order.
        side: a closing one.
        but: the order that asks, which takes nothing from itself.
        queued: orders that wait for a broker may take from it, too.
    """
    names, turn = sorted(set(brokers)), signed(side)
    w, p = workers.c, position_snapshots.c
    logins = sorted({broker_of(name) for name in names})
    read = select(w.broker, func.max(w.positions_at)).where(w.broker.in_(logins)).group_by(w.broker)
    told = {broker: at for broker, at in connection.execute(read) if at is not None}
    read_at = {name: told[broker_of(name)] for name in names if broker_of(name) in told}
    held = select(p.broker, p.quantity).where(p.broker.in_(names), p.symbol == symbol)
    shown = {broker: quantity for broker, quantity in connection.execute(held)}  # noqa: C416  # for mypy
    busy = _busy(connection, names, symbol, side, but, queued)
    found = {}
    for name in names:
        books = _books(connection, name, symbol) if name in read_at else None
        found[name] = Holding(
            read_at.get(name),
            -turn * shown.get(name, _ZERO),
            None if books is None else -turn * books,
            busy.get(name, _ZERO),
        )
    return found


def _busy(
    connection: Connection, names: Sequence[str], symbol: str, side: Side, but: str | None, queued: bool
) -> dict[str, Decimal]:
    """Add up what our other orders, and other people's, may still take; a replace under way counts as done."""
    o, a, e = orders.c, attempts.c, external_orders.c
    total: dict[str, Decimal] = {}
    logins = sorted({broker_of(name) for name in names})
    statuses = [str(s) for s in OPEN if queued or s not in UNSENT]
    changing = and_(
        a.client_order_id == o.client_order_id,
        a.replaces.is_not(None),
        a.outcome.in_([str(Outcome.SENDING), str(Outcome.UNKNOWN)]),
    )
    ours = (
        select(o.client_order_id, _PLACE, a.terms, o.leg, o.group_kind, o.legs, *_AS_LED)
        .join_from(orders, attempts, changing, isouter=True)
        .where(or_(and_(o.symbol == symbol, o.side == str(side)), o.legs.is_not(None)))
        .where(o.broker.in_(logins), o.status.in_(statuses))
    )
    left: dict[tuple[str, str], Decimal] = {}
    found = list(connection.execute(ours))
    leads = _leads(connection, {row.group_id for row in found if row.group_id is not None})
    mine = next((row.group_id for row in found if row.client_order_id == but), None)
    for row in found:
        most = max(row.quantity or _ZERO, Decimal((row.terms or {}).get("quantity") or 0)) - row.filled_quantity
        if row.legs is not None:  # of a package what its legs take, if they take any
            taken = [units for of, which, units in taken_by({"legs": row.legs}) if (of, which) == (symbol, side)]
            most *= sum(taken)
        lead = leads.get(row.group_id)
        if lead is not None and row.leg in _WAITING and is_mere_exit(lead._asdict(), row._asdict()):
            most = min(most, lead.filled_quantity)  # what its lead has not brought yet it cannot take
        if row.client_order_id != but and (row.group_id is None or row.group_id != mine):
            is_one = row.group_id is not None and row.leg in EXCLUSIVE[GroupKind(row.group_kind)]
            key = (row.group_id if is_one else row.client_order_id, row.place)  # of such legs one alone may take
            left[key] = max(most, left.get(key, _ZERO))
    theirs = select(destination(external_orders), e.quantity, e.filled_quantity).where(
        e.broker.in_(logins), e.symbol == symbol, e.side.in_(_THEIRS[side]), e.status.not_in(_CLOSED)
    )
    for broker, quantity, filled in connection.execute(theirs):
        total[broker] = total.get(broker, _ZERO) + (quantity or _ZERO) - (filled or _ZERO)
    for (_, broker), shares in left.items():
        total[broker] = total.get(broker, _ZERO) + shares
    return total


def _leads(connection: Connection, groups: Collection[str]) -> dict[str, Row[Any]]:
    """Return the leads of these groups: only so much as is filled of them may their exits take."""
    if not groups:
        return {}
    o = orders.c
    leads = select(*_AS_LED).where(o.group_id.in_(sorted(groups)), o.leg.in_(sorted(LEADS)))
    return {row.group_id: row for row in connection.execute(leads)}


_g = position_ledgers.c
#: Joins executions to the ledger of the destination that they are of, where its baseline does not have them already.
FILLS_SINCE = and_(_g.broker == destination(fills), fills.c.id > _g.fills_id)
EXTERNAL_FILLS_SINCE = and_(_g.broker == destination(external_fills), external_fills.c.id > _g.external_fills_id)


class PositionPart(TypedDict):
    """A part of a position at a destination: units, negative when short; with a side, what was traded by it."""

    broker: str
    symbol: str | None
    side: str | None
    quantity: Decimal | None


def _positions() -> Query[PositionPart]:
    g, b, f, e, o, p = (
        table.c for table in (position_ledgers, position_baselines, fills, external_fills, orders, position_snapshots)
    )
    no_text = cast(null(), String)

    def part(*given: Column) -> Selected:
        columns = zip(("broker", "symbol", "side", "quantity"), given, strict=True)
        return select(*(column.label(name) for name, column in columns))

    known = select(g.broker)
    shown = part(p.broker, p.symbol, no_text, p.quantity)
    shown = shown.where(among(p.symbol, "symbols"), p.broker.not_in(known))
    begun = part(b.broker, b.symbol, no_text, b.quantity).where(among(b.symbol, "symbols"))
    own = (
        part(g.broker, f.symbol, SIDE_OF_FILL, func.sum(f.quantity))
        .join_from(fills, orders, f.client_order_id == o.client_order_id)
        .join(position_ledgers, FILLS_SINCE)
        .where(among(f.symbol, "symbols"))
        .group_by(g.broker, f.symbol, SIDE_OF_FILL)
    )
    others = (
        part(g.broker, e.symbol, e.side, func.sum(e.quantity))
        .join_from(external_fills, position_ledgers, EXTERNAL_FILLS_SINCE)
        .where(among(e.symbol, "symbols"), e.side.is_not(None))
        .group_by(g.broker, e.symbol, e.side)
    )
    return Query(union_all(shown, begun, own, others), PositionPart)


#: The positions in some symbols by the baseline and every fill since; at a broker without a baseline, as it showed them
#: last. Bind `symbols`; read by `added_up`.
POSITIONS = _positions()


def added_up(parts: Iterable[PositionPart]) -> dict[tuple[str, str], Decimal]:
    """Return positions by destination and symbol, units, short ones negative."""
    total: dict[tuple[str, str], Decimal] = {}
    for row in parts:
        units = round(Decimal(str(row["quantity"] or 0)), 9)
        units = units if row["side"] is None else signed(Side(row["side"])) * units
        place = row["broker"], str(row["symbol"])
        total[place] = total.get(place, _ZERO) + units
    return total


def _books(connection: Connection, broker: str, symbol: str) -> Decimal | None:
    """Return the position by its baseline and every fill since; None where there is no baseline, or a lock."""
    g, b, k = position_ledgers.c, position_baselines.c, position_locks.c
    ledger = connection.execute(select(g.fills_id, g.external_fills_id, g.pending).where(g.broker == broker)).first()
    locked = connection.execute(select(k.symbol).where(k.broker == broker, k.symbol == symbol)).first()
    if ledger is None or symbol in ledger.pending or locked is not None:
        return None
    f, e, o = fills.c, external_fills.c, orders.c
    own = (
        select(SIDE_OF_FILL, f.quantity)
        .join_from(fills, orders, f.client_order_id == o.client_order_id)
        .where(is_at(fills, broker), f.id > ledger.fills_id, f.symbol == symbol)
    )
    others = select(e.side, e.quantity).where(
        is_at(external_fills, broker), e.id > ledger.external_fills_id, e.symbol == symbol, e.side.is_not(None)
    )
    total = connection.execute(select(b.quantity).where(b.broker == broker, b.symbol == symbol)).scalar() or _ZERO
    for query in (own, others):
        for side, quantity in connection.execute(query):
            total += signed(Side(side)) * quantity
    return round(Decimal(total), 9)
