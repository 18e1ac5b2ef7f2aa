"""Placing, canceling and finding orders over one session: the order of operations that keeps them safe.

Coroutines for the connection's loop; `ibkr.IbkrBroker` calls them from the worker's threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from models.errors import (
    ConnectionLost,
    CorroError,
    NotConnected,
    OutcomeUnknown,
    Refused,
    Unmapped,
)
from models.reports import (
    DONE,
    Ambiguous,
    BrokerStatus,
    FillReport,
    Found,
    Missing,
    OrderReport,
    Report,
    Sighting,
)
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.codes import Proof, code_of
from worker.brokers.ibkr.days import same_day
from worker.brokers.ibkr.evidence import KnownOrder, OrderBook, average_of, build_report, filled_by, total_of
from worker.brokers.ibkr.flight import CancelWatch, Flight, Verdict
from worker.brokers.ibkr.session import Session
from worker.brokers.ibkr.spoiled import Spoiled
from worker.brokers.ibkr.terms import Execution, OrderLine

#: A flight whose outcome was called unknown is still listened to for this long.
LINGER_S = 60.0
#: How long a cancel waits for the first word about it; silence means requested.
CANCEL_WAIT_S = 2.0
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


# -- PLACE ---
async def place(
    session: Session, flight: Flight, ticket: Ticket, until: float, emit: Callable[[Report], None]
) -> OrderReport:
    """Send one order and wait for evidence.

    Args:
        session: the live connection.
        flight: shared with the calling thread, which may forbid a send that has not begun.
        ticket: the order.
        until: loop time at which an answer must have come.
        emit: takes a verdict that arrives after the outcome was called unknown.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        await _send(session, flight, ticket, until)
        verdict = await _verdict(flight, until)
        if verdict is Verdict.SEEN:
            return _as_accepted(session.book.answer(flight, ticket.order.quantity), flight)
        raise flight.error(verdict, loop.time() - started)
    except (OutcomeUnknown, asyncio.CancelledError):
        if flight.sent and not flight.lost:
            flight.lingers = True
            session.spawn(_linger(session.book, flight, emit, loop.time() + LINGER_S))
        raise
    except CorroError:
        raise
    except Exception as error:
        kind = Unmapped if flight.sent else NotConnected
        raise kind(f"{flight.broker}: {error!r} while placing", broker=flight.broker) from error
    finally:
        if not flight.lingers:
            session.book.land(flight)


def _as_accepted(report: OrderReport, flight: Flight) -> OrderReport:
    """Tell an order that was alive, and refused before its sender was answered, as accepted.

    That it was refused since is told by the next reading: an order that IB had accepted may work again
    (docs/facts/ibkr.md#3.8), so it is canceled before anything follows.
    """
    if flight.alive and report.status is BrokerStatus.REJECTED and not report.filled_quantity:
        return replace(report, status=BrokerStatus.ACCEPTED, code=None, message=None)
    return report


async def _send(session: Session, flight: Flight, ticket: Ticket, until: float) -> None:
    session.check()
    contract = await contract_by(session, ticket.order.symbol, until)
    terms.check_listed(ticket.order, session.contracts.order_types(ticket.order.symbol), flight.broker)
    fields = terms.order_fields(ticket.order, flight.ref, session.account if len(session.accounts) > 1 else "")
    order = session.sdk.Order(**fields)
    await session.turn(until)
    # No await from here to the bytes: the claim is checked, then they leave.
    session.check()
    order_id = session.next_order_id()
    session.book.board(flight, order_id)
    ticket.still_mine()
    if not flight.take_off():
        raise NotConnected(f"{flight.broker}: given up before it was sent", broker=flight.broker)
    try:
        left = session.send(lambda: session.client.placeOrder(order_id, contract, order))
    except CorroError:
        flight.stay()
        raise
    if not left:
        flight.stay()
        raise NotConnected(f"{flight.broker}: the socket took nothing", broker=flight.broker)


async def contract_by(session: Session, symbol: str, until: float) -> object:
    """Return the contract of an order that has not left yet; NotConnected if it cannot be had in time."""
    try:
        async with asyncio.timeout_at(until):
            return await session.contracts.of(symbol)
    except TimeoutError:
        raise NotConnected(f"{session.options.broker}: no contract for {symbol} in time; nothing was sent") from None


async def _verdict(flight: Flight, until: float) -> Verdict:
    loop = asyncio.get_running_loop()
    while True:
        flight.changed.clear()
        verdict, at = flight.judge(loop.time())
        if verdict is not Verdict.WAIT or loop.time() >= until:
            return verdict
        await wait(flight.changed, min(until, at or until))


async def wait(event: asyncio.Event, until: float) -> None:
    """Wait for an event, but not beyond a loop time."""
    try:
        async with asyncio.timeout_at(until):
            await event.wait()
    except TimeoutError:
        pass


async def _linger(book: OrderBook, flight: Flight, emit: Callable[[Report], None], until: float) -> None:
    """Report a refusal that comes too late for place_order; whatever IB shows is reported by the book anyway."""
    try:
        if await _verdict(flight, until) is Verdict.REFUSED and flight.code is not None:
            number, text, _ = flight.code
            emit(
                OrderReport(
                    broker_order_id=str(flight.perm_id) if flight.perm_id else None,
                    status=BrokerStatus.REJECTED,
                    broker_client_order_id=flight.ref,
                    filled_quantity=Decimal(0),
                    code=str(number),
                    message=text,
                    raw_status=flight.status or None,
                )
            )
    finally:
        book.land(flight)


# -- CANCEL ---
async def cancel(session: Session, ref: OrderRef) -> None:
    """Ask for the end of every live order under this reference; after a modify there may be two.

    Source: docs/facts/ibkr.md#2.4.
    """
    session.check()
    order_ids = _known_order_ids(session, ref) or await _listed_order_ids(session, ref)
    for order_id in order_ids:
        await _cancel_one(session, order_id)


def _known_order_ids(session: Session, ref: OrderRef) -> list[int]:
    book = session.book
    flying = [f.order_id for f in book.flights.values() if f.ref == ref.broker_client_order_id]
    known = [k.line for k in book.by_ref(ref.broker_client_order_id) if may_live(book, k)]
    return list(dict.fromkeys(flying + [line.order_id for line in known if is_ours(session, line)]))


def may_live(book: OrderBook, known: KnownOrder) -> bool:
    """Tell whether an order may still trade: an Inactive one can be activated again, even after a refusing code."""
    report = book.report(known)
    return report.status not in DONE or report.raw_status == terms.INACTIVE


async def _listed_order_ids(session: Session, ref: OrderRef) -> list[int]:
    broker = session.options.broker
    listed = await session.open_orders()
    lines = [line for line in listed if matches(ref, line.ref, line.perm_id)]
    if suspects := [str(row) for row in listed.spoiled if row.may_be(ref)]:
        raise Unmapped(f"{broker}: cannot be read, so not canceled: {'; '.join(suspects)}", broker=broker)
    if not lines:
        raise Refused(f"{broker}: not among the open orders, nothing to cancel; read it again", broker=broker)
    ours = [line.order_id for line in lines if is_ours(session, line)]
    if not ours:
        raise Foreign(lines[0].client_id)
    return ours


class Foreign(Exception):
    """The order was placed under another client id; `owner` is that."""

    def __init__(self, owner: int) -> None:
        super().__init__(f"it belongs to client id {owner}")
        self.owner = owner


def is_ours(session: Session, line: OrderLine) -> bool:
    """Tell whether an order is this client id's: order ids of others may name an order of ours."""
    return line.client_id == session.options.client_id and line.order_id > 0


async def _cancel_one(session: Session, order_id: int) -> None:
    book, broker = session.book, session.options.broker
    loop = asyncio.get_running_loop()
    await session.turn(loop.time() + session.options.request_timeout_s)
    watch = book.cancels[order_id] = CancelWatch()
    known = book.by_order_id(order_id)
    try:
        session.send(lambda: session.client.cancelOrder(order_id, ""))
        if known is not None:
            known.ask_for_end()
        await wait(watch.changed, loop.time() + CANCEL_WAIT_S)
    finally:
        book.cancels.pop(order_id, None)
    if watch.seen:
        return
    if watch.code is not None:
        number, text = watch.code
        kind = Refused if code_of(number).proof in (Proof.CANCEL_FAILED, Proof.REFUSED) else Unmapped
        raise kind(f"{broker}: {number} {text}; read the order again", broker=broker, code=str(number))
    if not session.up:
        raise ConnectionLost(f"{broker}: connection lost after the cancel had left", broker=broker)


# -- FIND ---
async def find(session: Session, refs: Sequence[OrderRef]) -> list[Sighting]:
    """Read the three places where orders can be, in the order in which orders move through them, once for all."""
    session.check()
    open_lines = await session.open_orders()
    executions = await session.executions()
    completed = await session.completed_orders()
    session.check()  # an answer from a connection that was cut meanwhile proves nothing
    counts = f"{len(open_lines)} open, {len(executions)} executions, {len(completed)} completed"
    evidence = f"open orders, executions and completed orders answered: {counts}"
    found = [_candidates(session.book, ref, open_lines, completed, executions) for ref in refs]
    spoiled = [*open_lines.spoiled, *executions.spoiled, *completed.spoiled]
    days = session.days()
    return [_sighting(ref, reports, evidence, days, spoiled) for ref, reports in zip(refs, found, strict=True)]


def _sighting(
    ref: OrderRef, reports: list[OrderReport], evidence: str, days: Sequence[tzinfo], spoiled: Sequence[Spoiled]
) -> Sighting:
    seen = {report.broker_order_id for report in reports}
    # A spoiled row of an order that is seen elsewhere hides nothing of it but details; one without ids could be any.
    suspects = [row for row in spoiled if row.may_be(ref) and (row.is_named or not seen)]
    suspects = [row for row in suspects if row.get("perm_id") not in seen]
    if suspects:
        words = "; ".join(str(row) for row in suspects)
        return Ambiguous(candidates=tuple(reports), words=f"it may be what cannot be read: {words}")
    if len(reports) == 1:
        return Found(report=reports[0])
    if not reports and same_day(ref.sent_at, datetime.now(UTC), days):
        return Missing(evidence=evidence)
    words = "" if reports else "it was sent before a midnight to which the listings may reach back"
    return Ambiguous(candidates=tuple(reports), words=words)


def _candidates(
    book: OrderBook,
    ref: OrderRef,
    open_lines: Sequence[OrderLine],
    completed: Sequence[OrderLine],
    executions: Sequence[Execution],
) -> list[OrderReport]:
    found: dict[object, OrderReport] = {}
    for line in open_lines:
        if matches(ref, line.ref, line.perm_id):
            found[line.perm_id or line.order_id] = open_report(book, line)
    for line in completed:  # read last, so it wins
        if matches(ref, line.ref, line.perm_id):
            found[line.perm_id] = completed_report(book, line)
    for execution in executions:
        fill = execution.fill
        if execution.perm_id not in found and matches(ref, fill.broker_client_order_id, execution.perm_id):
            found[execution.perm_id] = _executed_report(book, ref, execution)
    return [_with_fills(book, report) for report in found.values()]


def matches(ref: OrderRef, their_ref: str | None, perm_id: int) -> bool:
    """Tell whether an order at IB is the one that is meant, by reference or permId."""
    if str(perm_id) in ref.known:
        return False
    return their_ref == ref.broker_client_order_id or bool(perm_id and str(perm_id) == ref.broker_order_id)


def open_report(book: OrderBook, line: OrderLine) -> OrderReport:
    """Return an open order; without a permId IB has not taken it yet, so its state is unknown."""
    known = book.by_perm_id(line.perm_id)
    if known is None:
        return build_report(line, BrokerStatus.UNKNOWN, None, [], None)
    return book.report(known)


def completed_report(book: OrderBook, line: OrderLine) -> OrderReport:
    """Return a completed order; its own filled size counts where executions are gone, at a price that is not known."""
    executions = book.executions_of(line.perm_id)
    status = terms.completed_status(line)
    filled = total_of(executions, line.filled)
    if status is BrokerStatus.REJECTED:
        filled = filled or Decimal(0)
    known = book.by_perm_id(line.perm_id)
    owner = known.line.session if known else None  # a completed order does not tell
    return build_report(replace(line, session=owner), status, filled, executions, known.code if known else None)


def _executed_report(book: OrderBook, ref: OrderRef, execution: Execution) -> OrderReport:
    """Return an order of which only executions are left: filled if they reach its quantity, else undecided."""
    executions = book.executions_of(execution.perm_id)
    filled = filled_by(executions)
    full = filled is not None and filled >= ref.order.quantity
    return OrderReport(
        broker_order_id=execution.fill.broker_order_id,
        status=BrokerStatus.FILLED if full else BrokerStatus.UNKNOWN,
        broker_client_order_id=execution.fill.broker_client_order_id,
        symbol=execution.fill.symbol,
        side=execution.fill.side,
        session=str(execution.client_id),
        filled_quantity=filled,
        avg_fill_price=average_of(executions),
        raw_status="executions only",
    )


def _with_fills(book: OrderBook, report: OrderReport) -> OrderReport:
    executions = book.executions_of(int(report.broker_order_id or 0))
    return replace(report, fills=tuple(book.fill(e) for e in executions))


# -- LIST ---
async def list_orders(session: Session, open_only: bool, since: datetime | None) -> list[OrderReport]:
    """List orders of the account, completed ones first, then the open ones."""
    session.check()
    lines = await session.open_orders()
    reports = {line.perm_id or line.order_id: open_report(session.book, line) for line in lines}
    if not open_only:
        done = [line for line in await session.completed_orders() if _is_since(line, since)]
        done.sort(key=lambda line: (line.completed_at or _LONG_AGO, line.perm_id))
        closed = {line.perm_id: completed_report(session.book, line) for line in done}
        reports = closed | {key: report for key, report in reports.items() if key not in closed}
    session.check()
    return list(reports.values())


def _is_since(line: OrderLine, since: datetime | None) -> bool:
    return since is None or line.completed_at is None or line.completed_at >= since


async def list_fills(session: Session, since: datetime) -> list[FillReport]:
    """List the day's executions since a time, oldest first."""
    session.check()
    executions = await session.executions()
    session.check()
    fills = [session.book.fill(e) for e in executions if e.fill.filled_at >= since]
    return sorted(fills, key=lambda fill: fill.filled_at)
