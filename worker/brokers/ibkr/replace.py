"""Changing live orders over one session: the order of operations; the verdict is `verdicts.decide_change`."""

from __future__ import annotations

import asyncio
import contextlib

from models.errors import BrokerError, NotConnected, NotSent, OrderRejected, Refused
from models.messages import plain
from models.reports import DONE, OrderReport
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.evidence import KnownOrder
from worker.brokers.ibkr.listings import meant
from worker.brokers.ibkr.orders import answering, contract_for, is_ours, put, verdict_on
from worker.brokers.ibkr.pending import PendingChange
from worker.brokers.ibkr.reports import filled_by
from worker.brokers.ibkr.session import TwsSession
from worker.brokers.ibkr.verdicts import WireVerdict

#: A change that nobody has told about after so long is looked for in the open orders.
ASK_S = 1.0


async def change(session: TwsSession, pending: PendingChange, ref: OrderRef, ticket: Ticket) -> OrderReport:
    """Send the new terms under the order's own id, once, and wait for the wire to show them.

    Args:
        session: the live connection.
        pending: shared with the calling thread, which may forbid a send that has not begun.
        ref: the order as it is.
        ticket: the whole order with its new terms.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    with answering(session, pending, "changing an order"):
        known = await _live(session, ref)
        _check_size(session, known, ticket)
        await _send(session, pending, known, ref, ticket)
        ask_at = loop.time() + ASK_S
        verdict = await verdict_on(pending, ask=lambda: session.spawn(_ask(session)), ask_at=ask_at)
        if verdict is WireVerdict.DONE:
            return session.book.report(known)
        raise pending.error(verdict, loop.time() - started)


async def _live(session: TwsSession, ref: OrderRef) -> KnownOrder:
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
    lines, doubt = meant(ref, listed)
    if doubt is not None:
        raise OrderRejected(f"{broker}: not changed, {doubt}", broker=broker)
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


def _check_size(session: TwsSession, known: KnownOrder, ticket: Ticket) -> None:
    broker = session.options.broker
    filled = max(filled_by(session.book.executions_of(known.line.perm_id)) or 0, known.wire_filled or 0)
    if ticket.order.units <= filled:
        words = f"{filled} of the new total of {plain(ticket.order.units)} are filled already"
        raise OrderRejected(f"{broker}: not changed, {words}", broker=broker)


async def _send(session: TwsSession, pending: PendingChange, known: KnownOrder, ref: OrderRef, ticket: Ticket) -> None:
    """Send the same order id with new terms; the last question comes immediately before the bytes."""
    contract = await contract_for(session, ticket.order, pending.until)
    # The reference stays: it is how the order is found, and it is the same order.
    own, accounts = known.line.account, session.accounts  # in another account it would be another order
    account = "" if accounts.is_sole else own or accounts.for_order(ref.order.account, pending.broker)
    fields = terms.order_fields(ticket.order, known.line.ref, account)
    order = session.sdk.Order(**fields)
    await session.turn(pending.until)
    # No await from here to the bytes: the claim is checked, then they leave.
    session.check()
    order_id = known.line.order_id
    if session.book.is_changing(order_id):
        raise Refused(f"{pending.broker}: another change of this order is under way", broker=pending.broker)
    pending.ref, pending.perm_id = known.line.ref, known.line.perm_id
    session.book.begin(pending, order_id)
    put(session, pending, lambda: session.client.placeOrder(order_id, contract, order), ticket.still_mine)
    known.change_requested = True


async def _ask(session: TwsSession) -> None:
    """Have TWS show our open orders once more; they reach the change through the book."""
    with contextlib.suppress(BrokerError):
        await session.open_orders(own=True)
