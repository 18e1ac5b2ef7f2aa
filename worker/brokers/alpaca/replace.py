"""Replacing orders at Alpaca: PATCH makes a new order in the old one's stead, and its 200 is no promise.

Alpaca's reference of PATCH /v2/orders/{id} (docs.alpaca.markets/reference/patchorderbyorderid-1) says: a success "does
NOT guarantee the existing open order has been replaced": if that is filled first, the new one is rejected. An order
that is accepted, pending_new, pending_cancel or pending_replace cannot be replaced; whole shares only, and the quantity
of a fractional order cannot change; limit and stop prices are required where the order has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import structlog

from models.errors import (
    BrokerError,
    InstrumentUnknown,
    NotPermitted,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    RateLimited,
    Refused,
    UnreadableReply,
    Unsupported,
)
from models.messages import OrderRequest, plain, utcnow
from models.reports import DONE, BrokerStatus, Found, OrderReport, Sighting
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.codes import Duplicate
from worker.brokers.alpaca.rest import READ_WITHIN_S, AlpacaRest
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.replacing import left_to_trade, unsent
from worker.brokers.rest.http import Exchange, exchange, lost_after
from worker.brokers.values import segment
from worker.pacing.budget import Use, using

_log = structlog.get_logger(__name__)

#: What Alpaca does not replace, besides what is done.
_NOT_YET = frozenset({"accepted", "pending_new", "pending_cancel", "pending_replace"})
#: A new order in one of these has not reached the exchange; the replace may still be rejected.
_ON_ITS_WAY = frozenset({"accepted", "pending_new", "pending_replace"})
#: Pauses between looks at a new order; what is not settled after them is reported as it is, and updates follow.
_LOOKS_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)


def replace(
    broker: str, rest: AlpacaRest, find: Callable[[OrderRef], Sighting], ref: OrderRef, ticket: Ticket
) -> OrderReport:
    """Replace one order; see `BrokerInterface.replace_order`.

    Alpaca takes as `qty` what the new order shall trade, whatever the old one has filled (alpacahq/Alpaca-API#165), so
    what is left is sent; if Alpaca ever counted it as a total, the order would come out too small, never too large.

    Args:
        broker: name from the settings.
        rest: the trading API.
        find: looks an order up by its client_order_id.
        ref: the order that is live now.
        ticket: the whole order with its new terms, and the client_order_id of the new one.
    """
    with exchange(ticket.deadline_s) as whole:
        old = _standing(broker, rest, ref)
        body = replace_body(ticket.order, ticket.broker_client_order_id, _quantity(broker, ref, ticket, old))
        path = f"/orders/{segment(str(old.broker_order_id))}"
        try:
            with using(Use.URGENT):  # the reading had an order's turn: to want another one would be two for each change
                raw = rest.patch(path, body, ticket.deadline_s, ticket.still_mine)
            new = rest.parse(read.order_report, raw)
        except (RateLimited, NotPermitted):
            raise
        except Refused as no:
            with using(Use.URGENT):
                new = _in_spite_of(no, broker, find, ticket)
        try:
            _check_identity(broker, new, old, ticket)
            with using(Use.URGENT):
                return _settled(broker, rest, old, new, whole)
        except (Refused, OutcomeUnknown):
            raise
        except Exception as error:
            raise lost_after(error, broker) from error


def replace_body(order: OrderRequest, client_order_id: str, quantity: Decimal | None) -> dict[str, Any]:
    """Return the new terms as Alpaca takes them: exact decimal strings; no `qty` keeps that of the old order."""
    trail = order.trail_amount if order.trail_amount is not None else order.trail_percent
    numbers = {"qty": quantity, "limit_price": order.limit_price, "stop_price": order.stop_price, "trail": trail}
    body = {name: plain(value) for name, value in numbers.items() if value is not None}
    return body | {"time_in_force": order.time_in_force.value, "client_order_id": client_order_id}


def check_trail(old: OrderRequest, new: OrderRequest, broker: str) -> None:
    """Raise Unsupported for a trail in dollars that shall be one in percent: PATCH has one field for both."""
    if (old.trail_amount is None) != (new.trail_amount is None):
        raise Unsupported(f"{broker}: a replace cannot turn trail_amount into trail_percent", broker=broker)


def _standing(broker: str, rest: AlpacaRest, ref: OrderRef) -> OrderReport:
    """Read the order to be replaced, by the broker's id or else by ours."""
    path, query = "/orders:by_client_order_id", {"client_order_id": ref.broker_client_order_id}
    if ref.broker_order_id is not None:
        path, query = f"/orders/{segment(ref.broker_order_id)}", {}
    try:
        old = rest.parse(read.order_report, rest.read(path, query, dict))
    except InstrumentUnknown as error:
        raise OrderRejected(
            f"{broker} shows no such order to replace: {error}", broker=broker, code=error.code
        ) from error
    except NotSent:
        raise
    except BrokerError as error:
        raise unsent(error, broker) from error
    if old.status in DONE or old.raw_status in _NOT_YET:
        words = f"an order that is {old.raw_status} cannot be replaced; read it again"
        raise OrderRejected(f"{broker}: {words}", broker=broker, code=old.raw_status)
    return old


def _quantity(broker: str, ref: OrderRef, ticket: Ticket, old: OrderReport) -> Decimal | None:
    """Return the quantity to send; None keeps that of a fractional order, which cannot change."""
    left = left_to_trade(ref, ticket.order.quantity, old.quantity, old.filled_quantity, broker)
    if all(size == size.to_integral_value() for size in (left, old.quantity or left)):
        return left
    if left == old.quantity:
        return None
    shown = f"from {plain(old.quantity or left)} to {plain(left)}"
    raise Unsupported(f"{broker}: a replace cannot change a fractional quantity, {shown}", broker=broker)


def _in_spite_of(no: Refused, broker: str, find: Callable[[OrderRef], Sighting], ticket: Ticket) -> OrderReport:
    """Look for the new order after a refusal: one came though it was there (alpacahq/alpaca-trade-api-python#306)."""
    our_id = ticket.broker_client_order_id
    ref = OrderRef(order=ticket.order, broker_client_order_id=our_id, broker_order_id=None, sent_at=utcnow())
    try:
        seen = find(ref)
    except Exception as error:
        raise lost_after(error, broker) from error
    if isinstance(seen, Found):
        return seen.report
    if isinstance(no, Duplicate):
        raise UnreadableReply(
            f"{broker}: client_order_id {our_id} is taken, but looking it up gave {seen}", broker=broker
        )
    raise no


def _check_identity(broker: str, new: OrderReport, old: OrderReport, ticket: Ticket) -> None:
    """Raise UnreadableReply unless this is the new order that was asked for."""
    order = ticket.order
    ours = (
        new.broker_client_order_id == ticket.broker_client_order_id
        and new.broker_order_id != old.broker_order_id
        and new.status is not BrokerStatus.UNKNOWN
        and (new.symbol, new.side, new.order_type) == (old.symbol, old.side, old.order_type)
        and new.limit_price == order.limit_price
    )
    if not ours:
        shown = f"{new.broker_client_order_id} as {new.raw_status} at {new.limit_price}"
        raise UnreadableReply(f"{broker}: the answer to {ticket.broker_client_order_id} shows {shown}", broker=broker)


def _settled(broker: str, rest: AlpacaRest, old: OrderReport, new: OrderReport, whole: Exchange) -> OrderReport:
    """Follow both orders until it is clear which of them stands, or for a while."""
    now = old
    for pause in _LOOKS_S:
        time.sleep(min(pause, whole.left()))
        try:
            new, now = (_again(rest, order) for order in (new, old))
        except BrokerError as error:
            _log.warning("replacement_unread", broker=broker, broker_order_id=new.broker_order_id, error=str(error))
            break
        if new.status in DONE or (now.status in DONE and new.raw_status not in _ON_ITS_WAY):
            break
    if new.status is BrokerStatus.REJECTED and not new.filled_quantity:
        words = f"the replace was rejected ({new.message or 'no reason given'}), the old order is {now.raw_status}"
        raise OrderRejected(f"{broker}: {words}", broker=broker, code="order_replace_rejected")
    return _not_too_large(broker, rest, new, (now.filled_quantity or 0) - (old.filled_quantity or 0))


def _again(rest: AlpacaRest, order: OrderReport) -> OrderReport:
    raw = rest.read(f"/orders/{segment(str(order.broker_order_id))}", None, dict)
    return rest.parse(read.order_report, raw)


def _not_too_large(broker: str, rest: AlpacaRest, new: OrderReport, late: Decimal | int) -> OrderReport:
    """Cancel a new order that is too large, because the old one filled on while it was replaced."""
    if late <= 0 or new.status in DONE:
        return new
    _log.error("replacement_too_large", broker=broker, broker_order_id=new.broker_order_id, by=str(late))
    try:
        rest.delete(f"/orders/{segment(str(new.broker_order_id))}", READ_WITHIN_S)
        return _again(rest, new)
    except BrokerError as error:
        _log.error("excess_not_canceled", broker=broker, broker_order_id=new.broker_order_id, error=str(error))
        return new
