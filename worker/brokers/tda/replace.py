"""Replacing orders at TDA or Schwab: a PUT of a whole new order, which is not idempotent."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import structlog

from models.errors import BrokerError
from models.reports import OrderReport
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.rest.http import Exchange
from worker.brokers.rest.replacing import NewOrderInstead
from worker.brokers.tda import shapes
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.likeness import terms
from worker.brokers.tda.listings import TdaListings
from worker.brokers.tda.orders import SentOrder, TdaOrders
from worker.brokers.tda.terms import order_body
from worker.brokers.values import segment

_log = structlog.get_logger(__name__)


class TdaReplaces(NewOrderInstead[SentOrder]):
    """Replaces orders of one account.

    Args:
        broker: name from the settings.
        orders: sends, verifies and cancels.
        listings: reads orders.
        dialect: how orders are written.
    """

    def __init__(self, broker: str, orders: TdaOrders, listings: TdaListings, dialect: TdaDialect) -> None:
        super().__init__(broker)
        self._orders, self._listings, self._dialect = orders, listings, dialect

    def look(self, ref: OrderRef) -> OrderReport | None:
        """Read the one order that has these terms."""
        raw = self._listings.the_one(ref, terms(order_body(ref.order, self._dialect, self._broker)))
        if raw is None:
            return None
        order_id = shapes.order_id(raw) or ref.broker_order_id
        return replace(self._orders.report(raw), broker_order_id=order_id)

    def send(self, old: OrderReport, left: Decimal, ticket: Ticket) -> SentOrder:
        """Put the whole order, for the quantity that is left."""
        order = ticket.order.model_copy(update={"quantity": left})
        return self._orders.send("PUT", f"/orders/{segment(str(old.broker_order_id))}", [order], ticket)

    def follow(self, sent: SentOrder, old: OrderReport, ticket: Ticket, whole: Exchange) -> tuple[OrderReport, Decimal]:
        """Verify the order that the answer points to, and read the old one once more."""
        new = self._orders.verified(sent, whole, unlike=old.broker_order_id)
        before = old.filled_quantity or Decimal(0)
        try:
            raw = self._listings.by_id(str(old.broker_order_id))
        except BrokerError as error:
            _log.error(
                "replaced_order_unread", broker=self._broker, broker_order_id=old.broker_order_id, error=str(error)
            )
            return new, before
        return new, (shapes.filled(raw) if raw is not None else None) or before

    def cancel(self, new: OrderReport) -> OrderReport:
        """Cancel the new order, and read it again."""
        self._orders.cancel(str(new.broker_order_id))
        raw = self._listings.by_id(str(new.broker_order_id))
        return self._orders.report(raw) if raw is not None else new
