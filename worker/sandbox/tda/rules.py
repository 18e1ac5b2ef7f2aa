"""TDA's and Schwab's rules for orders: what is refused with 400, and what is taken with 201 and rejected right after.

Pure checks over one request body; nothing here speaks HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from worker.sandbox.http_door import decimal
from worker.sandbox.market.listed import listed
from worker.sandbox.market.market import Market
from worker.sandbox.tda.dialect import (
    INSTRUCTIONS,
    LINK_BASES,
    OPTION_INSTRUCTIONS,
    ORDER_TYPES,
    SESSIONS,
    DoorDialect,
    Json,
)

#: Order type to the prices it must carry.
NEEDS: dict[str, tuple[str, ...]] = {
    "LIMIT": ("price",),
    "STOP": ("stopPrice",),
    "STOP_LIMIT": ("price", "stopPrice"),
    "LIMIT_ON_CLOSE": ("price",),
    "TRAILING_STOP": ("stopPriceOffset",),
}
#: Why an order that was taken is rejected a moment later.
REJECTIONS = {
    "no_position": (
        "This order may result in an oversold/overbought position in your account. "
        "Please check your position quantity and/or open orders."
    ),
    "insufficient_funds": "You do not have enough available cash/buying power for this order.",
}


def read_order(body: object, dialect: DoorDialect) -> Json:
    """Return what the market needs to know of an order body; Refusal (400) for one that does not pass validation."""
    if not isinstance(body, dict):
        raise dialect.no(400, "Unable to parse the request body", "Unable to parse the request body")
    order_type = _word(body, "orderType", dialect.order_types, dialect)
    duration = _word(body, "duration", dialect.durations, dialect)
    session = _word(body, "session", SESSIONS, dialect)
    if body.get("orderStrategyType") != "SINGLE":
        raise dialect.invalid("orderStrategyType must be SINGLE here")
    if dialect.name == "schwab" and "requestedDestination" in body:
        raise dialect.invalid("requestedDestination is not accepted")
    if session != "NORMAL" and order_type != "LIMIT":
        raise dialect.invalid(f"orderType {order_type} is only accepted in the NORMAL session")
    symbol, side, quantity = _read_leg(body, dialect)
    prices = _read_prices(body, order_type, dialect)
    kind, named_time = ORDER_TYPES[order_type]
    percent = order_type == "TRAILING_STOP" and body.get("stopPriceLinkType") == "PERCENT"
    offset = prices.get("stopPriceOffset")
    return {
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "order_type": kind,
        "time_in_force": named_time or ("gtd" if body.get("cancelTime") else dialect.durations[duration]),
        "limit_price": prices.get("price") if kind in ("limit", "stop_limit") else None,
        "stop_price": prices.get("stopPrice") if kind in ("stop", "stop_limit") else None,
        "trail_amount": None if percent else offset,
        "trail_percent": offset if percent else None,
        "extended_hours": session != "NORMAL",
        "client_order_id": None,
        "extra": {"wire": _echo(body, order_type, prices)},
    }


def _word(body: Json, name: str, allowed: Collection[str], dialect: DoorDialect) -> str:
    value = body.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise dialect.no_word(name, value)
    return value


def _read_leg(body: Json, dialect: DoorDialect) -> tuple[str, str, Decimal]:
    """Return symbol, instruction and quantity of the one leg.

    Raises:
        Refusal: there are more, none, or it cannot be read.
    """
    legs = body.get("orderLegCollection")
    if not isinstance(legs, list) or len(legs) != 1 or not isinstance(legs[0], dict):
        raise dialect.invalid("orderLegCollection must hold exactly one leg")
    return read_leg(legs[0], dialect)


def read_leg(leg: object, dialect: DoorDialect) -> tuple[str, str, Decimal]:
    """Return symbol, side and quantity of one leg; Refusal (400) where it cannot be read."""
    if not isinstance(leg, dict):
        raise dialect.invalid("a leg is an object")
    instrument, quantity = leg.get("instrument"), decimal(leg.get("quantity"))
    kinds = ("EQUITY", "OPTION", dialect.fund_type)
    if not isinstance(instrument, dict) or instrument.get("assetType") not in kinds:
        raise dialect.invalid("instrument.assetType must be EQUITY or OPTION")
    is_option = instrument["assetType"] == "OPTION"
    sides = OPTION_INSTRUCTIONS if is_option else INSTRUCTIONS
    instruction = _word(leg, "instruction", sides, dialect)
    symbol = instrument.get("symbol")
    if not isinstance(symbol, str) or not symbol:
        raise dialect.invalid("instrument.symbol is required")
    if quantity is None or quantity <= 0 or quantity != quantity.to_integral_value():
        raise dialect.invalid("quantity must be a whole number above zero")
    named = dialect.ours(symbol)
    if (listed(named) is not None) != is_option or (is_option and dialect.theirs(named) != symbol):
        raise dialect.invalid(f"instrument.symbol is no {instrument['assetType']}, was {symbol!r}")
    return named, sides[instruction], quantity


def _read_prices(body: Json, order_type: str, dialect: DoorDialect) -> dict[str, Decimal]:
    """Return the prices of a body, as an order of its type needs them.

    Raises:
        Refusal: one is missing, is none, or has too many decimals.
    """
    prices: dict[str, Decimal] = {}
    for name in ("price", "stopPrice", "stopPriceOffset"):
        if body.get(name) is None:
            continue
        price = decimal(body[name])
        if price is None or price <= 0:
            raise dialect.invalid(f"{name} must be a number above zero, was {body[name]!r}")
        step = Decimal("0.01") if price >= 1 else Decimal("0.0001")
        if price % step:
            raise dialect.invalid(f"{name} has too many decimals, was {price}")
        prices[name] = price
    for name in NEEDS.get(order_type, ()):
        if name not in prices:
            raise dialect.invalid(f"{name} is required for orderType {order_type}")
    if order_type == "TRAILING_STOP":
        _word(body, "stopPriceLinkBasis", LINK_BASES, dialect)
        _word(body, "stopPriceLinkType", ("VALUE", "PERCENT", "TICK"), dialect)
    return prices


def _echo(body: Json, order_type: str, prices: dict[str, Decimal]) -> Json:
    """Return the part of the request that the order shows again."""
    words = ("session", "duration", "cancelTime", "stopPriceLinkBasis", "stopPriceLinkType", "stopType")
    echo: Json = {name: body[name] for name in words if name in body}
    return {**echo, "orderType": order_type, **{name: float(price) for name, price in prices.items()}}


def read_window(query: Mapping[str, str], dialect: DoorDialect) -> tuple[datetime, datetime]:
    """Return the times between which a listing shows orders; Refusal (400) for a window that is none.

    TDA takes whole UTC days or exact times and cuts a long window short (tda-api asks from 1971 on); Schwab insists on
    exact times and refuses a window of more than a year.
    """
    names = ("fromEnteredTime", "toEnteredTime")
    if dialect.list_window_required and not all(query.get(name) for name in names):
        raise dialect.no(400, "Bad Request", "fromEnteredTime and toEnteredTime are required")
    longest = timedelta(days=dialect.max_window_days)
    try:
        parse = _parse_time if dialect.list_window_required else _parse_day
        last = parse(query[names[1]], time.max) if query.get(names[1]) else datetime.now(UTC) + timedelta(days=1)
        first = parse(query[names[0]], time.min) if query.get(names[0]) else last - longest
    except ValueError:
        raise dialect.no(400, "Bad Request", "fromEnteredTime or toEnteredTime is not valid") from None
    if not dialect.list_window_required:
        first = max(first, last - longest - timedelta(days=1))
    if first > last or last - first > longest + timedelta(days=1):
        raise dialect.no(400, "Bad Request", f"The window must be 0 to {longest.days} days long")
    return first, last


def _parse_day(text: str, of_day: time) -> datetime:
    if len(text) > len("2026-01-31"):
        return _parse_time(text, of_day)
    return datetime.combine(date.fromisoformat(text), of_day, UTC)


def _parse_time(text: str, _: time) -> datetime:
    at = datetime.fromisoformat(text.replace(" ", "+"))
    if at.tzinfo is None:
        raise ValueError(text)
    return at


def rejection(market: Market, door: str, fields: Json) -> str | None:
    """Return why an order is taken and rejected a moment later; None when it may work.

    Besides what the market itself refuses, shares that open closing orders already claim count as gone.
    """
    reason = market.refusal(door=door, **fields)
    if reason is None and fields["side"] in ("sell", "buy_to_cover"):
        open_orders = (o for o in market.orders(door) if o.is_live and "parent" not in o.extra)
        terms = (fields["account"], fields["symbol"], fields["side"])
        same = (o for o in open_orders if (o.account, o.symbol, o.side) == terms)
        claimed = sum((o.remaining_quantity for o in same), Decimal(0))
        held = market.account(door, fields["account"]).positions[fields["symbol"]].quantity
        reason = "no_position" if abs(held) - claimed < fields["quantity"] else None
    return None if reason is None else REJECTIONS.get(reason, reason)
