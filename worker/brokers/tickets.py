"""What an adapter is given: an order on its way to a broker, and how to find or cancel one that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from models.messages import OrderRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedOrder:
    """Another order of a group, which goes with its lead in one message (`models.groups`).

    Args:
        order: the terms; `order.group.leg` says which leg it is.
        broker_client_order_id: the id that this leg has at brokers that keep one for each.
        broker_order_id: the broker's id, if it ever told us.
        session_order_id: as that of a `Ticket`.
    """

    order: OrderRequest
    broker_client_order_id: str
    broker_order_id: str | None = None
    session_order_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One order on its way to a broker, or a group of linked ones.

    Args:
        order: the terms.
        broker_client_order_id: the id the broker sees (Alpaca client_order_id, IB orderRef).
        deadline_s: seconds place_order may take in all; past it, OutcomeUnknown.
        still_mine: raises Stale when the claim has aged out; call it immediately before the first byte.
        legs: of the lead of a group: the others. The answer is the lead's, with those of all legs in its `legs`; one
            that does not show each of them is an OutcomeUnknown.
        session_order_id: of an order of a group, the number that `reserve_ids` gave for it; None where it gave none.
    """

    order: OrderRequest
    broker_client_order_id: str
    deadline_s: float
    still_mine: Callable[[], None]
    legs: tuple[LinkedOrder, ...] = ()
    session_order_id: str | None = None

    @property
    def orders(self) -> tuple[OrderRequest, ...]:
        """The terms of every order that goes, the lead's first."""
        return self.order, *(leg.order for leg in self.legs)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRef:
    """How to find or cancel an order at its broker.

    Args:
        order: the terms, for brokers where only they identify it.
        broker_client_order_id: the id the broker was given.
        broker_order_id: the broker's id, if it ever told us.
        sent_at: when the send began.
        baseline: broker order ids that existed before the send.
        known: broker order ids that belong to other attempts of ours.
        session: the session that placed it, where only that may cancel or change it.
        legs: of the lead of a group: the others, for brokers where only terms identify it.
        session_order_id: the number under which that session sent it, where it was reserved.
    """

    order: OrderRequest
    broker_client_order_id: str
    broker_order_id: str | None
    sent_at: datetime
    baseline: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    session: str | None = None
    legs: tuple[LinkedOrder, ...] = ()
    session_order_id: str | None = None

    @property
    def orders(self) -> tuple[OrderRequest, ...]:
        """The terms of the order and of those that are linked to it, its own first."""
        return self.order, *(leg.order for leg in self.legs)

    def of(self, leg: LinkedOrder) -> OrderRef:
        """Return how to find one of the other legs of this lead's group: it went with the lead, through one session."""
        return replace(
            self,
            order=leg.order,
            broker_client_order_id=leg.broker_client_order_id,
            broker_order_id=leg.broker_order_id,
            session_order_id=leg.session_order_id,
            legs=(),
        )
