"""Orders with legs at the TDA and Schwab doors: a single order with several legs, at a net price.

By Schwab's documents: NET_DEBIT, NET_CREDIT and NET_ZERO, or MARKET; legs are options, and shares beside them. The
order's own quantity counts packages; where it is left out, the largest number that all legs share does.
"""

from __future__ import annotations

from decimal import Decimal
from math import gcd
from typing import Any

from worker.sandbox.http_door import decimal
from worker.sandbox.market.market import Market
from worker.sandbox.market.packages import is_too_dear
from worker.sandbox.tda.dialect import DoorDialect, Json
from worker.sandbox.tda.rules import REJECTIONS, read_leg, rejection

SIGNS = {"NET_DEBIT": 1, "NET_CREDIT": -1, "NET_ZERO": 0}
STRATEGIES = frozenset(
    {
        "NONE", "COVERED", "VERTICAL", "BACK_RATIO", "CALENDAR", "DIAGONAL", "STRADDLE", "STRANGLE", "COLLAR_SYNTHETIC",
        "BUTTERFLY", "CONDOR", "IRON_CONDOR", "VERTICAL_ROLL", "COLLAR_WITH_STOCK", "DOUBLE_DIAGONAL",
        "UNBALANCED_BUTTERFLY", "UNBALANCED_CONDOR", "UNBALANCED_IRON_CONDOR", "UNBALANCED_VERTICAL_ROLL", "CUSTOM",
    }
)  # fmt: skip


def is_package(body: object) -> bool:
    """Tell whether an order body has several legs."""
    legs = body.get("orderLegCollection") if isinstance(body, dict) else None
    return isinstance(legs, list) and len(legs) > 1


def read_package(body: Any, dialect: DoorDialect) -> Json:
    """Return what the market needs to know of a body with several legs; Refusal (400) for a rule that is broken."""
    kind, duration = body.get("orderType"), body.get("duration")
    if kind not in (*SIGNS, "MARKET") or duration not in dialect.durations or body.get("session") != "NORMAL":
        raise dialect.invalid("an order with several legs is MARKET or NET_..., in the NORMAL session")
    if body.get("orderStrategyType") != "SINGLE" or body.get("complexOrderStrategyType", "NONE") not in STRATEGIES:
        raise dialect.invalid("orderStrategyType or complexOrderStrategyType is not valid")
    price = decimal(body.get("price"))
    needs = kind in ("NET_DEBIT", "NET_CREDIT")
    if needs != (price is not None) or (price is not None and (price <= 0 or price % Decimal("0.01"))):
        raise dialect.invalid(f"price is not valid for orderType {kind}, was {body.get('price')!r}")
    legs = [read_leg(leg, dialect) for leg in body["orderLegCollection"]]
    if len(legs) > 4 or len({symbol for symbol, _, _ in legs}) < len(legs):
        raise dialect.invalid("orderLegCollection must hold at most four legs, each of another instrument")
    quantity = decimal(body.get("quantity")) or Decimal(gcd(*(int(size) for _, _, size in legs)))
    words = {name: body[name] for name in ("session", "duration", "complexOrderStrategyType") if name in body}
    limit = None if kind == "MARKET" else SIGNS[str(kind)] * (price or Decimal(0))
    return {
        "symbol": legs[0][0],
        "side": "buy",
        "quantity": quantity,
        "order_type": "market" if limit is None else "limit",
        "time_in_force": dialect.durations[str(duration)],
        "limit_price": limit,
        "client_order_id": None,
        "legs": [{"symbol": symbol, "side": side, "ratio": size / quantity} for symbol, side, size in legs],
        "extra": {"wire": words | {"orderType": kind} | ({"price": float(price)} if price is not None else {})},
    }


def rejection_of(market: Market, door: str, fields: Json) -> str | None:
    """Return why an order, of whatever kind, is taken and rejected a moment later; None where it may work."""
    if "legs" not in fields:
        return rejection(market, door, fields)
    account, quantity = market.account(door, fields["account"]), fields["quantity"]
    for leg in fields["legs"]:
        position = account.positions.get(leg["symbol"])
        held, wanted = position.quantity if position else Decimal(0), quantity * leg["ratio"]
        if (leg["side"] == "sell" and held < wanted) or (leg["side"] == "buy_to_cover" and -held < wanted):
            return REJECTIONS["no_position"]
    is_dear = is_too_dear(market, door, fields["legs"], quantity, fields["account"])
    return REJECTIONS["insufficient_funds"] if is_dear else None
