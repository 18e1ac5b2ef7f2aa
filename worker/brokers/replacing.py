"""Replacing a live order: which terms may change, at every broker.

IB changes the order in place and takes its new total (`ibkr.replace`); the others make a new order (`rest.replacing`).
"""

from __future__ import annotations

from models.errors import Unsupported
from models.messages import OrderRequest

#: Terms that no broker changes in a replace, and those that a replace may change.
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
