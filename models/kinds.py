"""What each kind of order needs, and takes: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.encoding import plain
from models.vocabulary import OrderType

if TYPE_CHECKING:
    from models.messages import OrderRequest

#: Prices an order type needs; all other price fields must be absent.
PRICES: dict[OrderType, frozenset[str]] = {
    OrderType.MARKET: frozenset(),
    OrderType.LIMIT: frozenset({"limit_price"}),
    OrderType.STOP: frozenset({"stop_price"}),
    OrderType.STOP_LIMIT: frozenset({"limit_price", "stop_price"}),
    OrderType.TRAILING_STOP: frozenset(),
}
_TRAILS = ("trail_amount", "trail_percent")
#: The same at a glance: no limit_price, no stop_price, how many of the trails are missing.
_MISSING = {
    kind: ("limit_price" not in needed, "stop_price" not in needed, 1 if kind is OrderType.TRAILING_STOP else 2)
    for kind, needed in PRICES.items()
}


def wrong_prices(order: OrderRequest) -> str | None:
    """Return what is wrong with the prices of an order, with the field first; None where they fit its type."""
    if order.limit_price is not None and order.limit_price <= 0 and order.legs is None:
        return f"limit_price: must be greater than zero, was {plain(order.limit_price)!r}"
    trails_missing = (order.trail_amount is None) + (order.trail_percent is None)
    if (order.limit_price is None, order.stop_price is None, trails_missing) == _MISSING[order.order_type]:
        return None
    needed = PRICES[order.order_type]
    for name in ("limit_price", "stop_price"):
        given = getattr(order, name)
        if name in needed and given is None:
            return f"{name}: a {order.order_type} order needs one, was none"
        if name not in needed and given is not None:
            return f"{name}: a {order.order_type} order takes none, was {plain(given)}"
    trails = [name for name in _TRAILS if getattr(order, name) is not None]
    if order.order_type is OrderType.TRAILING_STOP and len(trails) != 1:
        return f"trail_amount: a trailing_stop order needs trail_amount or trail_percent, had {trails}"
    return f"{trails[0]}: only a trailing_stop order takes one"
