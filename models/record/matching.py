"""Which of our orders a report is about: by the ids that it carries, and never against its terms.

An attempt whose broker has confirmed it under this broker's id is known; of every other one a report must show our
terms as well (`models.terms`). What is about another symbol or direction is never ours, whatever id it carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from sqlalchemy import Connection, select, union_all

from models.messages import OrderRequest
from models.record.intake import request_of
from models.record.order import OrderRecord
from models.record.replaces import terms_of, with_terms
from models.record.rows import AttemptRow, ReadableOrder
from models.record.statements import Combined, Selected
from models.record.tables import attempts, fills
from models.reports import CommissionReport, FillReport, OrderReport, Report
from models.terms import Rewrites, conflicts, contradictions, is_another
from models.vocabulary import Outcome

#: client_order_id and attempt_no.
Place = tuple[str, int]
Index = dict[tuple[str, str], Place]


def keys_of(report: Report) -> list[tuple[str, str]]:
    """Return the ids that a report carries, the surest first."""
    if isinstance(report, CommissionReport):
        return [("execution", report.execution_id)]
    keys = [("ours", report.broker_client_order_id), ("theirs", report.broker_order_id)]
    return [(kind, value) for kind, value in keys if value]


def place_of(report: Report, index: Index) -> Place | None:
    """Return which attempt the ids of a report name."""
    return next((index[key] for key in keys_of(report) if key in index), None)


def named(query: Selected, broker: str, by_ours: Sequence[str], by_theirs: Sequence[str]) -> Combined:
    """Narrow a query of attempts to those at a broker that have one of these ids: our own, or the broker's.

    Each kind by its own index: asked for both by `or`, SQLite reads all that was ever attempted at the broker.
    """
    a = attempts.c
    ours, here = a.broker_client_order_id, query.where(a.broker == broker)
    return union_all(here.where(ours.in_(by_ours)), here.where(a.broker_order_id.in_(by_theirs), ours.not_in(by_ours)))


def index_of(connection: Connection, broker: str, reports: Sequence[Report]) -> Index:
    """Find the attempts at a broker that the ids of reports name; the newest one wins."""
    keys = {key for report in reports for key in keys_of(report)}
    by_ours = [value for kind, value in keys if kind == "ours"]
    by_theirs = [value for kind, value in keys if kind == "theirs"]
    by_execution = [value for kind, value in keys if kind == "execution"]
    index: Index = {}
    a, f = attempts.c, fills.c
    told = (a.client_order_id, a.attempt_no, a.broker_client_order_id, a.broker_order_id, a.replaces, a.outcome)
    query = named(select(*told), broker, by_ours, by_theirs)
    for row in sorted(connection.execute(query), key=lambda row: row.attempt_no):
        place = (row.client_order_id, row.attempt_no)
        if row.replaces is not None and row.outcome != Outcome.ACCEPTED:
            # Changed in place, an order keeps its id: until that is confirmed the id means the old attempt.
            index.setdefault(("ours", row.broker_client_order_id), place)
        else:
            index["ours", row.broker_client_order_id] = place
        if row.broker_order_id is not None:
            index["theirs", row.broker_order_id] = place
    if by_execution:
        booked = select(f.execution_id, f.client_order_id, f.attempt_no).where(f.broker == broker)
        for execution_id, client_order_id, attempt_no in connection.execute(
            booked.where(f.execution_id.in_(by_execution))
        ):
            index["execution", execution_id] = (client_order_id, attempt_no)
    for report in reports:  # an execution and its commission may come in the same batch
        if isinstance(report, FillReport) and (found := place_of(report, index)):
            index["execution", report.execution_id] = found
    return index


def objections(entry: OrderRecord, attempt_no: int, report: Report, rewrites: Rewrites) -> list[str]:
    """Return what speaks against a report, whose ids name an attempt, being about it; nothing if it is."""
    if isinstance(report, CommissionReport):
        return []
    if is_another(entry.order, report):
        return [f"it is about {report.side or 'trading'} {report.symbol or entry.order['symbol']}"]
    if is_elsewhere(entry.attempts[attempt_no], report):
        return [_where(report)]
    if isinstance(report, FillReport):
        if _names_ours(entry, attempt_no, report):
            return []
        return [f"nothing has shown yet that order {report.broker_order_id} is on our terms"]
    if _is_known(entry.attempts[attempt_no], report):
        return []
    return against(sent(entry.order, entry.attempts[attempt_no]), entry.attempts[attempt_no], report, rewrites)


def denials(entry: OrderRecord, attempt_no: int, answer: OrderReport, rewrites: Rewrites) -> list[str]:
    """Return what says that the answer to a send is about another order; what it does not show, it does not deny."""
    attempt = entry.attempts[attempt_no]
    if is_elsewhere(attempt, answer):
        return [_where(answer)]
    if answer.broker_order_id in (attempt["baseline"] or ()):
        return ["it was listed before this one was sent"]
    heir = attempt["replaces"] is not None
    return conflicts(sent(entry.order, attempt), answer, rewrites=rewrites, is_heir=heir)


class Sent(TypedDict):
    """Through which connection, and for which account, an attempt was made."""

    session: str | None
    account: str | None


def is_elsewhere(attempt: Sent, report: OrderReport | FillReport) -> bool:
    """Tell whether an order was placed through another connection, or in another account, than the attempt it names."""
    pairs = ((attempt["session"], report.session), (attempt["account"], report.account))
    return any(None not in (ours, theirs) and ours != theirs for ours, theirs in pairs)


def _where(report: OrderReport | FillReport) -> str:
    account = f" in account {report.account}" if report.account else ""
    return f"it was placed through session {report.session}{account}"


def against(order: OrderRequest, attempt: AttemptRow, report: OrderReport, rewrites: Rewrites) -> list[str]:
    """Return which terms of an order at the broker are not those of an attempt."""
    return contradictions(order, report, rewrites=rewrites, is_heir=attempt["replaces"] is not None)


def sent(order: ReadableOrder, attempt: AttemptRow) -> OrderRequest:
    """Return an order with the terms with which an attempt sent it."""
    request = request_of(order).model_copy(update={"account": attempt["account"]})
    return with_terms(request, terms_of(attempt["terms"])) if attempt["terms"] else request


def _is_known(attempt: AttemptRow, report: OrderReport) -> bool:
    """Tell whether the broker has confirmed the attempt under this id: its terms may have been changed there since."""
    return attempt["outcome"] == Outcome.ACCEPTED and report.broker_order_id in (None, attempt["broker_order_id"])


def _names_ours(entry: OrderRecord, attempt_no: int, report: FillReport) -> bool:
    """Tell whether an execution names the order that an attempt made at its broker.

    It shows no terms of its order, so the broker's id is the evidence, once that has been found to be ours; an attempt
    that was accepted without one has nothing to compare. A change in place that is not settled may have left a second
    order (docs/facts/ibkr.md#2.4).
    """
    ours = entry.attempts[attempt_no]
    if report.broker_order_id in (None, ours["broker_order_id"]):
        return True
    if ours["broker_order_id"] is None:
        return bool(ours["outcome"] == Outcome.ACCEPTED)
    return any(
        row["replaces"] == attempt_no
        and row["broker_client_order_id"] == ours["broker_client_order_id"]
        and row["outcome"] in (Outcome.SENDING, Outcome.UNKNOWN)
        for row in entry.attempts.values()
    )
