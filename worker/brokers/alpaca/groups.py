"""Linked orders at Alpaca: which groups it links, how they are written, and which of its orders belong to one.

Source: docs.alpaca.markets, Placing Orders: bracket, OCO and OTO orders (specified; no live recording). A group is one
request under one client_order_id, its parent's; the orders that belong to it have ids of Alpaca's own and are shown in
the parent's `legs`. Exits wake when the entry is completely filled; canceling one cancels the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from models.groups import GroupKind
from models.messages import OrderRequest, plain
from models.vocabulary import AssetClass, OrderType, TimeInForce, signed
from worker.brokers.lookups import LinkRule
from worker.brokers.rest.reading import Body

#: What Alpaca links: `order_class`.
KINDS = frozenset(GroupKind)
#: Words of `order_class` of orders that are linked to others.
CLASSES = frozenset(str(kind) for kind in GroupKind)
_STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)
_CENT = Decimal("0.01")

#: What a group has to be: any, and one of each kind.
_ANY: tuple[LinkRule, ...] = (
    (lambda lead, legs: all(leg.symbol == lead.symbol for leg in legs), "links orders in one symbol only"),
    (lambda lead, _: lead.instrument.asset_class is AssetClass.US_EQUITY, "links orders in shares only"),
    (lambda lead, legs: all(leg.quantity == lead.quantity for leg in legs), "links orders of one quantity only"),
    (
        lambda lead, legs: all(leg.time_in_force is lead.time_in_force for leg in legs),
        "takes one time_in_force a group",
    ),
    (
        lambda lead, _: lead.time_in_force in (TimeInForce.DAY, TimeInForce.GTC),
        "links orders that are day or gtc only",
    ),
    (lambda lead, legs: not any(one.extended_hours for one in (lead, *legs)), "links no orders in extended hours"),
    (lambda lead, _: lead.units == lead.units.to_integral_value(), "links orders for whole shares only"),
)
_OF: dict[GroupKind, tuple[LinkRule, ...]] = {
    GroupKind.BRACKET: (
        (lambda lead, _: lead.order_type in (OrderType.MARKET, OrderType.LIMIT), "takes entries at market or limit"),
        (lambda _, legs: _are_apart(legs[0], legs[1]), "takes exits that are at least 0.01 apart"),
    ),
    GroupKind.OCO: (
        (lambda lead, legs: legs[0].side is lead.side, "links as oco exits of one position only: one side"),
        (
            lambda lead, legs: lead.order_type is OrderType.LIMIT and legs[0].order_type in _STOPS,
            "links as oco a limit order, which is the first, with a stop or stop_limit order",
        ),
        (lambda lead, legs: _are_apart(lead, legs[0]), "takes exits that are at least 0.01 apart"),
    ),
    GroupKind.OTO: (
        (lambda lead, _: lead.order_type in (OrderType.MARKET, OrderType.LIMIT), "takes entries at market or limit"),
        (lambda lead, legs: signed(legs[0].side) != signed(lead.side), "lets an order trigger its own exit only"),
        (
            lambda _, legs: legs[0].order_type in (OrderType.LIMIT, *_STOPS),
            "lets an order trigger a limit, a stop or a stop_limit order only",
        ),
    ),
}
#: Of the adapter: what each kind of group has to be.
LINK_RULES = {kind: (*_ANY, *rules) for kind, rules in _OF.items()}


def group_body(orders: Sequence[OrderRequest]) -> Body:
    """Return what a group adds to the body of its lead: exact decimal strings; nothing for an order on its own."""
    linked = orders[0].group
    if linked is None:
        return {}
    body: Body = {"order_class": str(linked.kind)}
    for order in orders if linked.kind is GroupKind.OCO else orders[1:]:
        name = "take_profit" if order.order_type is OrderType.LIMIT else "stop_loss"
        prices = {"limit_price": order.limit_price, "stop_price": order.stop_price}
        body[name] = {key: plain(value) for key, value in prices.items() if value is not None}
    return body


def _are_apart(target: OrderRequest, stop: OrderRequest) -> bool:
    """Tell whether a take profit is at least a cent on the good side of its stop."""
    if target.limit_price is None or stop.stop_price is None:
        return True
    return (target.limit_price - stop.stop_price) * -signed(target.side) >= _CENT
