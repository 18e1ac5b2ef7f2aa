"""An order in TDA's or Schwab's words: which terms the dialect takes, and how they are written. Pure."""

from __future__ import annotations

from decimal import Decimal

from models.errors import Unsupported
from models.messages import OrderRequest, plain
from models.vocabulary import AssetClass, OrderType, TimeInForce
from worker.brokers.rest.reading import Body
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.legs import ends, leg_body, package_body

#: Times in force that outlast a session, as SEAMLESS (AM, regular and PM in one order) needs.
_LONG = frozenset({TimeInForce.DAY, TimeInForce.GTC})


def order_body(order: OrderRequest, dialect: TdaDialect, broker: str) -> Body:
    """Return an order as the broker takes it.

    Raises:
        Unsupported: it cannot be said in this dialect.
    """
    if order.legs is not None:
        return package_body(order, dialect)
    if order.extended_hours and (order.order_type is not OrderType.LIMIT or order.time_in_force not in _LONG):
        words = f"limit orders that are day or gtc only, was {order.order_type} {order.time_in_force}"
        raise Unsupported(f"{broker} trades extended hours with {words}", broker=broker)
    return {
        "session": "SEAMLESS" if order.extended_hours else "NORMAL",
        "duration": dialect.durations.get(order.time_in_force, "DAY"),
        "orderType": _order_type(order, dialect, broker),
        # Assumed (docs/facts/schwab.md#2.21): no recording shows that it ends an order.
        **ends(order),
        **_prices(order, broker),
        "orderLegCollection": [leg_body(order.instrument, order.side, order.units, dialect)],
        "orderStrategyType": "SINGLE",
    }


def _order_type(order: OrderRequest, dialect: TdaDialect, broker: str) -> str:
    if order.time_in_force is not TimeInForce.CLS:
        return order.order_type.value.upper()
    if order.order_type not in dialect.on_close:
        words = ", ".join(dialect.on_close)
        raise Unsupported(f"{broker} takes time_in_force cls with {words} only, was {order.order_type}", broker=broker)
    return dialect.on_close[order.order_type]


def _prices(order: OrderRequest, broker: str) -> Body:
    """Return the prices of an order's body, in the steps that the exchanges take.

    Raises:
        Unsupported: a price lies between two steps.
    """
    prices: Body = {}
    if order.limit_price is not None:
        prices["price"] = _tick(order.limit_price, "limit_price", broker, order)
    if order.stop_price is not None:
        prices["stopPrice"] = _tick(order.stop_price, "stop_price", broker, order)
    trail = order.trail_amount or order.trail_percent
    if trail is not None:
        name = "trail_amount" if order.trail_amount else "trail_percent"
        prices["stopPriceLinkBasis"] = "LAST"
        prices["stopPriceLinkType"] = "VALUE" if order.trail_amount else "PERCENT"
        prices["stopPriceOffset"] = float(_tick(trail, name, broker, order))  # a JSON number in both specs
    return prices


def _tick(price: Decimal, name: str, broker: str, order: OrderRequest) -> str:
    """Write a price with the decimals both brokers take: two from one dollar up, four below, of options always two.

    Source: docs/facts/schwab.md#2.17.
    """
    decimals = 2 if price >= 1 or order.instrument.asset_class is AssetClass.OPTION else 4
    rounded = price.quantize(Decimal(1).scaleb(-decimals))
    if rounded != price:
        raise Unsupported(f"{broker} takes {decimals} decimals here, {name} was {plain(price)}", broker=broker)
    return str(rounded)
