"""An order in Alpaca's words: which terms it takes, and how they are written. Pure."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from models.errors import Unsupported
from models.messages import OrderRequest, plain
from models.sizes import CENT
from models.vocabulary import AssetClass, OrderType, Side, TimeInForce
from worker.brokers.rest.reading import Body

#: Alpaca has no word for opening or closing: short is a sell without a position.
_SIDES = {Side.BUY: "buy", Side.SELL: "sell", Side.SELL_SHORT: "sell", Side.BUY_TO_COVER: "buy"}
#: Of options: what shall not turn a position around is refused there.
_INTENTS = {
    Side.BUY: "buy_to_open",
    Side.SELL: "sell_to_close",
    Side.SELL_SHORT: "sell_to_open",
    Side.BUY_TO_COVER: "buy_to_close",
}
_PRICES = (
    ("limit_price", "limit_price"),
    ("stop_price", "stop_price"),
    ("trail_price", "trail_amount"),
    ("trail_percent", "trail_percent"),
)


def check_terms(order: OrderRequest, broker: str) -> None:
    """Raise Unsupported for terms that Alpaca takes in no form; called before anything is sent.

    Source: docs/facts/alpaca.md#2.3, #2.7, #6.1, #6.2, #6.4.
    """
    kind = AssetClass.OPTION if order.legs else order.instrument.asset_class
    for holds, words in _RULES[kind](order):
        if not holds:
            size = order.quantity if order.notional is None else order.notional
            raise Unsupported(f"{broker} {words} {'' if size is None else plain(size)}".rstrip(), broker=broker)


#: Whether a rule is kept, and the rule.
_Rules = tuple[tuple[bool, str], ...]


def _of_shares(order: OrderRequest) -> _Rules:
    whole = order.quantity is None or order.quantity == order.quantity.to_integral_value()
    tif, kind = order.time_in_force, order.order_type
    return (
        (whole or tif is TimeInForce.DAY, f"takes fractional quantities with time_in_force day only, was {tif} with"),
        _in_cents(order),
        (whole or kind is not OrderType.TRAILING_STOP, "takes no fractional trailing stops, was"),
        (
            not order.extended_hours or (kind is OrderType.LIMIT and tif is TimeInForce.DAY),
            f"trades extended hours with limit day orders only, was {kind} {tif},",
        ),
        (
            tif not in (TimeInForce.OPG, TimeInForce.CLS) or kind in (OrderType.MARKET, OrderType.LIMIT),
            f"takes {tif} for market and limit orders only, was {kind},",
        ),
        (
            kind is not OrderType.TRAILING_STOP or tif in (TimeInForce.DAY, TimeInForce.GTC),
            f"takes trailing stops as day or gtc only, was {tif},",
        ),
    )


def _in_cents(order: OrderRequest) -> tuple[bool, str]:
    return (
        order.notional is None or order.notional == order.notional.quantize(CENT),
        "takes an amount of money (notional) in whole cents, was",
    )


def _of_options(order: OrderRequest) -> _Rules:
    tif = order.time_in_force
    return ((tif is TimeInForce.DAY, f"takes options with time_in_force day only, was {tif},"),)


def _of_coins(order: OrderRequest) -> _Rules:
    quote = order.instrument.currency
    words = f"shows what is held of a coin under its pair with USD, so corro trades no other there, was {quote},"
    return ((quote == "USD", words), _in_cents(order))


_RULES: dict[AssetClass, Callable[[OrderRequest], _Rules]] = {
    AssetClass.US_EQUITY: _of_shares,
    AssetClass.OPTION: _of_options,
    AssetClass.CRYPTO: _of_coins,
}


def order_body(order: OrderRequest, client_order_id: str) -> Body:
    """Return the order as Alpaca takes it: exact decimal strings, never floats."""
    body: Body = {
        "symbol": order.symbol,
        **({"qty": plain(order.units)} if order.notional is None else {"notional": plain(order.notional)}),
        "side": _SIDES[order.side],
        "type": order.order_type.value,
        "time_in_force": order.time_in_force.value,
        "client_order_id": client_order_id,
    }
    for theirs, ours in _PRICES:
        price = getattr(order, ours)
        if price is not None:
            body[theirs] = plain(price)
    if order.extended_hours:
        body["extended_hours"] = True
    if order.instrument.asset_class is AssetClass.OPTION:
        body["position_intent"] = _INTENTS[order.side]
    return body


def replace_body(order: OrderRequest, client_order_id: str, quantity: Decimal | None) -> Body:
    """Return the new terms as Alpaca takes them: exact decimal strings; no `qty` keeps that of the old order."""
    trail = order.trail_amount if order.trail_amount is not None else order.trail_percent
    numbers = {"qty": quantity, "limit_price": order.limit_price, "stop_price": order.stop_price, "trail": trail}
    body: Body = {name: plain(value) for name, value in numbers.items() if value is not None}
    return body | {"time_in_force": order.time_in_force.value, "client_order_id": client_order_id}


def check_trail(old: OrderRequest, new: OrderRequest, broker: str) -> None:
    """Raise Unsupported for a trail in dollars that shall be one in percent: PATCH has one field for both."""
    if (old.trail_amount is None) != (new.trail_amount is None):
        raise Unsupported(f"{broker}: a replace cannot turn trail_amount into trail_percent", broker=broker)
