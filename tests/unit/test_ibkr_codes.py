"""IB's codes and the verdict on a send: a definitive no needs proof, everything else stays unknown."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from models.errors import (
    ConnectionLost,
    CorroError,
    DataError,
    DataNotPermitted,
    InstrumentUnknown,
    InsufficientFunds,
    NoData,
    NoSuchSymbol,
    NotPermitted,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    PacingViolation,
    Refused,
    SubmitTimeout,
    Unmapped,
    UnreadableReply,
    Unsupported,
)
from models.messages import OrderRequest
from models.reports import BrokerStatus, CommissionReport, FillReport, OrderReport
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.ibkr import orders as ibkr_orders
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.codes import CODES, Proof, code_of, lookup_error, order_error, read_error
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.pending import PendingCancel, PendingOrder
from worker.brokers.ibkr.terms import OrderLine
from worker.brokers.ibkr.verdicts import SETTLE_S, UNDECIDED_SETTLE_S, WAITING, Verdict

# docs/facts/ibkr.md#4.2, #4.8.
DEFINITIVE = {110, 111, 200, 201, 203, 321, 382, 383, 388, 434, 460}
NEVER_A_REJECTION = {104, 105, 202, 399, 10148, 1100, 504, 103, 135, 161, 404, 10147, 10349, 2109, 100}
NAMED_IN_THE_RESEARCH = DEFINITIVE | NEVER_A_REJECTION | {
    107, 109, 162, 165, 326, 327, 1300, 354, 366, 420, 492, 501, 502, 503, 1101, 1102, 2103, 2104, 2105, 2106, 2107,
    2108, 2110, 2157, 2158, 10089, 10090, 10167, 10168, 10197,
}  # fmt: skip


# -- THE TABLE ---
@pytest.mark.parametrize("number", sorted(NAMED_IN_THE_RESEARCH))
def test_every_code_of_the_research_is_classified(number: int) -> None:
    assert code_of(number).proof is not Proof.UNMAPPED


def test_exactly_the_definitive_codes_refuse_an_order() -> None:
    assert {n for n, row in CODES.items() if row.proof is Proof.REFUSED} == DEFINITIVE


@pytest.mark.parametrize("number", sorted(DEFINITIVE))
def test_a_definitive_code_is_refused(number: int) -> None:
    error = order_error(number, "words", "ib")
    assert isinstance(error, Refused)
    assert error.code == str(number)


@pytest.mark.parametrize("number", [*sorted(set(CODES) - DEFINITIVE), 1, 999, 387, 463, 10243, 20000])
def test_every_other_code_leaves_the_outcome_unknown(number: int) -> None:
    assert isinstance(order_error(number, "insufficient funds, rejected", "ib"), OutcomeUnknown)


def test_an_unheard_of_code_is_unmapped() -> None:
    assert code_of(31337).proof is Proof.UNMAPPED
    assert isinstance(order_error(31337, "?", "ib"), Unmapped)


@pytest.mark.parametrize(
    ("number", "text", "kind"),
    [
        (201, "Order rejected - reason:The exchange is closed.", OrderRejected),
        (201, "Order rejected - reason:Insufficient settled cash", InsufficientFunds),
        (201, "YOUR EQUITY WITH LOAN VALUE MUST EXCEED THE INITIAL MARGIN", InsufficientFunds),
        (201, "Order rejected - reason:No trading permission for this product", NotPermitted),
        (321, "The API interface is currently in Read-Only mode.", NotPermitted),
        (200, "No security definition has been found", InstrumentUnknown),
        (460, "", NotPermitted),
        (103, "Duplicate order id", UnreadableReply),
        (504, "Not connected", ConnectionLost),
    ],
)
def test_words_choose_the_leaf_but_never_the_branch(number: int, text: str, kind: type[CorroError]) -> None:
    assert type(order_error(number, text, "ib")) is kind


def test_a_failed_lookup_before_an_order_sent_nothing() -> None:
    assert isinstance(lookup_error(200, "No security definition", "ib", "NOPE"), InstrumentUnknown)
    assert isinstance(lookup_error(321, "?", "ib", "AAPL"), NotSent)
    assert isinstance(lookup_error(100, "Max rate", "ib", "AAPL"), NotSent)


@pytest.mark.parametrize(
    ("number", "text", "kind"),
    [
        (162, "Historical Market Data Service error message:HMDS query returned no data", NoData),
        (162, "Historical Market Data Service error message:hmds query returned NO DATA: SIX@SMART Trades", NoData),
        (
            162,
            "Historical Market Data Service error message:Trading TWS session is connected from a different IP address",
            DataError,
        ),
        (162, "Historical Market Data Service error message:API historical data query cancelled: 7", DataError),
        (162, "Historical Market Data Service error message:HMDS query timed out", DataError),
        (162, "Fehlermeldung des Dienstes: Es liegen keine Daten vor", DataError),
        (162, "", DataError),
        (165, "Historical Market Data Service query message:HMDS server disconnect occurred", DataError),
        (321, "Error validating request.-'bN' : cause - Invalid duration", DataError),
        (366, "No historical data query found for ticker id:7", DataError),
        (162, "Historical data request pacing violation", PacingViolation),
        (162, "No market data permissions for NYSE STK", DataNotPermitted),
        (200, "No security definition", NoSuchSymbol),
        (354, "Requested market data is not subscribed", DataNotPermitted),
        (10089, "requires additional subscription", DataNotPermitted),
        (10197, "No market data during competing live session", DataNotPermitted),
        (100, "Max rate of messages", PacingViolation),
    ],
)
def test_a_failed_read_says_why(number: int, text: str, kind: type[CorroError]) -> None:
    assert type(read_error(number, text, "ib")) is kind


# -- THE VERDICT ---
def an_order() -> PendingOrder:
    return PendingOrder(ref="r1", broker="ib", order_id=7)


def test_silence_waits_and_a_deadline_is_unknown() -> None:
    pending = an_order()
    assert pending.ruling == WAITING
    assert isinstance(pending.error(Verdict.WAIT, 10.0), SubmitTimeout)


@pytest.mark.parametrize("status", ["PreSubmitted", "Submitted", "Filled", "PendingCancel"])
def test_a_live_wire_status_with_a_perm_id_is_accepted(status: str) -> None:
    pending = an_order()
    pending.see(status, "", 55, 0.0)
    assert pending.verdict(0.0) is Verdict.DONE


@pytest.mark.parametrize("status", ["PendingSubmit", "ApiPending", "Inactive", "Nonsense"])
def test_a_status_that_proves_nothing_waits(status: str) -> None:
    pending = an_order()
    pending.see(status, "", 55, 0.0)
    assert pending.verdict(99.0) is Verdict.WAIT


def test_an_inactive_order_that_is_held_is_accepted() -> None:
    pending = an_order()
    pending.hear(404, "locate", 0.0)
    pending.see("Inactive", "locate", 55, 0.0)
    assert pending.verdict(0.0) is Verdict.DONE


def test_a_definitive_code_is_refused_only_after_the_settle_time() -> None:
    pending = an_order()
    pending.hear(201, "no", 10.0)
    assert pending.ruling == (Verdict.REFUSED, 10.0 + SETTLE_S)
    assert pending.verdict(10.0 + SETTLE_S) is Verdict.REFUSED
    assert isinstance(pending.error(Verdict.REFUSED, 1.0), OrderRejected)


def test_evidence_to_the_contrary_beats_a_definitive_code() -> None:
    pending = an_order()
    pending.hear(201, "no", 10.0)
    pending.see("Submitted", "", 55, 10.1)
    assert pending.verdict(20.0) is Verdict.DONE


def test_the_wire_confirms_a_refusal_sooner() -> None:
    pending = an_order()
    pending.see("Inactive", "", 55, 10.0)
    pending.hear(201, "no", 10.0)
    assert pending.verdict(10.1) is Verdict.REFUSED


def test_a_refusal_of_an_order_that_is_shown_and_not_ended_stays_unknown() -> None:
    pending = an_order()
    pending.see("PendingSubmit", "", 55, 10.0)
    pending.hear(321, "no", 10.0)
    assert pending.verdict(10.0 + SETTLE_S) is Verdict.WAIT
    verdict = pending.verdict(10.0 + UNDECIDED_SETTLE_S)
    assert verdict is Verdict.UNKNOWN
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
    assert verdict is Verdict.UNKNOWN
    assert isinstance(pending.error(verdict, 1.0), OutcomeUnknown)


def test_a_wire_cancel_is_seen_and_not_refused() -> None:
    pending = an_order()
    pending.hear(202, "Order Canceled - reason:", 0.0)
    pending.see("Cancelled", "", 55, 0.0)
    assert pending.verdict(SETTLE_S) is Verdict.DONE


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
    assert pending.verdict(0.0) is Verdict.WAIT


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
        lingering = asyncio.create_task(ibkr_orders._linger(book, pending, told.append, 1e9))
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
    assert pending.verdict(99.0) is Verdict.WAIT
    pending.see_status(status, "", 55, "r1", 0.0)
    assert pending.verdict(0.0) is Verdict.DONE


@pytest.mark.parametrize(
    ("numbers", "verdict", "kind"),
    [
        ([399], Verdict.WAIT, None),
        ([202], Verdict.DONE, None),
        ([161, 202], Verdict.DONE, None),
        ([202, 161], Verdict.DONE, None),
        ([161], Verdict.REFUSED, Refused),
        ([10147], Verdict.REFUSED, Refused),
        ([321], Verdict.REFUSED, Refused),
        ([504], Verdict.UNKNOWN, Unmapped),
        ([31337], Verdict.UNKNOWN, Unmapped),
    ],
)
def test_a_code_after_a_cancel_says_what_became_of_it(
    numbers: list[int], verdict: Verdict, kind: type[CorroError] | None
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
    assert pending.verdict(0.0) is Verdict.UNKNOWN
    assert isinstance(pending.error(Verdict.UNKNOWN, 1.0), ConnectionLost)


def test_two_requests_about_one_order_are_each_told_and_forgotten_apart() -> None:
    book, _ = a_book()
    order, cancel = PendingOrder(ref="r1", broker="ib"), a_cancel()
    book.begin(order, 7)
    book.begin(cancel, 7)
    book.forget(order)
    book.on_error(7, 161, "words")
    assert (order.told.code, cancel.verdict(0.0)) == (None, Verdict.REFUSED)
    assert book.placing("r1") == []


# -- THE BOOK ---
def a_line(**changes: object) -> OrderLine:
    values: dict[str, object] = {
        "perm_id": 55, "order_id": 7, "client_id": 1, "ref": "r1", "account": "DU1", "symbol": "AAPL",
        "status": "PreSubmitted", "side": Side.BUY, "order_type": OrderType.MARKET,
        "time_in_force": TimeInForce.DAY, "quantity": Decimal(100), "limit_price": None, "stop_price": None,
    }  # fmt: skip
    return OrderLine(**{**values, **changes})  # type: ignore[arg-type]


def an_execution(number: int, shares: int, cumulative: int) -> terms.Execution:
    fill = FillReport(
        execution_id=f"e{number}",
        quantity=Decimal(shares),
        price=Decimal(10),
        filled_at=datetime(2026, 1, 5, 15, 0, tzinfo=UTC),
        broker_client_order_id="r1",
        broker_order_id="55",
        cumulative_quantity=Decimal(cumulative),
    )
    return terms.Execution(fill=fill, perm_id=55, order_id=7, client_id=1, account="DU1", avg_price=Decimal(10))


def a_book() -> tuple[OrderBook, list[object]]:
    told: list[object] = []
    book = OrderBook("ib", told.append, lambda: 0.0)
    book.client_id = 1
    return book, told


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


# -- WORDS AND NUMBERS ---
@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"action": "BUY", "orderType": "MKT", "tif": "DAY"}),
        ({"side": "sell_short"}, {"action": "SELL"}),
        ({"side": "buy_to_cover"}, {"action": "BUY"}),
        ({"time_in_force": "cls"}, {"orderType": "MOC", "tif": "DAY"}),
        ({"time_in_force": "opg"}, {"orderType": "MKT", "tif": "OPG"}),
        ({"order_type": "limit", "limit_price": "1.5", "time_in_force": "cls"}, {"orderType": "LOC", "lmtPrice": 1.5}),
        ({"order_type": "stop_limit", "limit_price": 2, "stop_price": 3}, {"orderType": "STP LMT", "auxPrice": 3.0}),
        ({"order_type": "trailing_stop", "trail_amount": 2}, {"orderType": "TRAIL", "auxPrice": 2.0}),
        ({"order_type": "trailing_stop", "trail_percent": 2}, {"orderType": "TRAIL", "trailingPercent": 2.0}),
        ({"order_type": "limit", "limit_price": 2, "extended_hours": True}, {"outsideRth": True}),
    ],
)
def test_orders_become_ib_orders(changes: dict[str, object], fields: dict[str, object]) -> None:
    order = OrderRequest(**{"symbol": "AAPL", "side": "buy", "quantity": 10, **changes})
    sent = terms.order_fields(order, "r1", "")
    assert {name: sent[name] for name in fields} == fields
    assert sent["tif"]
    assert sent["orderRef"] == "r1"


@pytest.mark.parametrize(
    "changes",
    [
        {"extended_hours": True},
        {"order_type": "stop", "stop_price": 3, "time_in_force": "cls"},
        {"quantity": 2**31 - 1},
    ],
)
def test_what_ib_takes_in_no_form_is_unsupported(changes: dict[str, object]) -> None:
    order = OrderRequest(**{"symbol": "AAPL", "side": "buy", "quantity": 10, **changes})
    with pytest.raises(Unsupported):
        terms.check_terms(order, "r1", "ib")


@pytest.mark.parametrize("ref", ["", "a b", "a,b", "x" * 41, "é"])
def test_an_order_ref_that_would_get_lost_is_not_sent(ref: str) -> None:
    with pytest.raises(Unsupported):
        terms.check_terms(OrderRequest(symbol="AAPL", side="buy", quantity=1), ref, "ib")


@pytest.mark.parametrize(
    ("status", "prose", "expected"),
    [
        ("Filled", "Filled Size: 100", BrokerStatus.FILLED),
        ("Cancelled", "Cancelled by Trader", BrokerStatus.CANCELED),
        ("Cancelled", "Rejected by exchange", BrokerStatus.REJECTED),
        ("Inactive", "Rejected", BrokerStatus.REJECTED),
        ("Cancelled", "Filled Size: 30", BrokerStatus.CANCELED),
        ("Inactive", "", BrokerStatus.UNKNOWN),
    ],
)
def test_completed_orders_are_read_by_status_and_prose(status: str, prose: str, expected: BrokerStatus) -> None:
    assert terms.completed_status(a_line(status=status, completed_status=prose)) is expected


def test_every_code_cites_words_and_no_row_is_doubled() -> None:
    source = Path(terms.__file__).with_name("codes.py").read_text()
    numbers = re.findall(r"Code\((\d+), Proof", source)
    assert len(numbers) == len(set(numbers)) == len(CODES)
    assert all(row.meaning for row in CODES.values())
