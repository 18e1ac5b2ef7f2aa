"""Reading orders and executions over one session: complete listings, and the search for one order in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from models.reports import EXECUTIONS_ONLY, Ambiguous, BrokerStatus, FillReport, Found, Missing, OrderReport, Sighting
from worker.brokers.base import OrderRef
from worker.brokers.ibkr import reports
from worker.brokers.ibkr.days import same_day
from worker.brokers.ibkr.evidence import OrderBook, filled_of
from worker.brokers.ibkr.legs import packages_filled, shown_by
from worker.brokers.ibkr.reports import OrderLine, WireExecution, average_of, build_report, filled_by
from worker.brokers.ibkr.session import TwsSession
from worker.brokers.ibkr.spoiled import Rows, Spoiled

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


# -- FIND ---
async def find(session: TwsSession, refs: Sequence[OrderRef]) -> list[Sighting]:
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
    """Return what listings say of one order.

    Args:
        ref: the order.
        reports: those that may be it.
        evidence: how it was looked for, in words.
        days: the zones in which TWS may count its days.
        spoiled: rows that could not be read; each may have been this order.
    """
    seen = {report.broker_order_id for report in reports}
    # A spoiled row of an order seen elsewhere hides but details of it; a row without ids could be any order's.
    suspects = [row for row in spoiled if row.may_be(ref) and (row.is_named or not seen)]
    suspects = [row for row in suspects if row.get("perm_id") not in seen]
    if suspects:
        words = "; ".join(str(row) for row in suspects)
        return Ambiguous(candidates=tuple(reports), words=f"it may be what cannot be read: {words}")
    if len(reports) == 1 and is_another_account(ref, reports[0].account):
        return Ambiguous(candidates=tuple(reports), words=f"its reference is in account {reports[0].account}")
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
    executions: Sequence[WireExecution],
) -> list[OrderReport]:
    """Return what may be the order: open ones, completed ones, what was pushed, executions; each order once.

    A listing may leave out what it was told to cancel; that IB said Cancelled, or Filled, stands all the same.
    """
    found: dict[object, OrderReport] = {}
    for line in open_lines:
        if matches(ref, line.ref, line.perm_id):
            found[line.perm_id or line.order_id] = open_report(book, line)
    for line in completed:  # read last, so it wins
        if matches(ref, line.ref, line.perm_id):
            found[line.perm_id] = completed_report(book, line)
    for known in book.by_ref(ref.broker_client_order_id):
        if known.has_ended and matches(ref, known.line.ref, known.line.perm_id):
            found.setdefault(known.line.perm_id, book.report(known))
    for execution in executions:
        fill = execution.fill
        if execution.perm_id not in found and matches(ref, fill.broker_client_order_id, execution.perm_id):
            found[execution.perm_id] = _executed_report(book, ref, execution)
    # One in another account decides nothing where ours is there; alone, it is told, and is on other terms.
    here = [report for report in found.values() if not is_another_account(ref, report.account)]
    return [_with_fills(book, report) for report in here or found.values()]


def matches(ref: OrderRef, their_ref: str | None, perm_id: int) -> bool:
    """Tell whether an order at IB is the order that is meant, by reference or permId."""
    if str(perm_id) in ref.known:
        return False
    return their_ref == ref.broker_client_order_id or bool(perm_id and str(perm_id) == ref.broker_order_id)


def is_another_account(ref: OrderRef, account: str | None) -> bool:
    """Tell whether something is known to be in another account than the order that is meant; both by name."""
    return None not in (ref.order.account, account) and ref.order.account != account


def meant(ref: OrderRef, listed: Rows[OrderLine]) -> tuple[list[OrderLine], str | None]:
    """Return the open orders that are the order that is meant, and why nothing can be said of it by the listing.

    It may be what cannot be read; and what is in another account alone is not touched, and not gone.
    """
    named = [line for line in listed if matches(ref, line.ref, line.perm_id)]
    lines = [line for line in named if not is_another_account(ref, line.owner)]
    if suspects := [str(row) for row in listed.spoiled if row.may_be(ref)]:
        return lines, f"it may be what cannot be read: {'; '.join(suspects)}"
    return lines, f"its reference is in account {named[0].owner}" if named and not lines else None


def open_report(book: OrderBook, line: OrderLine) -> OrderReport:
    """Return an open order; without a permId IB has not taken it yet, so its state is unknown."""
    known = book.by_perm_id(line.perm_id)
    if known is None:
        return build_report(line, BrokerStatus.UNKNOWN, None, [], None)
    return book.report(known)


def completed_report(book: OrderBook, line: OrderLine) -> OrderReport:
    """Return a completed order; its own filled size counts where executions are gone, at a price that is not known.

    Filled in part, its quantity may be its size or what was left: no recording tells (docs/facts/ibkr.md#2.10), so it
    says nothing.
    """
    executions = book.executions_of(line.perm_id)
    status = reports.completed_status(line)
    filled = filled_of(line, executions, line.filled)
    if status is BrokerStatus.REJECTED:
        filled = filled or Decimal(0)
    known = book.by_perm_id(line.perm_id)
    owner = known.line.session if known else None  # a completed order does not tell
    size = None if filled and status is not BrokerStatus.FILLED else line.quantity
    line = replace(line, session=owner, quantity=size)
    return build_report(line, status, filled, executions, known.code if known else None)


def _executed_report(book: OrderBook, ref: OrderRef, execution: WireExecution) -> OrderReport:
    """Return an order of which only executions are left: filled if they reach its quantity, else undecided."""
    executions = book.executions_of(execution.perm_id)
    package = () if ref.order.legs is None else shown_by(ref.order, executions)
    filled = packages_filled(package, executions) if package else filled_by(executions)
    if package and len(package) < len(ref.order.legs or ()):
        filled = Decimal(0)  # of a leg without executions nothing is filled, so no package is
    full = filled is not None and filled >= ref.order.units
    return OrderReport(
        broker_order_id=execution.fill.broker_order_id,
        status=BrokerStatus.FILLED if full else BrokerStatus.UNKNOWN,
        broker_client_order_id=execution.fill.broker_client_order_id,
        symbol=None if package else execution.fill.symbol,
        side=None if package else execution.fill.side,
        package=package,
        session=str(execution.client_id),
        account=execution.fill.account,
        filled_quantity=filled,
        avg_fill_price=None if package else average_of(executions),
        raw_status=EXECUTIONS_ONLY,
    )


def _with_fills(book: OrderBook, report: OrderReport) -> OrderReport:
    executions = book.executions_of(int(report.broker_order_id or 0))
    return replace(report, fills=tuple(book.fill(e) for e in executions))


# -- LIST ---
async def list_orders(session: TwsSession, open_only: bool, since: datetime | None) -> list[OrderReport]:
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


async def list_fills(session: TwsSession, since: datetime) -> list[FillReport]:
    """List the day's executions since a time, oldest first."""
    session.check()
    executions = await session.executions()
    session.check()
    fills = [session.book.fill(e) for e in executions if e.fill.filled_at >= since]
    return sorted(fills, key=lambda fill: fill.filled_at)
