"""What a day has brought: gain less fees, from the fills, at average cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from sqlalchemy import Connection, bindparam, select, tuple_, union_all

from models.instruments import told_multiplier
from models.record.archive_tables import archived_fills
from models.record.destinations import destination
from models.record.statements import Query
from models.record.tables import SIDE_TO_OPEN, fills, orders
from models.vocabulary import CLOSING, Side, signed

_ZERO, _ONE = Decimal(0), Decimal(1)
#: Destination, strategy and symbol of a gain.
Place = tuple[str, str | None, str]


@dataclass(frozen=True, slots=True)
class PricedFill:
    """An execution; quantity in units, price and fee in money; `multiplier` is money per unit and unit of price."""

    side: Side
    quantity: Decimal
    price: Decimal | None
    fee: Decimal
    at: datetime
    multiplier: Decimal = Decimal(1)


def gain_since(executions: Iterable[PricedFill], start: datetime) -> Decimal:
    """Return the gain since a moment less its fees, of one strategy in one symbol at one broker.

    Args:
        executions: all of them, oldest first: those before the moment tell what was paid for what is sold after it.
        start: the moment.

    A closing order that closes more than was opened here closes a position of before; nobody knows what that cost, so
    it brings nothing. An execution without a price brings nothing either.
    """
    held = cost = gain = _ZERO
    for one in executions:
        turn, counts = signed(one.side), one.at >= start
        gain -= one.fee if counts else _ZERO
        if one.price is None:
            continue
        closed = min(one.quantity, max(-turn * held, _ZERO))
        if closed:
            gain += closed * (one.price - cost) * -turn * one.multiplier if counts else _ZERO
            held += turn * closed
        opened = _ZERO if one.side in CLOSING else one.quantity - closed
        if opened:
            cost = (abs(held) * cost + opened * one.price) / (abs(held) + opened)
            held += turn * opened
    return gain


class _Executed(TypedDict):
    where: str
    strategy: str | None
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal | None
    fee: Decimal | None
    at: datetime
    multiplier: Decimal | None


def _executions() -> Query[_Executed]:
    f, o, a = fills.c, orders.c, archived_fills.c
    start = bindparam("start", type_=f.filled_at.type)
    places = select(f.broker, f.symbol).where(f.filled_at >= start, f.symbol.is_not(None)).distinct()
    own = (
        select(
            destination(fills).label("where"), f.strategy, f.symbol, SIDE_TO_OPEN.label("side"), f.quantity, f.price,
            f.commission.label("fee"), f.filled_at.label("at"), f.multiplier, f.id,
        )
        .join_from(fills, orders, f.client_order_id == o.client_order_id)
        .where(tuple_(f.broker, f.symbol).in_(places), f.quantity > 0)
    )  # fmt: skip
    archived = select(
        destination(archived_fills).label("where"), a.strategy, a.symbol, a.side, a.quantity, a.price,
        a.commission.label("fee"), a.filled_at.label("at"), a.multiplier, a.id,
    ).where(tuple_(a.broker, a.symbol).in_(places))  # fmt: skip
    every = union_all(own, archived).subquery()
    told = [column for column in every.c if column.name != "id"]
    return Query(select(*told).order_by(every.c.at, every.c.id), _Executed)


_EXECUTIONS = _executions()


def gains(connection: Connection, start: datetime) -> dict[Place, Decimal]:
    """Return the gains since the beginning of a day, by where they were made; places without a fill are left out."""
    found: dict[Place, list[PricedFill]] = {}
    for row in _EXECUTIONS.rows(connection, start=start):
        size = row["multiplier"] or told_multiplier(row["symbol"]) or _ONE
        one = PricedFill(Side(row["side"]), row["quantity"], row["price"], row["fee"] or _ZERO, row["at"], size)
        found.setdefault((row["where"], row["strategy"], row["symbol"]), []).append(one)
    return {place: gain_since(mine, start) for place, mine in found.items() if mine[-1].at >= start}
