"""Placing and canceling orders at Alpaca: sent once, under a client_order_id that Alpaca takes once.

A refusal of the id as a duplicate is no refusal of the order: it means that our own first send had worked.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from models.errors import OrderRejected, UnreadableReply
from models.messages import OrderRequest, utcnow
from models.reports import BrokerStatus, Found, OrderReport, Sighting
from models.terms import contradictions
from models.vocabulary import ID_TAKEN
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.codes import Duplicate, told
from worker.brokers.alpaca.groups import group_body
from worker.brokers.alpaca.legs import AlpacaLegs, package_body
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.alpaca.terms import order_body
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.rest.http import exchange, lost_after
from worker.brokers.rest.reading import READ_WITHIN_S
from worker.brokers.values import segment
from worker.pacing.budget import Use, use_of, using

_log = structlog.get_logger(__name__)


class AlpacaOrders:
    """Sends the orders of one account.

    Args:
        broker: name from the settings.
        rest: returns the trading API, or raises NotConnected.
        find: looks an order up by its client_order_id.
        legs: is told of the legs that answers show.
    """

    def __init__(
        self, broker: str, rest: Callable[[], AlpacaRest], find: Callable[[OrderRef], Sighting], legs: AlpacaLegs
    ) -> None:
        self._broker, self._rest, self._find, self._legs = broker, rest, find, legs

    def place(self, ticket: Ticket) -> OrderReport:
        """Send one order, and read the answer; see `BrokerInterface.place_order`."""
        rest, our_id = self._rest(), ticket.broker_client_order_id
        if ticket.order.legs:
            body = package_body(ticket.order, our_id)
        else:
            body = order_body(ticket.order, our_id) | group_body(ticket.orders)
        with using(use_of(ticket.order.side)), exchange(ticket.deadline_s):
            try:
                raw = rest.post("/orders", body, ticket.deadline_s, ticket.still_mine)
            except Duplicate:
                with using(Use.URGENT):
                    return self._first_send(ticket)
        self._legs.see(raw)
        report = rest.parse(read.order_report, raw)
        if report.broker_client_order_id != our_id or report.status is BrokerStatus.UNKNOWN:
            shown = f"{report.broker_client_order_id} as {report.raw_status}"
            raise UnreadableReply(f"{self._broker}: the answer to {our_id} shows {shown}", broker=self._broker)
        return self._whole(self._unless_rejected(report), ticket)

    def cancel(self, ref: OrderRef) -> None:
        """Ask for the cancel of one order."""
        with using(Use.URGENT):
            order_id = ref.broker_order_id or self._id_of(ref)
            self._rest().delete(f"/orders/{segment(order_id)}", READ_WITHIN_S)

    # -- INSIDE ---
    def _first_send(self, ticket: Ticket) -> OrderReport:
        """Return the order that took our client_order_id before, if it is ours."""
        our_id = ticket.broker_client_order_id
        try:
            seen = self._by_our_id(our_id, ticket.order)
        except Exception as error:
            raise lost_after(error, self._broker) from error
        if not isinstance(seen, Found) or (wrong := contradictions(ticket.order, seen.report)):
            shown = f"an order with {', '.join(wrong)} has it" if isinstance(seen, Found) else told(seen)
            words = f"client_order_id {our_id} is taken, says Alpaca, and {shown}"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker, code=ID_TAKEN)
        if seen.report.status is BrokerStatus.UNKNOWN:
            raise UnreadableReply(f"{self._broker}: {our_id} is {seen.report.raw_status}", broker=self._broker)
        _log.info(
            "order_was_there", broker=self._broker, client_order_id=our_id, broker_order_id=seen.report.broker_order_id
        )
        return self._whole(self._unless_rejected(seen.report), ticket)

    def _whole(self, report: OrderReport, ticket: Ticket) -> OrderReport:
        """Return a report that shows every leg of a group; one that does not leaves open what became of them."""
        if len(report.legs) < len(ticket.legs):
            words = f"the answer to {ticket.broker_client_order_id} shows {len(report.legs)} of {len(ticket.legs)} legs"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker)
        return report

    def _by_our_id(self, our_id: str, order: OrderRequest) -> Sighting:
        return self._find(OrderRef(order=order, broker_client_order_id=our_id, broker_order_id=None, sent_at=utcnow()))

    def _unless_rejected(self, report: OrderReport) -> OrderReport:
        """Return a report, or raise what it says: an order that was rejected without a fill is a refusal."""
        if report.status is BrokerStatus.REJECTED and not report.filled_quantity:
            raise OrderRejected(
                f"{self._broker} rejected the order: {report.message or 'no reason given'}",
                broker=self._broker,
                code=report.code,
                broker_order_id=report.broker_order_id,
            )
        return report

    def _id_of(self, ref: OrderRef) -> str:
        seen = self._find(ref)
        if isinstance(seen, Found) and seen.report.broker_order_id:
            return seen.report.broker_order_id
        raise OrderRejected(
            f"{self._broker} shows no order {ref.broker_client_order_id} to cancel", broker=self._broker
        )
