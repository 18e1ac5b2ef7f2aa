"""Replacing a live order at a broker that makes a new one in its stead: one procedure, and four hooks for the broker.

Alpaca, TDA and Schwab make a new order that trades the quantity it is given, whatever the old one has filled: Alpaca by
its own staff's bug report (alpacahq/Alpaca-API#165, open since 2021: a replaced order "reflects the original qty N and
not the unfilled qty"), TDA and Schwab because the body of a PUT is a whole order (docs/facts/schwab.md#2.8). So the
quantity that is left of the new total is sent. If a broker counted it as a total, the order would come out too small,
never too large.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from decimal import Decimal
from typing import ClassVar, Generic, TypeVar

import structlog

from models.errors import BrokerError, NotConnected, NotSent, OrderRejected, OutcomeUnknown, Refused
from models.messages import plain
from models.reports import DONE, BrokerStatus, OrderReport
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.rest.http import Exchange, exchange, lost_after
from worker.pacing.budget import Use, use_of, using

_log = structlog.get_logger(__name__)
#: What a broker's `send` hands to its `follow`.
SentT = TypeVar("SentT")


class NewOrderInstead(ABC, Generic[SentT]):
    """Replaces orders of one account.

    | hook     | does                                                           | raises                              |
    |----------|----------------------------------------------------------------|-------------------------------------|
    | `look`   | reads the order to be replaced                                 | BrokerError                         |
    | `send`   | sends the new terms, once                                      | NotSent, Refused, OutcomeUnknown    |
    | `follow` | tells which order came of it, and how much the old one filled  | Refused; anything else is "unknown" |
    | `cancel` | cancels the new order, and reads it again                      | BrokerError                         |

    Args:
        broker: name from the settings.
    """

    #: The broker's words for orders that live and that it does not replace; one that is being canceled never is.
    not_yet: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, broker: str) -> None:
        self._broker = broker

    # -- HOOKS ---
    @abstractmethod
    def look(self, ref: OrderRef) -> OrderReport | None:
        """Read the order to be replaced; None if there is none, or more than one."""

    @abstractmethod
    def send(self, old: OrderReport, left: Decimal, ticket: Ticket) -> SentT:
        """Send the new terms once, `left` as the quantity."""

    @abstractmethod
    def follow(self, sent: SentT, old: OrderReport, ticket: Ticket, whole: Exchange) -> tuple[OrderReport, Decimal]:
        """Return the new order, verified, and how much the old one has filled in the end."""

    @abstractmethod
    def cancel(self, new: OrderReport) -> OrderReport:
        """Cancel the new order, and return it as it is then."""

    # -- PROCEDURE ---
    def replace(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Replace one order; see `BrokerInterface.replace_order`.

        Args:
            ref: the order that is live now.
            ticket: the whole order with its new terms.
        """
        with using(use_of(ticket.order.side)), exchange(ticket.deadline_s) as whole:
            old = self._standing(ref)
            filled = self._filled(old)
            left = left_to_trade(ref, ticket.order.units, old.quantity, filled, self._broker)
            with using(Use.URGENT):  # the reading had an order's turn: to want another one would be two for each change
                sent = self.send(old, left, ticket)
                try:
                    new, filled_now = self.follow(sent, old, ticket, whole)
                    return self._not_too_large(new, filled_now - filled)
                except (Refused, OutcomeUnknown):
                    raise
                except Exception as error:
                    raise lost_after(error, self._broker) from error

    def _standing(self, ref: OrderRef) -> OrderReport:
        """Read the order to be replaced, or say why it cannot be."""
        try:
            old = self.look(ref)
        except NotSent:
            raise
        except BrokerError as error:
            words = f"the order could not be read, so it was not replaced: {error}"
            raise NotConnected(f"{self._broker}: {words}", broker=self._broker) from error
        if old is None:
            raise OrderRejected(f"{self._broker} shows no single order like this to replace", broker=self._broker)
        if old.status in DONE or old.status is BrokerStatus.PENDING_CANCEL or old.raw_status in self.not_yet:
            words = f"an order that is {old.raw_status} cannot be replaced; read it again"
            raise OrderRejected(f"{self._broker}: {words}", broker=self._broker, code=old.raw_status)
        return old

    def _filled(self, old: OrderReport) -> Decimal:
        """Return how much of the old order is filled before anything is sent."""
        if old.filled_quantity is None:
            words = f"order {old.broker_order_id} does not say how much of it is filled; nothing was sent"
            raise NotSent(f"{self._broker}: {words}", broker=self._broker)
        return old.filled_quantity

    def _not_too_large(self, new: OrderReport, late: Decimal) -> OrderReport:
        """Cancel a new order that is too large, because the old one filled on while it was replaced."""
        if late <= 0 or new.status in DONE:
            return new
        about = {"broker": self._broker, "broker_order_id": new.broker_order_id}
        _log.error("replacement_too_large", by=str(late), **about)
        try:
            done = self.cancel(new)
        except BrokerError as error:
            _log.error("excess_not_canceled", error=str(error), **about)
            return new
        why = f"canceled by corro: the order that it replaced filled {plain(late)} more meanwhile, so it was too large"
        return replace(done, message=why)


def left_to_trade(
    ref: OrderRef, total: Decimal, quantity: Decimal | None, filled: Decimal | None, broker: str
) -> Decimal:
    """Return how much a replacement may trade so that the whole order comes to its new total.

    The live order may be a replacement itself, for less than its order's total: the difference was filled by its
    predecessors.

    Args:
        ref: the live order, with the terms it has.
        total: the new total.
        quantity: of the live order in all, as the broker shows it.
        filled: how much of that is filled.
        broker: name, for messages.

    Raises:
        Refused: nothing is left, or the broker's quantity contradicts ours.
    """
    if quantity is None or quantity > ref.order.units:
        shown = "no quantity" if quantity is None else plain(quantity)
        words = f"it shows {shown} where we ordered {plain(ref.order.units)}"
        raise OrderRejected(f"{broker}: not replaced, {words}; read it again", broker=broker)
    done = ref.order.units - quantity + (filled or Decimal(0))
    if total <= done:
        words = f"{plain(done)} of the new total of {plain(total)} are filled already"
        raise OrderRejected(f"{broker}: not replaced, {words}; read it again", broker=broker)
    return total - done
