"""An order in Interactive Brokers' words: which terms it takes, and how they are written. Pure."""

from __future__ import annotations

import re

from models.errors import Unsupported
from models.messages import OrderRequest, plain
from models.vocabulary import AssetClass, OrderType, Side, TimeInForce
from worker.brokers.ibkr.extras import Field, check_extras, extra_fields

#: orderRef: IB documents no limit; longer or odd ones get lost on the way (docs/facts/ibkr.md#2.1).
REF_LENGTH = 40
_REF = re.compile(r"[!-~]{1,40}")
_REF_BANNED = frozenset(" ,\"'")
#: Both SDKs send this number as "not set".
UNSET_INTEGER = 2**31 - 1

ORDER_TYPES = {
    OrderType.MARKET: "MKT",
    OrderType.LIMIT: "LMT",
    OrderType.STOP: "STP",
    OrderType.STOP_LIMIT: "STP LMT",
    OrderType.TRAILING_STOP: "TRAIL",
    OrderType.TRAIL_LIMIT: "TRAIL LIMIT",
    OrderType.IF_TOUCHED: "MIT",
    OrderType.LIMIT_IF_TOUCHED: "LIT",
}
ON_CLOSE = {OrderType.MARKET: "MOC", OrderType.LIMIT: "LOC"}
TIFS = {
    TimeInForce.DAY: "DAY",
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.OPG: "OPG",
    TimeInForce.GTD: "GTD",
    # On-close orders are an order type at IB, with an ordinary DAY.
    TimeInForce.CLS: "DAY",
}
_AUCTION_TYPES = frozenset({OrderType.MARKET, OrderType.LIMIT})
_AUCTIONS = frozenset({TimeInForce.OPG, TimeInForce.CLS})
#: IB knows no short sale on this wire: a sale of more than the holding is a short sale.
ACTIONS = {Side.BUY: "BUY", Side.BUY_TO_COVER: "BUY", Side.SELL: "SELL", Side.SELL_SHORT: "SELL"}

PRICES = ("limit_price", "stop_price", "trail_amount", "trail_percent")


def check_terms(order: OrderRequest, ref: str, broker: str) -> None:
    """Raise Unsupported for terms that IB takes in no form; called before anything is sent."""
    if not _REF.fullmatch(ref) or _REF_BANNED & set(ref):
        raise Unsupported(f"{broker}: orderRef {ref!r} must be 1-{REF_LENGTH} ASCII characters, no blanks or commas")
    if order.time_in_force in _AUCTIONS and order.order_type not in _AUCTION_TYPES:
        raise Unsupported(f"{broker} takes {order.time_in_force} for market and limit orders only")
    if order.extended_hours and order.order_type is not OrderType.LIMIT:
        raise Unsupported(f"{broker} trades extended hours with limit orders only, not {order.order_type}")
    if order.extended_hours and order.time_in_force in _AUCTIONS:
        raise Unsupported(f"{broker} has no extended hours for {order.time_in_force}: auctions are in regular hours")
    if (
        order.instrument.asset_class is AssetClass.CRYPTO
        and order.order_type is OrderType.MARKET
        and order.side is Side.BUY
    ):
        raise Unsupported(f"{broker} buys coins at the market for an amount of money only: name a limit price")
    check_extras(order, broker)
    if order.units >= UNSET_INTEGER:
        raise Unsupported(f"{broker} cannot carry a quantity of {plain(order.units)}")


#: How a contract's own list of order types (`contractDetails.orderTypes`) spells them.
_LISTED_TYPES = {
    OrderType.MARKET: "MKT",
    OrderType.LIMIT: "LMT",
    OrderType.STOP: "STP",
    OrderType.STOP_LIMIT: "STPLMT",
    OrderType.TRAILING_STOP: "TRAIL",
    OrderType.TRAIL_LIMIT: "TRAILLMT",
    OrderType.IF_TOUCHED: "MIT",
    OrderType.LIMIT_IF_TOUCHED: "LIT",
}
#: How it lists the rarer terms that an order may have.
_LISTED_EXTRAS = {"display_quantity": "ICE", "hidden": "HID", "algo": "ALGO"}
#: Not offered unless the contract lists it: recorded of AAPL, IB shows a FOK order as Inactive and says no more.
_ONLY_LISTED = frozenset({"FOK"})


def check_listed(order: OrderRequest, listed: frozenset[str], broker: str) -> None:
    """Raise Unsupported for an order type or time in force that the contract's own order types do not name.

    Args:
        order: what is wanted.
        listed: the contract's order types, which hold times in force too; empty where IB told none.
        broker: for the message.
    """
    on_close = order.time_in_force is TimeInForce.CLS
    kind = ON_CLOSE[order.order_type] if on_close else _LISTED_TYPES[order.order_type]
    needed = {kind, TIFS[order.time_in_force], *(word for name, word in _LISTED_EXTRAS.items() if getattr(order, name))}
    missing = needed - listed if listed else needed & _ONLY_LISTED
    if missing:
        words = ", ".join(sorted(missing))
        raise Unsupported(f"{broker} does not take {words} orders for {order.symbol}: not among its order types")


def check_change(old: OrderRequest, new: OrderRequest, broker: str) -> None:
    """Raise Unsupported for a change to on-close or from it: it is an order type there (docs/facts/ibkr.md#5.6)."""
    if old.time_in_force is not new.time_in_force and TimeInForce.CLS in (old.time_in_force, new.time_in_force):
        words = f"time_in_force from {old.time_in_force} to {new.time_in_force}: that is another order type there"
        raise Unsupported(f"{broker}: a replace cannot change {words}", broker=broker)


def order_fields(order: OrderRequest, ref: str, account: str) -> dict[str, Field]:
    """Return the fields of the SDK's Order; numbers become floats here and nowhere else."""
    on_close = order.time_in_force is TimeInForce.CLS
    types = ON_CLOSE if on_close else ORDER_TYPES
    fields: dict[str, Field] = {
        "action": ACTIONS[order.side],
        "totalQuantity": int(order.units) if order.units == int(order.units) else float(order.units),
        "orderType": types[order.order_type],
        # Explicit always: without it an order preset sets one and answers 10349 (docs/facts/ibkr.md#4.5).
        "tif": TIFS[order.time_in_force],
        "orderRef": ref,
        "account": account,
        "outsideRth": order.extended_hours,
        "transmit": True,
    }
    prices = {
        "lmtPrice": order.limit_price,
        "auxPrice": order.trail_amount
        if order.order_type is OrderType.TRAIL_LIMIT
        else order.stop_price or order.trail_amount,
        "trailingPercent": order.trail_percent,
    }
    return fields | {name: float(price) for name, price in prices.items() if price is not None} | extra_fields(order)
