"""Alpaca refuses: this one order, or everything that we ask. Only the first is an answer about the order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.errors import (
    AccessLost,
    ConfigurationError,
    DataNotPermitted,
    InsufficientFunds,
    NotPermitted,
    NotSent,
    OrderRejected,
    Refused,
)
from tests.contract.connected_alpaca import ConnectedAlpaca, desk, order, ref, resting, ticket
from tests.kit.waiting import eventually
from worker.brokers.rest import reading

__all__ = ["desk"]
NOW = datetime.now(UTC)
#: What Alpaca says to everything once keys are revoked or an account is closed; the code of the last one is assumed.
TO_EVERYTHING: list[dict[str, Any]] = [
    {"status": 401},
    {"status": 401, "html": True},
    {"status": 403},
    {"status": 403, "code": 40300000, "text": "forbidden"},
]
ABOUT_THE_ACCOUNT: dict[str, Callable[[ConnectedAlpaca], Any]] = {
    "place": lambda desk: desk.place(order()),
    "find": lambda desk: desk.find(order()),
    "find many": lambda desk: desk.broker.find_orders([ref(order()) for _ in range(5)]),
    "open orders": lambda desk: desk.broker.get_orders(),
    "fills": lambda desk: desk.broker.get_fills(NOW),
    "positions": lambda desk: desk.broker.get_positions(),
    "account": lambda desk: desk.broker.get_account_info(),
}
ABOUT_PRICES: dict[str, Callable[[ConnectedAlpaca], Any]] = {
    "quote": lambda desk: desk.broker.get_market_data("AAPL"),
    "bars": lambda desk: desk.broker.get_historical_data("AAPL", "1Day", NOW - timedelta(days=9), NOW),
}
QUESTIONS = ABOUT_THE_ACCOUNT | ABOUT_PRICES


@pytest.mark.parametrize("answer", TO_EVERYTHING, ids=str)
@pytest.mark.parametrize("asked", QUESTIONS)
def test_what_is_refused_to_everything_is_access_lost_and_no_answer_about_an_order(
    desk: ConnectedAlpaca, asked: str, answer: dict[str, Any]
) -> None:
    desk.house.fault("alpaca", "status", None, **answer)
    with pytest.raises(AccessLost) as raised:
        QUESTIONS[asked](desk)
    assert isinstance(raised.value, NotSent)
    assert not isinstance(raised.value, Refused)
    assert not desk.broker.is_connected()


@pytest.mark.parametrize("answer", TO_EVERYTHING, ids=str)
def test_access_lost_is_said_of_cancels_and_replaces_too(desk: ConnectedAlpaca, answer: dict[str, Any]) -> None:
    wanted = resting()
    placed = desk.place(wanted)
    desk.house.fault("alpaca", "status", None, **answer)
    there, more = ref(wanted, placed.broker_order_id), resting(quantity=20, client_order_id=wanted.client_order_id)
    with pytest.raises(AccessLost):
        desk.broker.cancel_order(there)
    with pytest.raises(AccessLost):
        desk.broker.replace_order(there, ticket(more))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"status": 403, "code": 40310000, "text": "insufficient buying power"}, InsufficientFunds),
        ({"status": 403, "code": 40310000, "text": "account is not allowed to short"}, OrderRejected),
        ({"status": 403, "code": 40310000, "text": "new orders are rejected by user request"}, OrderRejected),
        ({"status": 403, "code": 40310100, "text": "trade denied due to pattern day trading protection"}, NotPermitted),
        ({"status": 403, "code": 40399999, "text": "something new"}, NotPermitted),
        ({"status": 403}, NotPermitted),
    ],
    ids=str,
)
def test_a_403_about_the_order_is_its_refusal_as_long_as_the_account_answers(
    desk: ConnectedAlpaca, answer: dict[str, Any], kind: type[Exception]
) -> None:
    desk.house.fault("alpaca", "status", None, operation="place", **answer)
    with pytest.raises(Refused) as raised:
        desk.place(order())
    assert isinstance(raised.value, kind)
    assert desk.broker.is_connected()


def test_prices_that_are_not_permitted_close_nothing(desk: ConnectedAlpaca) -> None:
    for operation in ("quote", "bars"):
        desk.house.fault("alpaca", "status", None, status=403, operation=operation)
    with pytest.raises(DataNotPermitted):
        desk.broker.get_market_data("AAPL")
    with pytest.raises(DataNotPermitted):
        desk.broker.get_historical_data("AAPL", "1Day", NOW - timedelta(days=9), NOW)
    assert desk.broker.is_connected()


@pytest.mark.parametrize(
    "answer",
    [{"status": 401}, {"status": 403, "text": "subscription does not permit querying recent SIP data"}],
    ids=str,
)
def test_prices_that_are_refused_alone_leave_orders_their_way(desk: ConnectedAlpaca, answer: dict[str, Any]) -> None:
    desk.house.fault("alpaca", "status", None, operation=["quote", "bars"], **answer)
    for ask in (*ABOUT_PRICES.values(), *ABOUT_PRICES.values()):
        with pytest.raises(DataNotPermitted):
            ask(desk)
    assert desk.broker.is_connected()
    desk.place(order())


def test_prices_that_are_refused_again_and_again_have_the_account_looked_at_now_and_then(
    desk: ConnectedAlpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK_EVERY_S", 600)
    desk.house.fault("alpaca", "status", None, operation="quote", status=403)
    with pytest.raises(DataNotPermitted):
        desk.broker.get_market_data("AAPL")
    desk.house.fault("alpaca", "status", None, operation="account", status=403)
    with pytest.raises(DataNotPermitted):
        desk.broker.get_market_data("AAPL")
    monkeypatch.setattr(reading, "LOOK_EVERY_S", 0)
    with pytest.raises(AccessLost):
        desk.broker.get_market_data("AAPL")


def test_keys_that_the_stream_refuses_are_tried_at_the_account(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "status", None, status=401)
    desk.house.fault("alpaca", "disconnect")
    eventually(lambda: not desk.broker.is_connected())


def test_a_stream_that_is_refused_alone_closes_nothing(desk: ConnectedAlpaca) -> None:
    before = desk.broker.answered_at
    assert before is not None
    desk.house.fault("alpaca", "status", None, status=401, operation="stream")
    desk.house.fault("alpaca", "disconnect")
    eventually(lambda: desk.broker.answered_at != before)
    assert desk.broker.is_connected()


def test_after_access_was_lost_connecting_says_that_the_keys_are_wrong(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "status", None, status=401)
    desk.broker.disconnect()
    with pytest.raises(ConfigurationError, match="refuses the keys"):
        desk.broker.connect()
    desk.house.clear()
    desk.broker.connect()
    assert desk.broker.is_connected()


def test_the_time_of_the_last_answer_is_known(desk: ConnectedAlpaca) -> None:
    before = desk.broker.answered_at
    assert before is not None
    desk.broker.get_positions()
    after = desk.broker.answered_at
    assert after is not None
    assert after > before
    desk.house.fault("alpaca", "status", None, status=401)
    times = []
    for _ in range(2):  # what was asked in the background before the fault has been answered by then
        with pytest.raises(AccessLost):
            desk.broker.get_positions()
        times.append(desk.broker.answered_at)
    assert times[0] == times[1]
