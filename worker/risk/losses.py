"""What a day has brought: gain less fees, from the fills, at average cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, select, tuple_

from models.instruments import told_multiplier
from models.record.tables import fills, orders
from models.vocabulary import CLOSING, Side, signed

_ZERO, _ONE = Decimal(0), Decimal(1)
#: Broker, strategy and symbol of a gain.
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


def gains(connection: Connection, start: datetime) -> dict[Place, Decimal]:
    """Return the gains since the beginning of a day, by where they were made; places without a fill are left out."""
    f, o = fills.c, orders.c
    places = select(f.broker, f.symbol).where(f.filled_at >= start, f.symbol.is_not(None)).distinct()
    query = (
        select(f.broker, f.strategy, f.symbol, o.side, f.quantity, f.price, f.commission, f.filled_at, f.multiplier)
        .join_from(fills, orders, f.client_order_id == o.client_order_id)
        .where(tuple_(f.broker, f.symbol).in_(places), f.quantity > 0)
        .order_by(f.filled_at, f.id)
    )
    found: dict[Place, list[PricedFill]] = {}
    for broker, strategy, symbol, side, quantity, price, fee, at, told in connection.execute(query):
        one = PricedFill(Side(side), quantity, price, fee or _ZERO, at, told or told_multiplier(symbol) or _ONE)
        found.setdefault((broker, strategy, symbol), []).append(one)
    return {place: gain_since(mine, start) for place, mine in found.items() if mine[-1].at >= start}
