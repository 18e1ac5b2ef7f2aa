"""Placing and canceling orders over one session: the order of operations that keeps them safe.

Coroutines for the connection's loop; `adapter.IbkrBroker` calls them from the worker's threads. A change goes the same
way (`replace`): prepared, put on the wire, followed until the evidence allows a verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial

from models.errors import CorroError, NotConnected, OutcomeUnknown, Refused, Unmapped
from models.instruments import Instrument
from models.messages import OrderRequest
from models.reports import DONE, BrokerStatus, OrderReport, Report
from models.troubles import trouble
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr import reports, terms
from worker.brokers.ibkr.evidence import KnownOrder, OrderBook
from worker.brokers.ibkr.legs import bag_of
from worker.brokers.ibkr.listings import is_another_account, meant
from worker.brokers.ibkr.pending import Pending, PendingCancel, PendingOrder
from worker.brokers.ibkr.reports import OrderLine
from worker.brokers.ibkr.sdk import SdkContract
from worker.brokers.ibkr.session import TwsSession
from worker.brokers.ibkr.verdicts import WireVerdict

#: An order whose outcome was called unknown is still listened to for this long.
LINGER_S = 60.0
#: How long a cancel waits for the first word about it; silence means requested.
CANCEL_WAIT_S = 2.0


# -- ON THE WIRE ---
def put(session: TwsSession, pending: Pending, message: Callable[[], None], still_mine: Callable[[], None]) -> None:
    """Put the one message of a request on the wire; the request is listened to from just before.

    Raises:
        NotSent: nothing left, provably.
    """
    still_mine()
    if not pending.begin():
        raise NotConnected(f"{pending.broker}: given up before it was sent", broker=pending.broker)
    try:
        left = session.send(message)
    except CorroError:
        pending.take_back()
        raise
    if not left:
        pending.take_back()
        raise NotConnected(f"{pending.broker}: the socket took nothing", broker=pending.broker)


async def verdict_on(pending: Pending, *, ask: Callable[[], None] | None = None, ask_at: float = 0.0) -> WireVerdict:
    """Wait until the evidence about a request decides, or its deadline has passed: then the verdict is WAIT.

    Args:
        pending: the request.
        ask: has the broker tell more; called once, at a loop time or as soon as a code was heard that decides nothing.
        ask_at: that time.
    """
    loop = asyncio.get_running_loop()
    while True:
        pending.changed.clear()
        now, since = loop.time(), pending.ruling.since
        if now >= min(since, pending.until):
            return pending.verdict(now)
        if ask is not None and (pending.is_undecided or now >= ask_at):
            ask()
            ask = None
        await _wait(pending.changed, min(pending.until, since, ask_at if ask is not None else since))


async def _wait(event: asyncio.Event, until: float) -> None:
    """Wait for an event, but not beyond a loop time."""
    try:
        async with asyncio.timeout_at(until):
            await event.wait()
    except TimeoutError:
        pass


@contextmanager
def answering(session: TwsSession, pending: Pending, what: str) -> Iterator[None]:
    """Forget a request in the end, and let no foreign exception out: after its first byte the outcome is unknown."""
    try:
        yield
    except CorroError:
        raise
    except Exception as error:
        kind = Unmapped if pending.begun else NotConnected
        raise kind(f"{pending.broker}: {trouble(error)} while {what}", broker=pending.broker) from error
    finally:
        if not pending.lingers:
            session.book.forget(pending)


async def contract_by(session: TwsSession, instrument: Instrument, until: float) -> SdkContract:
    """Return the contract of an order that has not left yet; NotConnected if it cannot be had in time."""
    try:
        async with asyncio.timeout_at(until):
            return await session.contracts.of(instrument)
    except TimeoutError:
        raise NotConnected(
            f"{session.options.broker}: no contract for {instrument} in time; nothing was sent"
        ) from None


async def contract_for(session: TwsSession, order: OrderRequest, until: float) -> object:
    """Return the contract of an order, of one with legs their BAG, once it takes such orders.

    Raises:
        NotConnected: it cannot be had in time. Unsupported: it does not take them.
    """
    if order.legs is not None:
        terms.check_listed(order, frozenset(), session.options.broker)  # nobody tells what a BAG takes
        return await bag_of(order, session.sdk, partial(contract_by, session, until=until))
    contract = await contract_by(session, order.instrument, until)
    terms.check_listed(order, session.contracts.order_types(order.symbol), session.options.broker)
    session.contracts.check(order)  # its steps may be known only now
    return contract


# -- PLACE ---
async def place(
    session: TwsSession, pending: PendingOrder, ticket: Ticket, emit: Callable[[Report], None]
) -> OrderReport:
    """Send one order and wait for evidence.

    Args:
        session: the live connection.
        pending: shared with the calling thread, which may forbid a send that has not begun.
        ticket: the order.
        emit: takes a verdict that arrives after the outcome was called unknown.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    with answering(session, pending, "placing"):
        try:
            await _send(session, pending, ticket)
            verdict = await verdict_on(pending)
            if verdict is WireVerdict.DONE:
                return as_accepted(session.book.answer(pending, ticket.order), pending)
            raise pending.error(verdict, loop.time() - started)
        except (OutcomeUnknown, asyncio.CancelledError):
            listen_on(session, pending, emit)
            raise


def as_accepted(report: OrderReport, pending: PendingOrder) -> OrderReport:
    """Tell an order that was alive, and refused before its sender was answered, as accepted.

    The refusal is told by the next reading: an order that IB had accepted may work again (docs/facts/ibkr.md#3.8), so
    the core cancels the order before anything follows.
    """
    if pending.told.done and report.status is BrokerStatus.REJECTED and not report.filled_quantity:
        return replace(report, status=BrokerStatus.ACCEPTED, code=None, message=None)
    return report


async def _send(session: TwsSession, pending: PendingOrder, ticket: Ticket) -> None:
    """Send one order: everything that takes time first, the last question and the bytes at the end."""
    session.check()
    contract = await contract_for(session, ticket.order, pending.until)
    account = session.accounts.for_order(ticket.order.account, pending.broker)
    fields = terms.order_fields(ticket.order, pending.ref, account)
    order = session.sdk.Order(**fields)
    await session.turn(pending.until)
    await session.numbers.free()
    # No await from here to the bytes: the claim is checked, then they leave.
    session.check()
    order_id = session.next_order_id()
    session.book.begin(pending, order_id)
    put(session, pending, lambda: session.client.placeOrder(order_id, contract, order), ticket.still_mine)


def listen_on(session: TwsSession, pending: PendingOrder, emit: Callable[[Report], None]) -> None:
    """Keep a request whose outcome is unknown for a while: a refusal may still come."""
    if pending.begun and not pending.told.lost:
        pending.lingers = True
        until = asyncio.get_running_loop().time() + LINGER_S
        session.spawn(linger(session.book, pending, emit, until))


async def linger(book: OrderBook, pending: PendingOrder, emit: Callable[[Report], None], until: float) -> None:
    """Report a refusal that comes too late for place_order; whatever IB shows is reported by the book anyway."""
    pending.until = until
    try:
        if await verdict_on(pending) is WireVerdict.REFUSED and (code := pending.told.code) is not None:
            emit(
                OrderReport(
                    broker_order_id=str(pending.perm_id) if pending.perm_id else None,
                    status=BrokerStatus.REJECTED,
                    broker_client_order_id=pending.ref,
                    filled_quantity=Decimal(0),
                    code=str(code.number),
                    message=code.text,
                    raw_status=pending.told.status or None,
                )
            )
    finally:
        book.forget(pending)


# -- CANCEL ---
async def cancel(session: TwsSession, ref: OrderRef) -> None:
    """Ask for the end of every live order under this reference; after a modify there may be two.

    Source: docs/facts/ibkr.md#2.4.
    """
    session.check()
    order_ids = _known_order_ids(session, ref) or await _listed_order_ids(session, ref)
    for order_id in order_ids:
        await _cancel_one(session, ref, order_id)


def _known_order_ids(session: TwsSession, ref: OrderRef) -> list[int]:
    book = session.book
    known = [k.line for k in book.by_ref(ref.broker_client_order_id) if may_live(book, k)]
    ours = [line.order_id for line in known if is_ours(session, line) and not is_another_account(ref, line.owner)]
    return list(dict.fromkeys(book.placing(ref.broker_client_order_id) + ours))


def may_live(book: OrderBook, known: KnownOrder) -> bool:
    """Tell whether an order may still trade: an Inactive one can be activated again, even after a refusing code."""
    report = book.report(known)
    return report.status not in DONE or report.raw_status == reports.INACTIVE


async def _listed_order_ids(session: TwsSession, ref: OrderRef) -> list[int]:
    """Return the order ids under which the open orders show an order, to be canceled by.

    Raises:
        Unmapped: a row that may be the order cannot be read, or it is in another account.
        Refused: it is not among the open orders.
    """
    broker = session.options.broker
    lines, doubt = meant(ref, await session.open_orders())
    if doubt is not None:
        raise Unmapped(f"{broker}: not canceled, {doubt}", broker=broker)
    if not lines:
        raise Refused(f"{broker}: not among the open orders, nothing to cancel; read it again", broker=broker)
    ours = [line.order_id for line in lines if is_ours(session, line)]
    if not ours:
        raise Foreign(lines[0].client_id)
    return ours


class Foreign(Exception):
    """The order was placed under another client id, `owner`."""

    def __init__(self, owner: int) -> None:
        super().__init__(f"it belongs to client id {owner}")
        self.owner = owner


def is_ours(session: TwsSession, line: OrderLine) -> bool:
    """Tell whether an order is this client id's: order ids of others may name an order of ours."""
    return line.client_id == session.options.client_id and line.order_id > 0


async def _cancel_one(session: TwsSession, ref: OrderRef, order_id: int) -> None:
    """Cancel one order id, and wait for TWS's word on it."""
    loop = asyncio.get_running_loop()
    await session.turn(loop.time() + session.options.request_timeout_s)
    pending = PendingCancel(ref=ref.broker_client_order_id, broker=session.options.broker)
    session.book.begin(pending, order_id)
    with answering(session, pending, "canceling"):
        put(session, pending, lambda: session.client.cancelOrder(order_id, ""), still_mine=lambda: None)
        if (known := session.book.by_order_id(order_id)) is not None:
            known.ask_for_end()
        pending.until = loop.time() + CANCEL_WAIT_S
        verdict = await verdict_on(pending)
        if verdict in (WireVerdict.REFUSED, WireVerdict.UNKNOWN):
            raise pending.error(verdict, CANCEL_WAIT_S)
