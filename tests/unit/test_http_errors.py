"""What a failed request means: proved unsent, refused, or unknown: the tables for exceptions, statuses and codes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
from alpaca_trade_api.rest import APIError

from models.errors import (
    BrokerError,
    ConnectionLost,
    DataError,
    DataNotPermitted,
    InstrumentUnknown,
    InsufficientFunds,
    NoSuchSymbol,
    NotConnected,
    NotPermitted,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    PacingViolation,
    RateLimited,
    Refused,
    ServerError,
    Unmapped,
)
from worker.brokers.alpaca import codes as alpaca_codes
from worker.brokers.rest.http import (
    AFTER_THE_FIRST_BYTE,
    Exchange,
    as_data_error,
    classify,
    lost_after,
    patiently,
    retry_after,
)
from worker.brokers.tda import codes as tda_codes


# -- THE TABLES ---
def descendants(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(descendants(requests.RequestException), key=lambda k: k.__name__))
def test_every_exception_of_requests_is_classified(kind: type[Exception]) -> None:
    if kind.__module__.startswith("requests"):
        assert kind in AFTER_THE_FIRST_BYTE, f"{kind.__name__} is new: say what it means after the first byte"
    error = kind.__new__(kind)
    later = time.monotonic() + 60
    assert isinstance(classify(error, Exchange(later, watched=True), "broker"), NotSent)
    assert isinstance(classify(error, Exchange(later, watched=True, begun=True), "broker"), OutcomeUnknown)


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), RuntimeError("x"), OSError("x"), AssertionError()])
def test_an_exception_nobody_knows_is_unmapped_once_bytes_have_left(error: Exception) -> None:
    assert type(classify(error, Exchange(0, begun=True), "broker")) is Unmapped


def test_an_unwatched_connection_error_proves_nothing() -> None:
    assert isinstance(classify(requests.ConnectionError("x"), Exchange(time.monotonic() + 9), "b"), OutcomeUnknown)
    assert isinstance(classify(requests.ConnectTimeout("x"), Exchange(0), "b"), NotSent)


def test_the_sdk_error_without_a_response_is_unmapped() -> None:
    error = APIError({"message": "internal server error", "code": 50010000})
    assert type(classify(error, Exchange(0, watched=True, begun=True), "alpaca")) is Unmapped


def test_no_failure_after_the_send_may_call_itself_unsent() -> None:
    assert isinstance(lost_after(NotConnected("looking it up failed"), "b"), OutcomeUnknown)
    assert isinstance(lost_after(RateLimited("looking it up failed"), "b"), OutcomeUnknown)
    assert type(lost_after(ServerError("x"), "b")) is ServerError


def response(status: int, body: Any = None, **headers: str) -> requests.Response:
    found = requests.Response()
    found.status_code = status
    found._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found.headers.update(headers)
    return found


def coded(code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, **more}


HTML = b"<html><h1>502 Bad Gateway</h1></html>"
ALPACA = [
    (400, coded(40010000, "request body format is invalid"), OrderRejected),
    (401, {"message": "unauthorized."}, alpaca_codes.KeysRefused),
    (401, HTML, alpaca_codes.KeysRefused),
    (403, {"message": "forbidden."}, alpaca_codes.Forbidden),
    (403, coded(40300000, "forbidden"), alpaca_codes.Forbidden),
    (403, coded(40310000, "insufficient buying power", buying_power="1"), InsufficientFunds),
    (403, coded(40310000, "insufficient qty available for order", existing_qty="0"), InsufficientFunds),
    (403, coded(40310000, 'asset "OCGN" is not fractionable'), OrderRejected),
    (403, coded(40310000, "account is not allowed to short"), OrderRejected),
    (403, coded(40310000, "potential wash trade detected. use complex orders"), OrderRejected),
    (403, coded(40310100, "trade denied due to pattern day trading protection"), NotPermitted),
    (404, coded(40410000, "asset not found for X"), InstrumentUnknown),
    (422, coded(40010001, "client_order_id must be unique"), alpaca_codes.Duplicate),
    (422, coded(40010001, "client_order_id must be no more than 128 characters"), OrderRejected),
    (422, coded(40010001, "qty or notional is required"), OrderRejected),
    (422, coded(42210000, "invalid limit_price 1.005. sub-penny increment"), OrderRejected),
    (422, coded(42210000, "asset ZZZZ is not active"), InstrumentUnknown),
    (422, coded(40010001, 'asset "ZZZZ" not found'), InstrumentUnknown),
    (429, coded(42910000, "rate limit exceeded"), RateLimited),
    (429, HTML, RateLimited),
    (500, coded(50010000, "internal server error occurred"), ServerError),
    (502, HTML, ServerError),
    (504, HTML, ServerError),
    (529, b"", ServerError),
    # What no row names is unknown, not refused.
    (403, HTML, Unmapped),
    (404, HTML, Unmapped),
    (404, {"message": "endpoint not found."}, Unmapped),
    (404, [], Unmapped),
    (408, coded(40810000, "request timeout"), Unmapped),
    (409, coded(40910000, "conflict"), Unmapped),
    (418, b"", Unmapped),
    (422, b"", Unmapped),
]
#: A code that is no code of Alpaca's: whoever has written it, it is no word about the order.
NO_CODES = ["40010001", 40010001.0, True, False, 0, 7, -40010001, 50010000, 4001000, 400100010, {}, [], "x"]


@pytest.mark.parametrize(("status", "body", "kind"), ALPACA)
def test_alpaca_answers_are_classified_by_status_and_code(status: int, body: Any, kind: type[BrokerError]) -> None:
    found = alpaca_codes.refusal(response(status, body), "alpaca")
    assert type(found) is kind
    assert found.broker == "alpaca"
    assert found.code == str(body["code"] if isinstance(body, dict) and "code" in body else status)


@pytest.mark.parametrize("code", NO_CODES, ids=repr)
@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_an_answer_with_a_code_that_alpaca_has_not_refuses_nothing(status: int, code: Any) -> None:
    found = alpaca_codes.refusal(response(status, coded(code, "client_order_id must be unique")), "alpaca")
    assert type(found) is Unmapped
    assert isinstance(alpaca_codes.refusal(response(429, coded(code, "slow down")), "alpaca"), RateLimited)


@pytest.mark.parametrize("status", range(400, 600))
def test_alpaca_never_refuses_by_a_status_without_a_row(status: int) -> None:
    for body in (b"", HTML, {"message": "x"}, coded(status * 100_000, "x")):
        found = alpaca_codes.refusal(response(status, body), "alpaca")
        assert isinstance(found, OutcomeUnknown) or status in {key[0] for key in alpaca_codes.ERRORS}


VALIDATION = "A validation error occurred while processing the request."
TDA = [
    (400, {"error": "The quantity is wrong"}, OrderRejected),
    (400, {"message": VALIDATION, "errors": ["quantity must be a whole number"]}, OrderRejected),
    (400, {"message": VALIDATION, "errors": ["Invalid symbol: ZZZZ"]}, InstrumentUnknown),
    (400, {"error": "You do not have enough available cash/buying power for this order."}, InsufficientFunds),
    (401, {"error": "The access token being passed has expired or is invalid."}, NotPermitted),
    (401, b"", NotPermitted),
    (403, {"error": "restricted"}, NotPermitted),
    (404, {"message": "Account not found", "errors": []}, NotPermitted),
    (429, {"error": "Individual App's transactions per seconds restriction reached."}, RateLimited),
    (429, HTML, RateLimited),
    (500, {"error": "oops"}, ServerError),
    (503, HTML, ServerError),
    (400, HTML, Unmapped),
    (403, HTML, Unmapped),
    (404, b"", Unmapped),
    (404, {"errors": 7}, Unmapped),
    (400, {"message": {"text": VALIDATION}}, Unmapped),
    (400, {"message": VALIDATION, "errors": 7}, Unmapped),
    (400, {"message": VALIDATION, "errors": [7]}, Unmapped),
    (403, {"error": True}, Unmapped),
    (403, {"errors": [{"detail": 5}]}, Unmapped),
    (405, {"error": "x"}, Unmapped),
    (409, {"error": "x"}, Unmapped),
    (422, {"error": "x"}, Unmapped),
]


@pytest.mark.parametrize(("status", "body", "kind"), TDA)
def test_tda_and_schwab_answers_are_classified_by_status(status: int, body: Any, kind: type[BrokerError]) -> None:
    found = tda_codes.refusal(response(status, body), "tda")
    assert type(found) is kind
    assert found.code == str(status)


@pytest.mark.parametrize("kind", [*alpaca_codes.ERRORS.values(), *tda_codes.ERRORS.values(), alpaca_codes.Duplicate])
def test_no_answer_of_a_broker_claims_that_nothing_was_sent(kind: type[BrokerError]) -> None:
    assert issubclass(kind, (Refused, OutcomeUnknown))


# -- WAITING AND READING ---
def test_a_throttled_answer_says_how_long_to_wait() -> None:
    assert retry_after({"Retry-After": "3"}) == 3.0
    assert retry_after({"X-RateLimit-Reset": "1"}) == 0.0
    assert 8 < (retry_after({"X-RateLimit-Reset": str(time.time() + 10)}) or 0) <= 10
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimited("x", retry_after=2), PacingViolation),
        (NotPermitted("x"), DataNotPermitted),
        (NotPermitted("x", code="404"), NoSuchSymbol),
        (InstrumentUnknown("x"), NoSuchSymbol),
        (alpaca_codes.Forbidden("x"), DataNotPermitted),
        (ServerError("x"), DataError),
        (NotConnected("x"), DataError),
    ],
)
def test_a_failed_read_of_market_data_is_a_data_error(error: BrokerError, kind: type[Exception]) -> None:
    assert type(as_data_error(error)) is kind


def test_reads_that_failed_on_their_way_are_repeated_and_refusals_are_not() -> None:
    calls: list[int] = []

    def shaky() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionLost("x")
        return 7

    def refused() -> int:
        calls.append(1)
        raise NotPermitted("x")

    assert patiently(shaky) == 7
    calls.clear()
    with pytest.raises(NotPermitted):
        patiently(refused)
    assert len(calls) == 1
