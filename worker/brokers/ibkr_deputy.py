"""Canceling for a client id whose worker is gone.

IB knows an order by the client id that placed it, and order ids begin anew with each client id: a cancel sent by
another client may name an order of its own. So a short second connection is made under the owner's client id, which TWS
gives to one socket at a time: while the owner lives it is turned away (326), and the owner takes the cancel. Recorded
live: a client may cancel what it placed over an earlier connection.
"""

from __future__ import annotations

import dataclasses
import time

import structlog

from models.errors import CorroError, NotSent
from worker.brokers import ibkr_orders
from worker.brokers.base import OrderRef
from worker.brokers.ibkr_evidence import OrderBook
from worker.brokers.ibkr_session import Session

_log = structlog.get_logger()
_IN_USE = "326"


async def cancel(session: Session, ref: OrderRef) -> None:
    """Cancel an order, under whichever client id it was placed; see `IbkrBroker.cancel_order`."""
    try:
        await ibkr_orders.cancel(session, ref)
    except ibkr_orders.Foreign as foreign:
        await cancel_as(session, foreign.owner, ref)


async def cancel_as(session: Session, owner: int, ref: OrderRef) -> None:
    """Cancel an order that another client id placed, as that client id.

    Raises:
        NotSent: the owner is connected, and has to cancel it itself; or no connection could be made.
        Refused, OutcomeUnknown: as for the cancel of an order of our own.
    """
    broker, where = session.options.broker, f"it belongs to client id {owner}"
    options = dataclasses.replace(session.options, client_id=owner)
    deputy = Session(session.sdk, options, OrderBook(broker, _ignore, time.monotonic), session.budget, _ignore)
    try:
        try:
            await deputy.open()
        except CorroError as error:
            why = ", whose worker is connected and has to do it" if error_code(error) == _IN_USE else f": {error}"
            raise NotSent(f"{broker}: not canceled, {where}{why}", broker=broker) from None
        _log.info("ibkr.cancel_for_another", broker=broker, client_id=owner, ref=ref.broker_client_order_id)
        await ibkr_orders.cancel(deputy, ref)
    finally:
        await deputy.close()


def error_code(error: CorroError) -> str | None:
    """Return the broker's code of an error, if it has one."""
    return getattr(error, "code", None)


def _ignore(_: object) -> None:
    """Nobody waits for what the deputy hears: the order is read again by whoever asked."""
