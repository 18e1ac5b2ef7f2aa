"""Cancel orders at the broker: those somebody wants canceled, and those that should not be there.

A cancel that was requested is a wish on the row; asking the broker may be repeated until it has an effect, because a
cancel of an order that is gone changes nothing. "Requested" is not "canceled": the end is what the broker reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy import or_, select

from models.book import Book
from models.database import Database
from models.errors import BrokerError, CorroError, NotSent
from models.lifecycle import Fact
from models.reports import Found, OrderReport
from models.tables import attempts, orders
from worker.brokers.base import BrokerInterface, OrderRef
from worker.clock import utcnow
from worker.readings import order_ref
from worker.reconcile import Reconciler

log = structlog.get_logger()

#: A cancel that was sent and had no effect is sent again after this.
_AGAIN_S = 10.0


class Cancels:
    """Cancels at one broker."""

    def __init__(self, database: Database, broker: BrokerInterface, reconciler: Reconciler) -> None:
        self.database, self.broker, self.reconciler = database, broker, reconciler

    def send(self, ids: Sequence[str] | None = None) -> None:
        """Ask the broker to cancel live orders whose cancel was requested and not yet sent.

        Args:
            ids: only these; None means all that are due, also those whose cancel was sent long ago without effect.
        """
        due = [
            orders.c.cancel_requested_at.is_not(None),
            or_(orders.c.cancel_sent_at.is_(None), orders.c.cancel_sent_at < utcnow() - timedelta(seconds=_AGAIN_S)),
        ]
        if ids is not None:
            due.append(orders.c.client_order_id.in_(list(ids)))
        with self.database.read() as connection:
            refs = self.reconciler.live(connection, *due)
        for ref in refs:
            self._cancel(ref.order.client_order_id, ref)

    def _cancel(self, client_order_id: str, ref: OrderRef) -> None:
        try:
            self.broker.cancel_order(ref)
            outcome: BrokerError | None = None
        except BrokerError as error:
            outcome = error
        if isinstance(outcome, NotSent):
            log.warning("cancel_not_sent", client_order_id=client_order_id, error=str(outcome))
            return
        with self.database.write() as connection:
            book = Book.open(connection, [client_order_id], utcnow())
            entry = book[client_order_id]
            entry.set(cancel_sent_at=entry.now)
            if outcome is None:
                entry.happen(Fact.CANCEL_SENT, attempt_no=entry.order["attempt_no"])
            else:
                entry.note("cancel_refused", str(outcome))
            book.write()
        if outcome is not None:  # too late, or not known under this id: what it is now, only the broker can tell
            self.read_again(ref)

    def read_again(self, ref: OrderRef) -> None:
        """Read one order again and apply what it is now."""
        try:
            sighting = self.broker.find_order(ref)
        except CorroError as error:
            log.warning("cannot_read_again", broker=self.broker.name, error=str(error))
            return
        if isinstance(sighting, Found):
            self.reconciler.apply([_named(sighting.report, ref)])

    def stray(self, client_order_id: str, attempt_no: int) -> None:
        """Cancel an order that is alive on an attempt which had been given up."""
        with self.database.read() as connection:
            order = (
                connection.execute(select(orders).where(orders.c.client_order_id == client_order_id)).mappings().one()
            )
            attempt = (
                connection.execute(
                    select(attempts).where(
                        attempts.c.client_order_id == client_order_id, attempts.c.attempt_no == attempt_no
                    )
                )
                .mappings()
                .one()
            )
        log.error("stray_order", client_order_id=client_order_id, broker=self.broker.name, attempt_no=attempt_no)
        try:
            self.broker.cancel_order(order_ref(order, attempt))
        except BrokerError as error:
            log.error("stray_not_canceled", client_order_id=client_order_id, error=str(error))


def _named(report: OrderReport, ref: OrderRef) -> OrderReport:
    """Give a report our id where the broker has none of its own to match by."""
    if report.broker_client_order_id or report.broker_order_id == ref.broker_order_id:
        return report
    return replace(report, broker_client_order_id=ref.broker_client_order_id)
