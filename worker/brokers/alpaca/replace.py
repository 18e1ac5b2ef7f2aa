"""Replacing orders at Alpaca: PATCH makes a new order in the old one's stead, and its 200 is no promise.

Alpaca's reference of PATCH /v2/orders/{id} (docs.alpaca.markets/reference/patchorderbyorderid-1) says: a success "does
NOT guarantee the existing open order has been replaced": if that is filled first, the new one is rejected. An order
that is accepted, pending_new, pending_cancel or pending_replace cannot be replaced; whole shares only, and the quantity
of a fractional order cannot change; limit and stop prices are required where the order has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal

import structlog

from models.errors import (
    BrokerError,
    InstrumentUnknown,
    NotPermitted,
    OrderRejected,
    RateLimited,
    Refused,
    UnreadableReply,
    Unsupported,
)
from models.messages import plain, utcnow
from models.reports import DONE, BrokerStatus, Found, OrderReport, Sighting
from models.vocabulary import ID_TAKEN
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.codes import Duplicate, told
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.alpaca.terms import replace_body
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.rest.http import Exchange, lost_after
from worker.brokers.rest.reading import READ_WITHIN_S
from worker.brokers.rest.replacing import NewOrderInstead
from worker.brokers.values import segment

_log = structlog.get_logger(__name__)

#: A new order in one of these has not reached the exchange; the replace may still be rejected.
_ON_ITS_WAY = frozenset({"accepted", "pending_new", "pending_replace"})
#: Pauses between looks at a new order; unsettled after them it is reported as it is, and updates follow.
_LOOKS_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)


class AlpacaReplaces(NewOrderInstead[OrderReport]):
    """Replaces orders of one account.

    Args:
        broker: name from the settings.
        rest: returns the trading API, or raises NotConnected.
        find: looks an order up by its client_order_id.
    """

    not_yet = frozenset({"accepted", "pending_new", "pending_cancel", "pending_replace"})

    def __init__(self, broker: str, rest: Callable[[], AlpacaRest], find: Callable[[OrderRef], Sighting]) -> None:
        super().__init__(broker)
        self._rest, self._find = rest, find

    def look(self, ref: OrderRef) -> OrderReport | None:
        """Read the order by the broker's id, or else by ours."""
        path, query = "/orders:by_client_order_id", {"client_order_id": ref.broker_client_order_id}
        if ref.broker_order_id is not None:
            path, query = f"/orders/{segment(ref.broker_order_id)}", {}
        try:
            return self._read(path, query)
        except InstrumentUnknown:
            return None

    def send(self, old: OrderReport, left: Decimal, ticket: Ticket) -> OrderReport:
        """Send the new terms, and read the answer; a refusal is believed once the new order is not there either."""
        body = replace_body(ticket.order, ticket.broker_client_order_id, self._quantity(old, left))
        path, rest = f"/orders/{segment(str(old.broker_order_id))}", self._rest()
        try:
            return rest.parse(read.order_report, rest.patch(path, body, ticket.deadline_s, ticket.still_mine))
        except (RateLimited, NotPermitted):
            raise
        except Refused as no:
            return self._in_spite_of(no, ticket)

    def follow(
        self, sent: OrderReport, old: OrderReport, ticket: Ticket, whole: Exchange
    ) -> tuple[OrderReport, Decimal]:
        """Follow both orders until it is clear which of them stands, or for a while."""
        _check_identity(self._broker, sent, old, ticket)
        new, now = sent, old
        for pause in _LOOKS_S:
            time.sleep(min(pause, whole.left()))
            try:
                new, now = (self._again(order) for order in (new, old))
            except BrokerError as error:
                about = {"broker": self._broker, "broker_order_id": new.broker_order_id}
                _log.warning("replacement_unread", error=str(error), **about)
                break
            if new.status in DONE or (now.status in DONE and new.raw_status not in _ON_ITS_WAY):
                break
        if new.status is BrokerStatus.REJECTED and not new.filled_quantity:
            words = f"the replace was rejected ({new.message or 'no reason given'}), the old order is {now.raw_status}"
            raise OrderRejected(
                f"{self._broker}: {words}",
                broker=self._broker,
                code="order_replace_rejected",
                broker_order_id=new.broker_order_id,
            )
        return new, now.filled_quantity or Decimal(0)

    def cancel(self, new: OrderReport) -> OrderReport:
        """Cancel the new order, and read it again."""
        self._rest().delete(f"/orders/{segment(str(new.broker_order_id))}", READ_WITHIN_S)
        return self._again(new)

    # -- INSIDE ---
    def _read(self, path: str, query: Mapping[str, str] | None = None) -> OrderReport:
        rest = self._rest()
        return rest.parse(read.order_report, rest.read(path, query, dict))

    def _again(self, order: OrderReport) -> OrderReport:
        return self._read(f"/orders/{segment(str(order.broker_order_id))}")

    def _quantity(self, old: OrderReport, left: Decimal) -> Decimal | None:
        """Return the quantity to send; None keeps that of a fractional order, which cannot change."""
        if all(size == size.to_integral_value() for size in (left, old.quantity or left)):
            return left
        if left == old.quantity:
            return None
        words = f"a fractional quantity, from {plain(old.quantity or left)} to {plain(left)}"
        raise Unsupported(f"{self._broker}: a replace cannot change {words}", broker=self._broker)

    def _in_spite_of(self, no: Refused, ticket: Ticket) -> OrderReport:
        """Look for the new order after a refusal: one came though it was there (alpacahq/alpaca-trade-api-python#306).

        Raises:
            Refused: it is not there.
            OutcomeUnknown: it may be.
        """
        our_id = ticket.broker_client_order_id
        ref = OrderRef(order=ticket.order, broker_client_order_id=our_id, broker_order_id=None, sent_at=utcnow())
        try:
            seen = self._find(ref)
        except Exception as error:
            raise lost_after(error, self._broker) from error
        if isinstance(seen, Found):
            return seen.report
        if isinstance(no, Duplicate):
            words = f"client_order_id {our_id} is taken, says Alpaca, and {told(seen)}"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker, code=ID_TAKEN)
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
