"""Linked orders at the Alpaca door: bracket, oco and oto, one request that makes several orders.

By Alpaca's documents: exits wake when the entry is completely filled, and end with it; an oco order is exits alone, the
limit order with the stop order in its `legs`; only the parent has the client's id.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.sandbox.http_door import Refusal, decimal

if TYPE_CHECKING:
    from worker.sandbox.alpaca.rules import OrderForm

CLASSES = ("bracket", "oco", "oto")
_CENT = Decimal("0.01")


def _refused(text: str) -> Refusal:
    return Refusal(422, {"code": 42210000, "message": text})


def read_exits(body: dict[str, Any], form: OrderForm) -> list[dict[str, Decimal]]:
    """Return the prices of the exits of a linked order, the take profit first; Refusal for a rule that is broken."""
    kind = str(body.get("order_class"))
    if kind not in CLASSES:
        raise _refused(f"invalid order_class: {kind}")
    exits = {name: _prices(body, name) for name in ("take_profit", "stop_loss") if body.get(name) is not None}
    if kind == "oto" and len(exits) != 1:
        raise _refused("oto orders require exactly one of take_profit and stop_loss")
    if kind != "oto" and len(exits) != 2:
        raise _refused(f"{kind} orders require take_profit and stop_loss")
    if form.time_in_force not in ("day", "gtc") or form.extended_hours:
        raise _refused(f"{kind} orders must be day or gtc, in regular hours")
    quantity = form["qty"]
    if quantity is None or quantity != quantity.to_integral_value():
        raise _refused("fractional orders must be simple orders")
    if kind == "oco":
        if form.order_type != "limit":
            raise _refused("oco orders must be limit orders")
        form.numbers["limit_price"] = exits["take_profit"]["limit_price"]
        exits = {"stop_loss": exits["stop_loss"]}
    target, stop = exits.get("take_profit", {}).get("limit_price"), exits.get("stop_loss", {}).get("stop_price")
    target = target if kind != "oco" else form["limit_price"]
    if target is not None and stop is not None:
        sells = (form.side == "buy") == (kind != "oco")
        if (target - stop if sells else stop - target) < _CENT:
            raise _refused("take_profit.limit_price must be on the profitable side of stop_loss.stop_price")
    return list(exits.values())


def _prices(body: dict[str, Any], name: str) -> dict[str, Decimal]:
    given = body[name]
    needed = "limit_price" if name == "take_profit" else "stop_price"
    if not isinstance(given, dict):
        raise _refused(f"{name} must be an object")
    found = {key: number for key in ("limit_price", "stop_price") if (number := decimal(given.get(key))) is not None}
    if needed not in found or any(number <= 0 for number in found.values()):
        raise _refused(f"{name}.{needed} is required")
    return found


def exit_fields(form: OrderForm, side: str, quantity: Decimal, prices: dict[str, Decimal]) -> dict[str, Any]:
    """Return what the market needs to know of an exit; its `client_order_id` is the broker's own."""
    closing = side if form.order_class == "oco" else "sell" if side == "buy" else "buy_to_cover"
    kinds = {("limit_price",): "limit", ("stop_price",): "stop", ("limit_price", "stop_price"): "stop_limit"}
    return {
        "symbol": form.symbol,
        "side": closing,
        "quantity": quantity,
        "order_type": kinds[tuple(sorted(prices))],
        "time_in_force": form.time_in_force,
        **prices,
    }
