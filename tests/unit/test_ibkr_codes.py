"""IB's codes and words: what each number means for an order, a cancel and a read; what an order becomes on the wire."""

from __future__ import annotations

import re
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
    Unmapped,
    UnreadableReply,
    Unsupported,
)
from models.messages import OrderRequest
from models.reports import BrokerStatus
from tests.unit.ibkr_book import a_line
from worker.brokers.ibkr import reports, terms
from worker.brokers.ibkr.codes import CODES, Proof, code_of, lookup_error, order_error, read_error

# docs/facts/ibkr.md#4.2, #4.8.
DEFINITIVE = {110, 111, 200, 201, 203, 321, 382, 383, 388, 434, 460, 10006}
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
    assert reports.completed_status(a_line(status=status, completed_status=prose)) is expected


def test_every_code_cites_words_and_no_row_is_doubled() -> None:
    source = Path(terms.__file__).with_name("codes.py").read_text()
    numbers = re.findall(r"Code\((\d+), Proof", source)
    assert len(numbers) == len(set(numbers)) == len(CODES)
    assert all(row.meaning for row in CODES.values())
