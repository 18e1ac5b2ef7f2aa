"""Orders with legs in the market: one order trades several instruments at once, or none of them.

A package is an order of its own, whose price is the difference of its legs; each leg is an order that waits for ever
and trades only when the package does. Positions and money move by the legs. What belongs together is in `extra`, which
the ledger keeps: `package` of the one, `parent` and `leg` of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.sandbox.market.listed import multiplier
from worker.sandbox.market.orders import BUYS, MarketOrder
from worker.sandbox.market.prices import Quote

if TYPE_CHECKING:
    from worker.sandbox.market.market import Market

#: What the legs have from their package.
_SHARED = ("door", "account")


def place_order(market: Market, legs: Sequence[Mapping[str, Any]] = (), **fields: Any) -> MarketOrder:
    """Take an order, with its legs where it is a package.

    Args:
        market: where.
        legs: of each `symbol`, `side`, `ratio`, and what the door wants to remember of it as `extra`; none of an order
            of one instrument.
        **fields: of the order, as `Market.place` takes them; a package is bought as it is written.
    """
    if not legs:
        return market.place(**fields)
    fields |= {"side": "buy", "extra": {**fields.get("extra", {}), "package": True}}
    order = market.place(**fields)
    for number, leg in enumerate(legs, 1):
        child = market.place(
            **{name: fields[name] for name in _SHARED if name in fields},
            client_order_id=leg.get("client_order_id"),
            symbol=leg["symbol"],
            side=leg["side"],
            quantity=order.quantity * Decimal(leg["ratio"]),
            order_type="market",
            time_in_force="day",
            waits=True,
            extra={**leg.get("extra", {}), "parent": order.number, "leg": number, "ratio": str(leg["ratio"])},
        )
        order.legs.append(child)
    return order


def relink(orders: Mapping[int, MarketOrder]) -> None:
    """Give packages of the runs before their legs again."""
    for leg in orders.values():
        parent = leg.extra.get("parent")
        if "leg" in leg.extra and isinstance(parent, int) and (package := orders.get(parent)) is not None:
            package.legs.append(leg)
            leg.waits = True


def units(order: MarketOrder, leg: MarketOrder) -> Decimal:
    """Return how much of a leg is in one package."""
    return leg.quantity / order.quantity


def price_of_leg(leg: MarketOrder, quote: Quote) -> Decimal:
    """Return the price at which a leg trades now."""
    return quote.ask if leg.is_buy else quote.bid


def net_quote(order: MarketOrder, quotes: Callable[[str], Quote]) -> Quote:
    """Return the quote of a package: what it costs to buy it as it is written, per unit."""
    size = max(multiplier(leg.symbol) for leg in order.legs)
    net = Decimal(0)
    for leg in order.legs:
        worth = price_of_leg(leg, quotes(leg.symbol)) * units(order, leg) * multiplier(leg.symbol) / size
        net += worth if leg.is_buy else -worth
    return replace(quotes(order.legs[0].symbol), symbol=order.symbol, bid=net, ask=net, last=net)


def is_too_dear(
    market: Market, door: str, legs: Iterable[Mapping[str, Any]], quantity: Decimal, account: str = ""
) -> bool:
    """Tell whether so many packages of these legs cost more now than an account of a door can buy for."""
    cost = sum((_cost(market, leg) for leg in legs), Decimal(0))
    return cost * quantity > market.account(door, account).buying_power


def _cost(market: Market, leg: Mapping[str, Any]) -> Decimal:
    """Return what a leg of one package costs, in money; below zero where it is received."""
    quote, size = market.quote(leg["symbol"]), Decimal(leg["ratio"]) * multiplier(leg["symbol"])
    return size * quote.ask if leg["side"] in BUYS else -size * quote.bid
