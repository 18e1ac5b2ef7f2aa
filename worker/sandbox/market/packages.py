"""Orders with legs in the market: one order trades several instruments at once, or none of them.

A package is an order of its own, whose price is the difference of its legs; each leg is an order that waits for ever
and trades only when the package does. Positions and money move by the legs. What belongs together is in `extra`, which
the ledger keeps: `package` of the one, `parent` and `leg` of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.sandbox.market.listed import multiplier
from worker.sandbox.market.orders import MarketOrder
from worker.sandbox.market.prices import Quote

if TYPE_CHECKING:
    from worker.sandbox.market.market import Market

#: What the legs have from their package.
_SHARED = ("door", "account")


def place_package(market: Market, legs: Iterable[Mapping[str, Any]], **fields: Any) -> MarketOrder:
    """Take a package and its legs.

    Args:
        market: where.
        legs: of each `symbol`, `side`, `ratio`, and what the door wants to remember of it as `extra`.
        **fields: of the package, as `Market.place` takes them.
    """
    fields["extra"] = {**fields.get("extra", {}), "package": True}
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


def net_price(symbols: Iterable[tuple[str, bool, Decimal]], quotes: Callable[[str], Quote]) -> Decimal:
    """Return what a package would cost now, in money.

    Args:
        symbols: of each leg its symbol, whether it is bought, and how much.
        quotes: return the quote of a symbol.
    """
    worth = ((s, buys, size * multiplier(s)) for s, buys, size in symbols)
    return sum((size * quotes(s).ask if buys else -size * quotes(s).bid for s, buys, size in worth), Decimal(0))
