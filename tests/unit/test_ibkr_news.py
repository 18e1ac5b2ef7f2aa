"""What IB tells of orders becomes news once; a rejection after acceptance needs the code and the wire."""

from __future__ import annotations

from decimal import Decimal

import pytest

from models.reports import BrokerStatus, CommissionReport, FillReport, OrderReport
from tests.unit.ibkr_book import a_book, a_line, an_execution


def test_the_same_news_is_told_once() -> None:
    book, told = a_book()
    book.on_order(a_line())
    book.on_order(a_line())
    book.on_status(7, 1, 55, "PreSubmitted", "", 0.0)
    assert [report.status for report in told] == [BrokerStatus.ACCEPTED]  # type: ignore[attr-defined]


def test_a_status_that_proves_nothing_is_no_news() -> None:
    book, told = a_book()
    book.on_order(a_line(status="PendingSubmit"))
    book.on_order(a_line(status="Inactive"))
    assert told == []


def test_fills_and_commissions_are_told_once_and_drive_the_quantity() -> None:
    book, told = a_book()
    book.on_order(a_line())
    for _ in range(2):
        book.on_execution(an_execution(1, 40, 40))
        book.on_commission("e1", Decimal(1))
    book.on_execution(an_execution(2, 60, 100))
    kinds = [type(report) for report in told]
    assert kinds.count(FillReport) == 2
    assert kinds.count(CommissionReport) == 1
    orders = [(r.status, r.filled_quantity) for r in told if isinstance(r, OrderReport)]
    assert orders[-2:] == [(BrokerStatus.PARTIALLY_FILLED, Decimal(40)), (BrokerStatus.FILLED, Decimal(100))]


def test_a_rejection_after_acceptance_needs_the_code_and_the_wire() -> None:
    book, told = a_book()
    book.on_order(a_line())
    book.on_error(7, 201, "no")
    assert len(told) == 1
    book.on_status(7, 1, 55, "Inactive", "", 0.0)
    report = told[-1]
    assert isinstance(report, OrderReport)
    assert (report.status, report.code, report.filled_quantity) == (BrokerStatus.REJECTED, "201", Decimal(0))


@pytest.mark.parametrize(("shown", "pushed", "is_code_past"), [
    ("Submitted", True, True),  # it traded after the code, so that was about something else
    ("Submitted", False, False),  # of a listing it may be of any time
    ("Inactive", True, False),  # the refusal may have overtaken what it had traded
])  # fmt: skip
def test_a_code_is_forgotten_when_an_order_that_the_wire_shows_alive_trades_after_it(
    shown: str, pushed: bool, is_code_past: bool
) -> None:
    book, told = a_book()
    book.on_order(a_line())
    book.on_error(7, 201, "a change was refused")
    if shown == "Inactive":
        book.on_status(7, 1, 55, "Inactive", "", 0.0)
    book.on_execution(an_execution(1, 40, 40), pushed=pushed)
    book.on_status(7, 1, 55, "Inactive", "", 40.0)
    told_last = [report.status for report in told if isinstance(report, OrderReport)][-1]
    assert told_last is (BrokerStatus.PARTIALLY_FILLED if is_code_past else BrokerStatus.REJECTED)


def test_what_ends_after_our_cancel_is_never_a_rejection() -> None:
    book, told = a_book()
    book.on_order(a_line())
    known = book.by_perm_id(55)
    assert known is not None
    known.cancel_requested = True
    book.on_error(7, 201, "too late")
    book.on_status(7, 1, 55, "Cancelled", "", 0.0)
    assert told[-1].status is BrokerStatus.CANCELED  # type: ignore[attr-defined]


def test_a_local_cancel_code_on_a_live_order_is_no_news() -> None:
    book, told = a_book()
    book.on_order(a_line())
    for code in (10148, 161, 10349, 105, 399):
        book.on_error(7, code, "?")
    assert len(told) == 1
