"""The verdict on a send and on a cancel at IB: accepted and refused need proof, everything else waits or is unknown."""

from __future__ import annotations

import asyncio

import pytest

from models.errors import (
    ConnectionLost,
    CorroError,
    OrderRejected,
    OutcomeUnknown,
    Refused,
    SubmitTimeout,
    Unmapped,
)
from models.reports import BrokerStatus, OrderReport
from tests.unit.ibkr_book import a_book
from worker.brokers.ibkr import orders as ibkr_orders
from worker.brokers.ibkr.pending import PendingCancel, PendingOrder
from worker.brokers.ibkr.verdicts import SETTLE_S, UNDECIDED_SETTLE_S, WAITING, WireVerdict


# -- THE VERDICT ---
def an_order() -> PendingOrder:
    return PendingOrder(ref="r1", broker="ib", order_id=7)


def test_silence_waits_and_a_deadline_is_unknown() -> None:
    pending = an_order()
    assert pending.ruling == WAITING
    assert isinstance(pending.error(WireVerdict.WAIT, 10.0), SubmitTimeout)


@pytest.mark.parametrize("status", ["PreSubmitted", "Submitted", "Filled", "PendingCancel"])
def test_a_live_wire_status_with_a_perm_id_is_accepted(status: str) -> None:
    pending = an_order()
    pending.see(status, "", 55, 0.0)
    assert pending.verdict(0.0) is WireVerdict.DONE


@pytest.mark.parametrize("status", ["PendingSubmit", "ApiPending", "Inactive", "Nonsense"])
def test_a_status_that_proves_nothing_waits(status: str) -> None:
    pending = an_order()
    pending.see(status, "", 55, 0.0)
    assert pending.verdict(99.0) is WireVerdict.WAIT


def test_an_inactive_order_that_is_held_is_accepted() -> None:
    pending = an_order()
    pending.hear(404, "locate", 0.0)
    pending.see("Inactive", "locate", 55, 0.0)
    assert pending.verdict(0.0) is WireVerdict.DONE


def test_a_definitive_code_is_refused_only_after_the_settle_time() -> None:
    pending = an_order()
    pending.hear(201, "no", 10.0)
    assert pending.ruling == (WireVerdict.REFUSED, 10.0 + SETTLE_S)
    assert pending.verdict(10.0 + SETTLE_S) is WireVerdict.REFUSED
    assert isinstance(pending.error(WireVerdict.REFUSED, 1.0), OrderRejected)


def test_evidence_to_the_contrary_beats_a_definitive_code() -> None:
    pending = an_order()
    pending.hear(201, "no", 10.0)
    pending.see("Submitted", "", 55, 10.1)
    assert pending.verdict(20.0) is WireVerdict.DONE


def test_the_wire_confirms_a_refusal_sooner() -> None:
    pending = an_order()
    pending.see("Inactive", "", 55, 10.0)
    pending.hear(201, "no", 10.0)
    assert pending.verdict(10.1) is WireVerdict.REFUSED


def test_a_refusal_of_an_order_that_is_shown_and_not_ended_stays_unknown() -> None:
    pending = an_order()
    pending.see("PendingSubmit", "", 55, 10.0)
    pending.hear(321, "no", 10.0)
    assert pending.verdict(10.0 + SETTLE_S) is WireVerdict.WAIT
    verdict = pending.verdict(10.0 + UNDECIDED_SETTLE_S)
    assert verdict is WireVerdict.UNKNOWN
    assert isinstance(pending.error(verdict, 1.0), OutcomeUnknown)


@pytest.mark.parametrize("number", [399, 404, 492, 2109, 2104, 10349, 10148, 10147, 161, 135])
def test_notices_and_cancel_codes_do_not_end_the_waiting(number: int) -> None:
    pending = an_order()
    pending.hear(number, "notice", 0.0)
    assert pending.ruling == WAITING


@pytest.mark.parametrize("number", [100, 103, 104, 105, 107, 109, 202, 504, 31337])
def test_an_undecided_code_becomes_unknown(number: int) -> None:
    pending = an_order()
    pending.hear(number, "?", 0.0)
    verdict = pending.verdict(UNDECIDED_SETTLE_S)
    assert verdict is WireVerdict.UNKNOWN
    assert isinstance(pending.error(verdict, 1.0), OutcomeUnknown)


def test_a_wire_cancel_is_seen_and_not_refused() -> None:
    pending = an_order()
    pending.hear(202, "Order Canceled - reason:", 0.0)
    pending.see("Cancelled", "", 55, 0.0)
    assert pending.verdict(SETTLE_S) is WireVerdict.DONE


def test_a_lost_connection_is_unknown_even_after_a_refusal() -> None:
    pending = an_order()
    pending.hear(201, "no", 0.0)
    pending.lose("the connection was lost")
    verdict = pending.verdict(100.0)
    assert isinstance(pending.error(verdict, 1.0), ConnectionLost)


def test_another_order_under_a_reissued_id_is_no_evidence() -> None:
    pending = an_order()
    pending.see("PendingSubmit", "", 55, 0.0)
    pending.see("Submitted", "", 44, 0.0)
    assert pending.verdict(0.0) is WireVerdict.WAIT


def test_a_request_given_up_before_it_left_never_leaves() -> None:
    pending = an_order()
    assert pending.give_up() is False
    assert pending.begin() is False


def test_a_request_given_up_after_it_left_has_left() -> None:
    pending = an_order()
    assert pending.begin() is True
    assert pending.give_up() is True


def test_a_refusal_that_comes_too_late_is_told_as_an_update() -> None:
    async def late() -> list[object]:
        book, told = a_book()
        pending = PendingOrder(ref="r1", broker="ib")
        book.begin(pending, 7)
        lingering = asyncio.create_task(ibkr_orders.linger(book, pending, told.append, 1e9))
        await asyncio.sleep(0)
        pending.hear(201, "no", -1e9)
        await lingering
        assert book.placing("r1") == []
        return told

    (report,) = asyncio.run(late())
    assert isinstance(report, OrderReport)
    assert (report.status, report.code, report.broker_client_order_id) == (BrokerStatus.REJECTED, "201", "r1")


# -- THE VERDICT ON A CANCEL ---
def a_cancel() -> PendingCancel:
    return PendingCancel(ref="r1", broker="ib", order_id=7, perm_id=55)


@pytest.mark.parametrize("status", ["PendingCancel", "Cancelled", "ApiCancelled", "Filled"])
def test_a_status_to_which_a_cancel_leads_ends_the_waiting_for_it(status: str) -> None:
    pending = a_cancel()
    pending.see_status("Submitted", "", 55, "r1", 0.0)
    assert pending.verdict(99.0) is WireVerdict.WAIT
    pending.see_status(status, "", 55, "r1", 0.0)
    assert pending.verdict(0.0) is WireVerdict.DONE


@pytest.mark.parametrize(
    ("numbers", "verdict", "kind"),
    [
        ([399], WireVerdict.WAIT, None),
        ([202], WireVerdict.DONE, None),
        ([161, 202], WireVerdict.DONE, None),
        ([202, 161], WireVerdict.DONE, None),
        ([161], WireVerdict.REFUSED, Refused),
        ([10147], WireVerdict.REFUSED, Refused),
        ([321], WireVerdict.REFUSED, Refused),
        ([504], WireVerdict.UNKNOWN, Unmapped),
        ([31337], WireVerdict.UNKNOWN, Unmapped),
    ],
)
def test_a_code_after_a_cancel_says_what_became_of_it(
    numbers: list[int], verdict: WireVerdict, kind: type[CorroError] | None
) -> None:
    pending = a_cancel()
    for number in numbers:
        pending.hear(number, "words", 0.0)
    assert pending.verdict(0.0) is verdict
    assert kind is None or type(pending.error(verdict, 1.0)) is kind


def test_a_cancel_on_its_way_when_ib_is_lost_is_unknown_at_once() -> None:
    book, _ = a_book()
    pending = a_cancel()
    book.begin(pending, 7)
    book.lose("IB cut off (1100)")
    assert pending.verdict(0.0) is WireVerdict.UNKNOWN
    assert isinstance(pending.error(WireVerdict.UNKNOWN, 1.0), ConnectionLost)


def test_two_requests_about_one_order_are_each_told_and_forgotten_apart() -> None:
    book, _ = a_book()
    order, cancel = PendingOrder(ref="r1", broker="ib"), a_cancel()
    book.begin(order, 7)
    book.begin(cancel, 7)
    book.forget(order)
    book.on_error(7, 161, "words")
    assert (order.told.code, cancel.verdict(0.0)) == (None, WireVerdict.REFUSED)
    assert book.placing("r1") == []
