"""Placing and canceling orders at TDA or Schwab: sent once, then verified by reading the order that was made.

Neither broker knows a client order id: the answer is 201 with the Location of the new order, which can be missing or
lead elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import requests
import structlog

from models.errors import BrokerError, OutcomeUnknown, Refused, UnreadableReply
from models.messages import OrderRequest, utcnow
from models.reports import DONE, BrokerStatus, OrderReport
from worker.brokers.base import Ticket
from worker.brokers.oddities import Oddities
from worker.brokers.rest.http import Exchange, exchange, lost_after
from worker.brokers.rest.reading import READ_WITHIN_S
from worker.brokers.tda import reports as read
from worker.brokers.tda import shapes
from worker.brokers.tda.codes import by_words
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.groups import group_body, group_terms, lead_in, with_legs
from worker.brokers.tda.likeness import Likeness, Terms, compare, terms
from worker.brokers.tda.listings import BEFORE, ELSEWHERE, TdaListings
from worker.brokers.tda.rest import TdaRest
from worker.brokers.tda.watch import OrderWatch
from worker.brokers.values import Raw, segment
from worker.pacing.budget import Use, use_of, using

_log = structlog.get_logger(__name__)

#: Pauses before asking again for an order that its Location promised: listings lag.
_LAG_S = (0.0, 0.2, 0.5)


class SentOrder(NamedTuple):
    """An order that was sent, and the broker's answer, which is not verified yet."""

    answer: requests.Response
    wanted: Terms
    sent_at: datetime


class TdaOrders:
    """Sends the orders of one account.

    Args:
        broker: name from the settings.
        rest: the way there.
        listings: reads orders.
        watch: follows those that were taken.
        dialect: how orders are written.
        account: returns the account's name in paths.
        odd: is told of rows that cannot be read.
    """

    def __init__(
        self,
        broker: str,
        rest: TdaRest,
        listings: TdaListings,
        watch: OrderWatch,
        dialect: TdaDialect,
        account: Callable[[], str],
        odd: Oddities,
    ) -> None:
        self._broker, self._rest, self._listings, self._watch = broker, rest, listings, watch
        self._dialect, self._account, self._odd = dialect, account, odd

    # -- PLACE ---
    def place(self, ticket: Ticket) -> OrderReport:
        """Send one order, then verify the order that the answer points to."""
        with using(use_of(ticket.order.side)), exchange(ticket.deadline_s) as whole:
            sent = self.send("POST", "/orders", ticket.orders, ticket)
            try:
                with using(Use.URGENT):
                    return self.verified(sent, whole)
            except (Refused, OutcomeUnknown):
                raise
            except Exception as error:
                raise lost_after(error, self._broker) from error

    def send(self, method: str, path: str, orders: Sequence[OrderRequest], ticket: Ticket) -> SentOrder:
        """Send an order once, with those linked to it, under a path of the account.

        Raises:
            NotSent, Refused, OutcomeUnknown: as for place_order.
        """
        body = group_body(orders, self._dialect, self._broker)
        sent_at = utcnow()
        answer = self._rest.send(
            method, self._listings.path(path), body, deadline_s=ticket.deadline_s, gate=ticket.still_mine
        )
        return SentOrder(answer, group_terms(orders, self._dialect, self._broker), sent_at)

    # -- CANCEL ---
    def cancel(self, order_id: str) -> None:
        """Ask for the cancel; the status follows."""
        self._rest.send("DELETE", self._listings.path(f"/orders/{segment(order_id)}"), deadline_s=READ_WITHIN_S)

    # -- VERIFY ---
    def verified(self, sent: SentOrder, whole: Exchange, unlike: str | None = None) -> OrderReport:
        """Return the order that an answer points to, if it is the order that was sent.

        Args:
            sent: the order, and its answer.
            whole: by when it has to be read.
            unlike: an order that it cannot be.

        Raises:
            UnreadableReply: it is another one, or cannot be read yet.
            Refused: the broker has it, as rejected.
        """
        order_id = self._promised(sent.answer)
        if order_id == unlike:
            raise UnreadableReply(f"{self._broker}: the answer points to the order to be replaced", broker=self._broker)
        raw = self._fetched(order_id, whole)
        if raw is None:  # a Location can name another order: not read back, it is no proof
            words = f"taken with {sent.answer.status_code} as order {order_id}, which cannot be read back yet"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker)
        return self._judged(raw, sent.wanted, sent.sent_at)

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
                raw = self._listings.by_id(order_id)
            except BrokerError as error:
                _log.warning("placed_order_unread", broker=self._broker, broker_order_id=order_id, error=str(error))
                return None
            if raw is not None:
                return raw
        return None

    def _judged(self, raw: Raw, wanted: Terms, sent_at: datetime) -> OrderReport:
        """Return the report of the order that the answer pointed to, if it is the order that was sent."""
        raw = lead_in(raw, wanted)
        likeness, entered = compare(raw, wanted), shapes.entered(raw)
        if likeness is Likeness.SAME and (entered is None or entered < self._listings.window(sent_at)[0]):
            likeness = Likeness.MAYBE if entered is None else Likeness.OTHER  # its twin, entered before
        if likeness is not Likeness.SAME:
            what = "cannot be compared in full" if likeness is Likeness.MAYBE else "is another one"
            words = f"the answer points to order {raw.get('orderId')}, which {what}"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker)
        if self._listings.is_elsewhere(raw):
            words = f"the answer points to order {raw.get('orderId')}, {ELSEWHERE}"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker)
        if (tag := shapes.tag(raw)) is not None:
            self._listings.our_tags.add(tag)
        report = self.report(raw)
        dead = report.status is BrokerStatus.REJECTED and not report.filled_quantity and not report.fills
        if dead and shapes.BESIDE in raw and any(leg.status not in DONE or leg.filled_quantity for leg in report.legs):
            words = f"order {report.broker_order_id} is rejected, and the one beside it is not"
            raise UnreadableReply(f"{self._broker}: {words}", broker=self._broker)
        if dead:
            text = report.message or "no reason given"
            words, order_id = f"{self._broker} rejected the order: {text}", report.broker_order_id
            raise by_words(text)(words, broker=self._broker, code="REJECTED", broker_order_id=order_id)
        self.watch(raw, wanted, sent_at)
        # The 201 says that the broker has it, whatever word the listing uses.
        is_unread = report.status is BrokerStatus.UNKNOWN and raw.get("status") not in read.ENDS
        return replace(report, status=BrokerStatus.ACCEPTED) if is_unread else report

    def watch(self, raw: Raw, wanted: Terms, sent_at: datetime) -> None:
        """Follow an order of ours, and those that it triggers, until nothing more is told of them."""
        linked = [raw[shapes.BESIDE]] if shapes.BESIDE in raw else shapes.inner(raw)
        for row, known in [(raw, wanted), *((one, terms(one)) for one in linked)]:
            if (found := shapes.order_id(row)) is not None and not read.is_settled(row):
                self._watch.add(found, known, sent_at - BEFORE)

    def report(self, raw: Raw) -> OrderReport:
        """Read one order, with those that it triggers.

        Raises:
            UnreadableReply: it is no order.
        """
        return self._rest.parse(lambda row: with_legs(read.order_report(row, self._odd), row, self._odd), raw)
