"""Orders with legs at the Alpaca door: `order_class` mleg, by Alpaca's options documentation.

Two to four options with whole ratios in lowest terms, day orders at market or limit; a limit price above zero is paid,
below zero received. `position_intent` may be left out: then what is held decides.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from math import gcd
from typing import TypeGuard

from worker.sandbox.alpaca.bodies import Json, asset_class
from worker.sandbox.alpaca.rules import MAX_CLIENT_ORDER_ID, forbidden, malformed, unprocessable
from worker.sandbox.http_door import decimal
from worker.sandbox.market.market import Market
from worker.sandbox.market.packages import is_too_dear

CLASS = "mleg"
MOST = 4
_SIDES = {
    "buy_to_open": "buy", "buy_to_close": "buy_to_cover", "sell_to_open": "sell_short", "sell_to_close": "sell",
}  # fmt: skip


def is_package(body: object) -> TypeGuard[Json]:
    """Tell whether an order body has legs."""
    return isinstance(body, dict) and body.get("order_class") == CLASS


def read_package(body: Json) -> Json:
    """Return the package that a POST body asks for, as the market takes it; Refusal for a rule of form."""
    given = body.get("legs")
    if not isinstance(given, list) or not 2 <= len(given) <= MOST:
        raise malformed(f"mleg orders require 2 to {MOST} legs")
    if body.get("symbol") or body.get("side"):
        raise malformed("mleg orders must not have symbol or side")
    quantity, kind, limit = decimal(body.get("qty")), body.get("type"), decimal(body.get("limit_price"))
    if quantity is None or quantity <= 0 or quantity != quantity.to_integral_value():
        raise malformed("mleg orders require a whole qty")
    if kind not in ("market", "limit") or body.get("time_in_force") != "day" or body.get("extended_hours"):
        raise unprocessable("mleg orders must be day orders at market or limit")
    if (kind == "limit") != (limit is not None) or (limit is not None and limit % Decimal("0.01")):
        raise malformed("invalid limit_price")
    name = str(body.get("client_order_id") or uuid.uuid4())
    if len(name) > MAX_CLIENT_ORDER_ID:
        raise malformed("client_order_id must be no more than 128 characters")
    legs = [_read_leg(leg) for leg in given]
    if len({leg["symbol"] for leg in legs}) < len(legs):
        raise unprocessable("mleg orders must have unique legs")
    if gcd(*(int(leg["ratio"]) for leg in legs)) != 1:
        raise unprocessable("leg ratios must be relatively prime")
    return {
        "symbol": legs[0]["symbol"], "client_order_id": name, "quantity": quantity, "order_type": kind,
        "time_in_force": "day",
        "limit_price": limit, "legs": legs,
    }  # fmt: skip


def _read_leg(leg: object) -> Json:
    if not isinstance(leg, dict):
        raise malformed("legs must be objects")
    ratio, side, intent = decimal(leg.get("ratio_qty")), leg.get("side"), leg.get("position_intent")
    if ratio is None or ratio <= 0 or ratio != ratio.to_integral_value():
        raise malformed("ratio_qty must be a whole number")
    if intent is not None and intent not in _SIDES:
        raise malformed(f"invalid position_intent: {intent}")
    side = side or (intent or "").partition("_")[0]
    if side not in ("buy", "sell") or not (intent or side).startswith(side):
        raise malformed(f"invalid side: {side}")
    symbol = str(leg.get("symbol") or "")
    if asset_class(symbol) != "us_option":
        raise unprocessable(f"mleg legs must be options, had {symbol}")
    return {"symbol": symbol, "side": side, "ratio": ratio, "intent": intent}


def admit_package(market: Market, door: str, package: Json) -> None:
    """Give each leg its side in the market; Refusal where the account may not place the package."""
    account = market.account(door)
    for leg in package["legs"]:
        if not market.exists(leg["symbol"]):
            raise malformed(f'asset "{leg["symbol"]}" not found')
        position = account.positions.get(leg["symbol"])
        held, wanted = position.quantity if position else Decimal(0), package["quantity"] * leg["ratio"]
        closes = held >= wanted if leg["side"] == "sell" else -held >= wanted
        intent = leg.pop("intent") or f"{leg['side']}_to_{'close' if closes else 'open'}"
        if intent.endswith("close") and not closes:
            raise forbidden(f"position intent mismatch, inferred: {leg['side']}_to_open, specified: {intent}")
        leg["side"], leg["client_order_id"] = _SIDES[intent], str(uuid.uuid4())
        leg["extra"] = {"order_class": CLASS}
    if is_too_dear(market, door, package["legs"], package["quantity"]):
        raise forbidden("insufficient buying power")
