"""Brokers that keep no id of ours: what exists there before a send, so that a difference tells which order is ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

import structlog
from sqlalchemy import Connection, select

from models.errors import CorroError, NotConnected, NotSent
from models.record.order import Row
from models.record.tables import attempts, orders
from models.vocabulary import Outcome
from worker.brokers.base import BrokerInterface
from worker.runtime.clock import utcnow

log = structlog.get_logger()

#: Account, symbol and side: orders alike in them are told apart by the order in which they were sent, if at all.
Likeness = tuple[str | None, str, str]
_LOOK_BACK = timedelta(minutes=10)


def read_baseline(broker: BrokerInterface) -> list[Row] | None:
    """List what exists before the send; None: it cannot be listed, and so nothing may be sent."""
    if not broker.is_connected():
        return None
    try:
        found = broker.get_orders(open_only=False, since=utcnow() - _LOOK_BACK)
    except CorroError as error:
        log.warning("baseline_unreadable", broker=broker.name, error=str(error))
        return None
    return [{"id": r.broker_order_id, "symbol": r.symbol} for r in found if r.broker_order_id]


def look_alikes(connection: Connection, broker: str) -> dict[Likeness, str]:
    """Return what is being sent or is unknown at a broker, with the outcome."""
    a, o = attempts.c, orders.c
    query = (
        select(a.account, o.symbol, o.side, a.outcome)
        .join_from(attempts, orders, a.client_order_id == o.client_order_id)
        .where(a.broker == broker, a.outcome.in_([Outcome.SENDING, Outcome.UNKNOWN]))
    )
    return {(account, symbol, side): outcome for account, symbol, side, outcome in connection.execute(query)}


def why_not_told_apart(
    keys: Collection[Likeness], alike: Mapping[Likeness, str], baseline: list[Row] | None, broker: str
) -> NotSent | None:
    """Say why an order, or a group of orders of their own, could not be told from others once it was sent."""
    if baseline is None:
        words = "its orders cannot be listed before sending, so ours could not be told apart afterwards"
        return NotConnected(f"{broker}: {words}", broker=broker, code="no_baseline")
    for account, symbol, side in keys:
        if (account, symbol, side) in alike:
            words = f"an unresolved {side} order for {symbol} could not be told from this one"
            return NotSent(f"{broker}: {words}", broker=broker, code="look_alike")
    return None
