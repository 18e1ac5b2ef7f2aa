"""Changing live orders over one session: the order of operations; the verdicts are in `ibkr_change`."""

from __future__ import annotations

import asyncio
import contextlib

from models.errors import BrokerError, CorroError, NotConnected, NotSent, OrderRejected, Refused, Unmapped
from models.messages import plain
from models.reports import DONE, OrderReport
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.change import Change
from worker.brokers.ibkr.evidence import KnownOrder, filled_by
from worker.brokers.ibkr.flight import Verdict
from worker.brokers.ibkr.orders import contract_by, is_ours, matches, wait
from worker.brokers.ibkr.session import Session

#: A change that nobody has told about after so long is looked for in the open orders.
ASK_S = 1.0


async def change(session: Session, flight: Change, ref: OrderRef, ticket: Ticket, until: float) -> OrderReport:
    """Send the new terms under the order's own id, once, and wait for the wire to show them.

    Args:
        session: the live connection.
        flight: shared with the calling thread, which may forbid a send that has not begun.
        ref: the order as it is.
        ticket: the whole order with its new terms.
        until: loop time at which an answer must have come.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        known = await _live(session, ref)
        _check_size(session, known, ticket)
        await _send(session, flight, known, ticket, until)
        verdict = await _verdict(session, flight, until)
        if verdict is Verdict.SEEN:
            return session.book.report(known)
        raise flight.error(verdict, loop.time() - started)
    except CorroError:
        raise
    except Exception as error:
        kind = Unmapped if flight.sent else NotConnected
        raise kind(f"{flight.broker}: {error!r} while changing an order", broker=flight.broker) from error
    finally:
        if session.book.changes.get(flight.order_id) is flight:
            del session.book.changes[flight.order_id]


async def _live(session: Session, ref: OrderRef) -> KnownOrder:
    """Return the one live order of ours under this reference, as TWS shows it now."""
    broker = session.options.broker
    session.check()
    try:
        listed = await session.open_orders()
    except NotSent:
        raise
    except BrokerError as error:
        raise NotConnected(
            f"{broker}: not changed, the open orders could not be read: {error}", broker=broker
        ) from None
    lines = [line for line in listed if matches(ref, line.ref, line.perm_id)]
    if suspects := [str(row) for row in listed.spoiled if row.may_be(ref)]:
        raise OrderRejected(f"{broker}: cannot be read, so not changed: {'; '.join(suspects)}", broker=broker)
    if not lines:
        raise OrderRejected(f"{broker}: not among the open orders, nothing to change; read it again", broker=broker)
    if len(lines) > 1:
        ids = ", ".join(str(line.perm_id) for line in lines)
        raise OrderRejected(
            f"{broker}: several orders are live under this reference ({ids}): not changed", broker=broker
        )
    if not is_ours(session, lines[0]):
        owner = f"client id {lines[0].client_id}"
        raise NotSent(f"{broker}: not changed, it belongs to {owner}, whose worker has to do it", broker=broker)
    known = session.book.by_perm_id(lines[0].perm_id)
    if known is None or session.book.report(known).status in DONE:
        raise OrderRejected(f"{broker}: IB has not taken it yet, or it is done: not changed", broker=broker)
    return known


def _check_size(session: Session, known: KnownOrder, ticket: Ticket) -> None:
    broker = session.options.broker
    filled = max(filled_by(session.book.executions_of(known.line.perm_id)) or 0, known.wire_filled or 0)
    if ticket.order.quantity <= filled:
        words = f"{filled} of the new total of {plain(ticket.order.quantity)} are filled already"
        raise OrderRejected(f"{broker}: not changed, {words}", broker=broker)


async def _send(session: Session, flight: Change, known: KnownOrder, ticket: Ticket, until: float) -> None:
    contract = await contract_by(session, ticket.order.symbol, until)
    terms.check_listed(ticket.order, session.contracts.order_types(ticket.order.symbol), flight.broker)
    # The reference stays: it is how the order is found, and it is the same order.
    fields = terms.order_fields(ticket.order, known.line.ref, session.account if len(session.accounts) > 1 else "")
    order = session.sdk.Order(**fields)
    await session.turn(until)
    # No await from here to the bytes: the claim is checked, then they leave.
    session.check()
    order_id = known.line.order_id
    if order_id in session.book.changes:
        raise Refused(f"{flight.broker}: another change of this order is under way", broker=flight.broker)
    flight.ref, flight.order_id, flight.perm_id = known.line.ref, order_id, known.line.perm_id
    ticket.still_mine()
    if not flight.take_off():
        raise NotConnected(f"{flight.broker}: given up before it was sent", broker=flight.broker)
    session.book.changes[order_id] = flight
    try:
        left = session.send(lambda: session.client.placeOrder(order_id, contract, order))
    except CorroError:
        flight.stay()
        raise
    if not left:
        flight.stay()
        raise NotConnected(f"{flight.broker}: the socket took nothing", broker=flight.broker)
    known.change_requested = True


async def _verdict(session: Session, flight: Change, until: float) -> Verdict:
    loop = asyncio.get_running_loop()
    ask_at: float | None = loop.time() + ASK_S
    while True:
        flight.changed.clear()
        verdict, at = flight.judge(loop.time())
        if verdict is not Verdict.WAIT or loop.time() >= until:
            return verdict
        if ask_at is not None and (flight.undecided or loop.time() >= ask_at):
            ask_at = None
            session.spawn(_ask(session))
        await wait(flight.changed, min(until, at or until, ask_at or until))


async def _ask(session: Session) -> None:
    """Have TWS show our open orders once more; what it shows reaches the change through the book."""
    with contextlib.suppress(BrokerError):
        await session.open_orders(own=True)
