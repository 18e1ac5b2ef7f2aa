"""Replacing a live order: what may change, and how much a replacement of its own may trade.

Two kinds of broker: IB changes the order in place and takes its new total. Alpaca, TDA and Schwab make a new order that
trades the quantity it is given, whatever the old one has filled: Alpaca by its own staff's bug report
(alpacahq/Alpaca-API#165, open since 2021: a replaced order "reflects the original qty N and not the unfilled qty"), TDA
and Schwab because the body of a PUT is a whole order (docs/facts/schwab.md#2.8). So what is sent there is what is left.
"""

from __future__ import annotations

from decimal import Decimal

from models.errors import BrokerError, NotConnected, OrderRejected, Unsupported
from models.messages import OrderRequest, plain
from worker.brokers.base import OrderRef

#: What no broker changes in a replace.
FIXED = ("symbol", "side", "order_type", "extended_hours")
CHANGEABLE = ("quantity", "limit_price", "stop_price", "trail_amount", "trail_percent", "time_in_force")


def check_changes(old: OrderRequest, new: OrderRequest, broker: str) -> None:
    """Raise Unsupported unless quantity, prices or time in force differ, and nothing else does."""
    for name in FIXED:
        if getattr(old, name) != getattr(new, name):
            words = f"{name} from {getattr(old, name)} to {getattr(new, name)}"
            raise Unsupported(f"{broker}: a replace cannot change {words}: cancel it and send another", broker=broker)
    if all(getattr(old, name) == getattr(new, name) for name in CHANGEABLE):
        raise Unsupported(f"{broker}: the new terms are those the order has", broker=broker)


def left_to_trade(
    ref: OrderRef, total: Decimal, quantity: Decimal | None, filled: Decimal | None, broker: str
) -> Decimal:
    """Return what a replacement may trade so that the whole order comes to its new total.

    The live order may be a replacement itself, for less than its order's total: what its predecessors have filled is
    the difference.

    Args:
        ref: the live order, with the terms it has.
        total: the new total.
        quantity: what the live order trades in all, as the broker shows it.
        filled: what of that is filled.
        broker: name, for messages.

    Raises:
        Refused: nothing is left, or the broker's quantity contradicts ours.
    """
    if quantity is None or quantity > ref.order.quantity:
        shown = "no quantity" if quantity is None else plain(quantity)
        words = f"it shows {shown} where we ordered {plain(ref.order.quantity)}"
        raise OrderRejected(f"{broker}: not replaced, {words}; read it again", broker=broker)
    done = ref.order.quantity - quantity + (filled or Decimal(0))
    if total <= done:
        words = f"{plain(done)} of the new total of {plain(total)} are filled already"
        raise OrderRejected(f"{broker}: not replaced, {words}; read it again", broker=broker)
    return total - done


def unsent(error: BrokerError, broker: str) -> NotConnected:
    """Wrap a failed reading before a replace: nothing of it has left."""
    return NotConnected(f"{broker}: the order could not be read, so it was not replaced: {error}", broker=broker)
