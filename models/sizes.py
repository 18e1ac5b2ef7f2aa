"""How large an order is: a quantity, or an amount of money that buys as much as it is worth. Pure.

| of an order of money (`notional`) | holds                                                                            |
|-----------------------------------|----------------------------------------------------------------------------------|
| quantity                          | none, nor in the record: nobody ordered one; `filled_quantity` says what it got  |
| side                              | buy: what is to be sold is held as a quantity                                    |
| order_type                        | market, limit, stop or stop_limit                                                |
| time_in_force                     | day of shares, as the class has it of coins                                      |
| linked orders, a replace          | none: nobody knows of which quantity                                             |
| filled                            | when its broker says so, never by adding up                                      |
| limits                            | its value is the money; its units are those it buys at the price that limits use |

Of its executions and what may still live, no more money may be spent than was ordered: a broker that rounds is within a
cent, one that goes further is told as `overfilled`.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, TypedDict

from models.encoding import plain
from models.instruments import RULES
from models.vocabulary import AssetClass, OrderType, Side, TimeInForce

if TYPE_CHECKING:
    from models.messages import OrderRequest


class Sized(TypedDict):
    """What every row of an order says of its size."""

    quantity: Decimal | None
    notional: Decimal | None
    filled_quantity: Decimal


_TYPES = (OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT)
_WORDS = ", ".join(_TYPES)
#: Finest quantity that is kept.
_FINEST = Decimal("1E-9")
#: How far a broker may round an amount of money.
CENT = Decimal("0.01")


def wrong_size(order: OrderRequest, kind: AssetClass) -> str | None:
    """Return what is wrong with the size of an order, with the field first; None where it is right."""
    if order.notional is None:
        return None if order.quantity is not None else "quantity: is required, or a notional: money to buy for"
    table = (
        (order.quantity is None, "quantity", "an order of money (notional) has none, was", order.quantity),
        (RULES[kind].notional, "notional", f"asset_class {kind} is ordered by its quantity, was", order.notional),
        (
            order.side is Side.BUY,
            "side",
            "an order of money buys; to sell, name the quantity; was",
            order.side,
        ),
        (
            order.order_type in _TYPES,
            "order_type",
            f"an order of money takes {_WORDS}, was",
            order.order_type,
        ),
        (
            kind is AssetClass.CRYPTO or order.time_in_force is TimeInForce.DAY,
            "time_in_force",
            "an order of money (notional) is good for the day, was",
            order.time_in_force,
        ),
        (order.legs is None, "notional", "no order with legs for an amount of money, was", order.notional),
        (order.group is None, "notional", "no linked orders for an amount of money, was", order.notional),
    )
    return next((f"{name}: {words} {value}" for holds, name, words, value in table if not holds), None)


def left_of(row: Sized) -> Decimal:
    """Return the units of an order that are left to fill; 0 of an order of money: nobody knows how many they are."""
    return Decimal(0) if row["quantity"] is None else row["quantity"] - row["filled_quantity"]


def filled_words(row: Sized) -> str:
    """Write how much of an order is filled for a person."""
    filled, whole = f"filled with {plain(row['filled_quantity'])}", row["quantity"]
    if row["notional"] is not None:
        return f"{filled}, for {plain(row['notional'])} of money"
    return filled if whole is None else f"{filled} of {plain(whole)}"


def units_for(notional: Decimal, price: Decimal) -> Decimal:
    """Return how many units an amount of money buys at most, at a price per unit; rounded up, as limits count."""
    return (notional / price).quantize(_FINEST, ROUND_UP)
