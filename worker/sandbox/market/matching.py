"""When and at what price an order can be filled: pure functions over one order and one quote."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING

from worker.sandbox.faults import Faults
from worker.sandbox.market.accounts import CENT, cents
from worker.sandbox.market.listed import has_hours
from worker.sandbox.market.prices import Quote

if TYPE_CHECKING:
    from worker.sandbox.market.orders import MarketOrder


#: Order types whose stop moves; those that wait for a price; those that wait for a better one; those with a limit.
TRAILS = ("trailing_stop", "trail_limit")
_TOUCHED = ("if_touched", "limit_if_touched")
TRIGGERED = ("stop", "stop_limit", *TRAILS, *_TOUCHED)
_LIMITED = ("limit", "stop_limit", "limit_if_touched", "trail_limit")


def execution_price(order: MarketOrder, quote: Quote) -> Decimal | None:
    """Return the price at which the order trades now, or None when it rests.

    Moves the stop of a trailing stop along and marks a stop as triggered once the last price reached it.
    """
    if order.time_in_force in ("opg", "cls"):
        return None
    if order.order_type in TRAILS and not order.triggered:
        trail(order, quote.last)
    if order.order_type in TRIGGERED and not order.triggered:
        order.triggered = _is_reached(order, quote.last)
        if not order.triggered:
            return None
        if order.order_type == "trail_limit" and order.stop_price is not None:
            away = Decimal(str(order.extra["limit_offset"]))
            order.limit_price = order.stop_price + (away if order.is_buy else -away)
    price = quote.ask if order.is_buy else quote.bid
    if order.limit_price is None or order.order_type not in _LIMITED:
        return price
    marketable = price <= order.limit_price if order.is_buy else price >= order.limit_price
    return price if marketable else None


def rests(order: MarketOrder, faults: Faults) -> bool:
    """Tell whether an order is not to trade now: it is held or waits for another one, or its market is closed."""
    return order.held or order.waits or is_shut(order.door, order.symbol, faults)


def is_shut(door: str, symbol: str, faults: Faults) -> bool:
    """Tell whether a fault has closed the market in which this trades."""
    shut = faults.peek(door, "market_closed", symbol) if has_hours(symbol) else None
    if shut is not None:
        faults.note_once(shut, door, symbol)
    return shut is not None


def sized_by_money(order: MarketOrder, price: Decimal) -> MarketOrder:
    """Give an order for an amount of money the quantity that it buys at its first price."""
    if (money := order.extra.get("notional")) is not None and not order.executions:
        whole = order.quantity
        order.quantity = (Decimal(str(money)) / price).quantize(Decimal("1e-9"), ROUND_DOWN)
        order.fill_cap = None if order.fill_cap is None else order.fill_cap * order.quantity / whole
    return order


def first_stop(order: MarketOrder, quote: Quote) -> None:
    """Give a new trailing stop its first stop price."""
    order.high_water = None
    trail(order, quote.last)


def trail(order: MarketOrder, last: Decimal) -> None:
    """Move the stop of a trailing stop when the market went the order's way."""
    best = order.high_water
    if best is None and order.stop_price is not None and order.order_type == "trail_limit":
        order.high_water = last  # it begins where it was told to
        return
    if best is not None and (last >= best if order.is_buy else last <= best):
        return
    order.high_water = last
    distance = order.trail_amount
    if distance is None:
        distance = cents(last * (order.trail_percent or Decimal(0)) / 100)
    order.stop_price = last + distance if order.is_buy else max(last - distance, CENT)


def _is_reached(order: MarketOrder, last: Decimal) -> bool:
    if order.stop_price is None:
        return True
    if order.order_type in _TOUCHED:  # of a better price
        return last <= order.stop_price if order.is_buy else last >= order.stop_price
    return last >= order.stop_price if order.is_buy else last <= order.stop_price
