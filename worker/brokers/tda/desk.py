"""Sending orders to TDA or Schwab, and replacing them: once, then verified by reading the order that was made.

Neither broker knows a client order id: the answer is 201 with the Location of the new order, which can be missing or
lead elsewhere. A replace is a PUT of a whole new order; it is not idempotent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import requests
import structlog

from models.errors import BrokerError, NotSent, OrderRejected, OutcomeUnknown, Refused, UnreadableReply
from models.messages import OrderRequest, utcnow
from models.reports import DONE, BrokerStatus, OrderReport
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.oddities import Oddities
from worker.brokers.replacing import left_to_trade, unsent
from worker.brokers.rest.http import Exchange, exchange, lost_after
from worker.brokers.tda import reports as read
from worker.brokers.tda import shapes
from worker.brokers.tda.dialects import Dialect, order_body
from worker.brokers.tda.orders import BEFORE, OrderBook
from worker.brokers.tda.rest import READ_WITHIN_S, TdaRest, by_words
from worker.brokers.tda.terms import Likeness, Terms, compare, terms
from worker.brokers.tda.watch import OrderWatch
from worker.brokers.values import Raw, segment
from worker.pacing.budget import Use, use_of, using

_log = structlog.get_logger(__name__)

#: Pauses before asking again for an order that its Location promised: listings lag.
_LAG_S = (0.0, 0.2, 0.5)


class OrderDesk:
    """Takes tickets for one account.

    Args:
        broker: name from the settings.
        rest: the way there.
        book: reads orders.
        watch: follows those that were taken.
        dialect: how orders are written.
        account: what the account is called in paths.
        odd: is told of rows that cannot be read.
    """

    def __init__(
        self,
        broker: str,
        rest: TdaRest,
        book: OrderBook,
        watch: OrderWatch,
        dialect: Dialect,
        account: Callable[[], str],
        odd: Oddities,
    ) -> None:
        self._broker, self._rest, self._book, self._watch = broker, rest, book, watch
        self._dialect, self._account, self._odd = dialect, account, odd

    # -- PLACE ---
    def place(self, ticket: Ticket) -> OrderReport:
        """Send one order, then verify the one that the answer points to."""
        body = order_body(ticket.order, self._dialect, self._broker)
        sent_at = utcnow()
        with using(use_of(ticket.order.side)), exchange(ticket.deadline_s) as whole:
            answer = self._rest.send(
                "POST", self._book.path("/orders"), body, deadline_s=ticket.deadline_s, gate=ticket.still_mine
            )
            try:
                with using(Use.URGENT):
                    return self._verified(answer, terms(body), sent_at, whole)
            except (Refused, OutcomeUnknown):
                raise
            except Exception as error:
                raise lost_after(error, self._broker) from error

    # -- REPLACE ---
    def replace(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Have a new order made in place of a live one.

        The body's quantity stands as it is, whatever the old order has filled: what is left of the new total is sent.
        If the old one fills on while it is replaced, the new one is too large: it is canceled then.
        """
        order_body(ticket.order, self._dialect, self._broker)  # what cannot be said is known before anything is asked
        with using(use_of(ticket.order.side)), exchange(ticket.deadline_s) as whole:
            old = self._standing(ref)
            filled = self._filled(old)
            left = left_to_trade(ref, ticket.order.quantity, shapes.total(old), filled, self._broker)
            body = order_body(_for(ticket.order, left), self._dialect, self._broker)
            sent_at = utcnow()
            old_id = str(shapes.order_id(old) or ref.broker_order_id)
            path = self._book.path(f"/orders/{segment(old_id)}")
            with using(Use.URGENT):  # the reading had an order's turn: to want another one would be two for each change
                answer = self._rest.send("PUT", path, body, deadline_s=ticket.deadline_s, gate=ticket.still_mine)
            try:
                with using(Use.URGENT):
                    new = self._verified(answer, terms(body), sent_at, whole, unlike=old_id)
                    return self._not_too_large(new, old_id, filled)
            except (Refused, OutcomeUnknown):
                raise
            except Exception as error:
                raise lost_after(error, self._broker) from error

    def _standing(self, ref: OrderRef) -> Raw:
        """Read the order to be replaced."""
        wanted = terms(order_body(ref.order, self._dialect, self._broker))
        try:
            raw = self._book.the_one(ref, wanted)
        except NotSent:
            raise
        except BrokerError as error:
            raise unsent(error, self._broker) from error
        if raw is None:
            raise OrderRejected(f"{self._broker} shows no single order like this to replace", broker=self._broker)
        status = read.status_of(raw)
        if status in DONE or status is BrokerStatus.PENDING_CANCEL:
            words = f"an order that is {raw.get('status')} cannot be replaced; read it again"
            raise OrderRejected(f"{self._broker}: {words}", broker=self._broker, code=str(raw.get("status")))
        return raw

    def _filled(self, raw: Raw) -> Decimal:
        """Return what of an order is filled before anything is sent about it."""
        found = shapes.filled(raw)
        if found is None:
            words = f"order {raw.get('orderId')} does not say how much of it is filled; nothing was sent"
            raise NotSent(f"{self._broker}: {words}", broker=self._broker)
        return found

    def _not_too_large(self, new: OrderReport, old_id: str, filled: Decimal) -> OrderReport:
        """Cancel a new order that is too large, because the old one filled on while it was replaced."""
        try:
            old = self._book.by_id(old_id)
            late = (shapes.filled(old) or filled) - filled if old is not None else Decimal(0)
            if late <= 0 or new.status in DONE:
                return new
            _log.error("replacement_too_large", broker=self._broker, broker_order_id=new.broker_order_id, by=str(late))
            path = self._book.path(f"/orders/{segment(str(new.broker_order_id))}")
            self._rest.send("DELETE", path, deadline_s=READ_WITHIN_S)
            raw = self._book.by_id(str(new.broker_order_id))
            return self._report(raw) if raw is not None else new
        except BrokerError as error:
            _log.error("replaced_order_unread", broker=self._broker, broker_order_id=old_id, error=str(error))
            return new

    # -- VERIFY ---
    def _verified(
        self, answer: requests.Response, wanted: Terms, sent_at: datetime, whole: Exchange, unlike: str = ""
    ) -> OrderReport:
        order_id = self._promised(answer)
        if order_id == unlike:
            raise UnreadableReply(f"{self._broker}: the answer points to the order to be replaced", broker=self._broker)
        raw = self._fetched(order_id, whole)
        if raw is None:  # a Location can name another order: not read back, it is no proof
            words = f"taken with {answer.status_code} as order {order_id}, which cannot be read back yet"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker)
        return self._judged(raw, wanted, sent_at)

    def _promised(self, answer: requests.Response) -> str:
        """Return the id of the order just taken; it can be missing, or lead elsewhere."""
        location = answer.headers.get("Location")
        order_id = read.located(location, self._account()) if answer.status_code in (200, 201) else None
        if order_id is None:
            words = f"{self._broker}: HTTP {answer.status_code} to an order, its Location was {location!r}"
            raise UnreadableReply(self._rest.veil.clean(words), broker=self._broker)
        return order_id

    def _fetched(self, order_id: str, whole: Exchange) -> Raw | None:
        """Read an order that was just taken; None if that does not work in time."""
        for pause in _LAG_S:
            time.sleep(min(pause, whole.left()))
            try:
                raw = self._book.by_id(order_id)
            except BrokerError as error:
                _log.warning("placed_order_unread", broker=self._broker, broker_order_id=order_id, error=str(error))
                return None
            if raw is not None:
                return raw
        return None

    def _judged(self, raw: Raw, wanted: Terms, sent_at: datetime) -> OrderReport:
        """Return the report of the order that the answer pointed to, if it is the one that was sent."""
        likeness, entered = compare(raw, wanted), shapes.entered(raw)
        if likeness is Likeness.SAME and (entered is None or entered < self._book.window(sent_at)[0]):
            likeness = Likeness.MAYBE if entered is None else Likeness.OTHER  # its twin, entered before
        if likeness is not Likeness.SAME:
            what = "cannot be compared in full" if likeness is Likeness.MAYBE else "is another one"
            words = f"the answer points to order {raw.get('orderId')}, which {what}"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker)
        report = self._report(raw)
        if report.status is BrokerStatus.REJECTED and not report.filled_quantity and not report.fills:
            text = report.message or "no reason given"
            raise by_words(text)(f"{self._broker} rejected the order: {text}", broker=self._broker, code="REJECTED")
        if not read.is_settled(raw):
            self._watch.add(str(report.broker_order_id), wanted, sent_at - BEFORE)
        # The 201 says that the broker has it, whatever word the listing uses.
        is_unread = report.status is BrokerStatus.UNKNOWN and raw.get("status") not in read.ENDS
        return replace(report, status=BrokerStatus.ACCEPTED) if is_unread else report

    def _report(self, raw: Raw) -> OrderReport:
        return self._rest.parse(lambda row: read.order_report(row, self._odd), raw)


def _for(order: OrderRequest, quantity: Decimal) -> OrderRequest:
    return order.model_copy(update={"quantity": quantity})
