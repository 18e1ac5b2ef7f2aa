"""The TDA and Schwab door's market data, and how the door fails when it is told to."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from tests.contract.doors import SandboxThread
from tests.contract.tda_client import Client
from tests.kit.waiting import eventually
from worker.sandbox.tda.door import TdaDoor

# -- MARKET DATA ---


def test_quotes_are_flat_at_tda_and_leave_out_what_is_unknown(house: SandboxThread, tda: Client) -> None:
    house.price("AAPL", "123.45")
    body = tda.data("/quotes", symbol="AAPL,NOPE").json()
    assert set(body) == {"AAPL"}
    assert (body["AAPL"]["lastPrice"], body["AAPL"]["delayed"]) == (123.45, False)
    tda.session.headers["Authorization"] = ""
    assert tda.data("/AAPL/quotes", apikey="K").json()["AAPL"]["delayed"] is True
    assert tda.data("/AAPL/quotes").status_code == 401


def test_quotes_are_nested_at_schwab_and_name_what_is_unknown(house: SandboxThread, schwab: Client) -> None:
    house.price("AAPL", "123.45")
    body = schwab.data("/quotes", symbols="AAPL,NOPE", fields="quote,reference").json()
    assert body["errors"] == {"invalidSymbols": ["NOPE"]}
    assert body["AAPL"]["quote"]["lastPrice"] == 123.45
    assert "regular" not in body["AAPL"]
    assert schwab.data("/NOPE/quotes").status_code == 404
    assert schwab.data("/quotes").json()["errors"][0]["status"] == "400"


def candles(client: Client, symbol: str = "AAPL", **params: Any) -> requests.Response:
    if client.dialect == "tda":
        return client.data(f"/{symbol}/pricehistory", **params)
    return client.data("/pricehistory", symbol=symbol, **params)


@pytest.mark.parametrize(
    ("params", "step"),
    [
        ({"periodType": "day", "period": 2, "frequencyType": "minute", "frequency": 10}, 600_000),
        ({"periodType": "month", "period": 1, "frequencyType": "daily"}, 86_400_000),
        ({"periodType": "year", "period": 1, "frequencyType": "weekly"}, 7 * 86_400_000),
        ({"periodType": "year"}, 28 * 86_400_000),
        ({"periodType": "ytd", "frequencyType": "daily"}, 86_400_000),
        ({}, 60_000),
    ],
)
def test_candles_of_every_valid_combination(client: Client, params: dict[str, Any], step: int) -> None:
    body = candles(client, **params).json()
    assert body["empty"] is False
    first, second = body["candles"][:2]
    assert set(first) == {"open", "high", "low", "close", "volume", "datetime"}
    assert second["datetime"] - first["datetime"] >= step - 3_600_000


@pytest.mark.parametrize(
    "params",
    [
        {"periodType": "day", "frequencyType": "daily"},
        {"periodType": "day", "period": 6},
        {"periodType": "month", "frequencyType": "monthly"},
        {"periodType": "year", "period": 4},
        {"periodType": "day", "frequency": 7},
        {"periodType": "decade"},
        {"startDate": "monday"},
    ],
)
def test_an_invalid_combination_is_400(client: Client, params: dict[str, Any]) -> None:
    assert candles(client, **params).status_code == 400


def test_candles_between_dates_and_of_an_unknown_symbol(client: Client) -> None:
    start, end = (int(datetime(2026, 3, d, tzinfo=UTC).timestamp() * 1000) for d in (2, 7))
    window = {"startDate": start, "endDate": end, "periodType": "month", "frequencyType": "daily"}
    body = candles(client, needPreviousClose="true", **window).json()
    assert len(body["candles"]) == 5
    assert body["previousClose"] > 0
    unknown = candles(client, "NOPE")
    if client.dialect == "tda":
        assert unknown.json() == {"candles": [], "symbol": "NOPE", "empty": True}
    else:
        assert unknown.status_code == 404


# -- FAULTS ---


def test_a_refusal_is_definitive_and_takes_nothing(house: SandboxThread, client: Client) -> None:
    house.fault(client.dialect, "refuse", text="not today")
    answer = client.place()
    assert (answer.status_code, "not today" in answer.text) == (400, True)
    assert house.taken(client.dialect) == 0
    assert len(house.arrivals(client.dialect)) == 1


def test_hangs_drops_and_accepted_errors(house: SandboxThread, client: Client) -> None:
    cases: tuple[tuple[str, dict[str, Any], int], ...] = (
        ("hang", {}, 0),
        ("accept_hang", {}, 1),
        ("accept_drop", {}, 2),
        ("slow", {"seconds": 30}, 3),
    )
    client.timeout = 0.4
    for kind, options, taken in cases:
        house.fault(client.dialect, kind, **options)
        with pytest.raises(requests.exceptions.RequestException):
            client.place()
        assert house.taken(client.dialect) == taken, kind
    client.timeout = 3.0
    house.fault(client.dialect, "status", status=503, accepted=True, operation="place")
    assert client.place().status_code == 503
    assert house.taken(client.dialect) == 4


def test_an_answer_that_ends_within_its_location_names_another_order(house: SandboxThread, client: Client) -> None:
    """The trap: cut at the wrong place it is a whole answer to a careless reader, with a number that is none."""
    told = set()
    for percent in range(2, 98, 4):
        house.fault(client.dialect, "half_reply", share=percent / 100)
        with contextlib.suppress(requests.exceptions.RequestException):
            told.add(client.place().headers.get("Location", "").rpartition("/")[2])
    real = {str(order["orderId"]) for order in client.listed()}
    assert len(real) == house.taken(client.dialect) == 24
    assert [number for number in told - real if number and any(r.startswith(number) for r in real)]


def test_statuses_can_be_aimed_at_any_operation(house: SandboxThread, client: Client) -> None:
    house.fault(client.dialect, "status", status=429, operation="token")
    assert client.token().status_code == 429
    house.fault(client.dialect, "status", status=500, html=True, operation="quote")
    assert client.data("/AAPL/quotes").headers["Content-Type"].startswith("text/html")
    house.fault(client.dialect, "status", status=504, operation="list")
    assert client.placed()


def test_the_location_can_be_missing_or_name_another_order(house: SandboxThread, client: Client) -> None:
    first = client.placed()
    house.fault(client.dialect, "location_missing")
    answer = client.place()
    assert answer.status_code == 201
    assert "Location" not in answer.headers
    house.fault(client.dialect, "location_foreign")
    numbers = {str(o["orderId"]) for o in client.listed()}
    foreign = client.placed(symbol="KO")
    assert foreign in numbers
    assert client.order(foreign)["orderLegCollection"][0]["instrument"]["symbol"] == "AAPL"
    assert first in numbers


def test_a_listing_can_lag_behind(house: SandboxThread, client: Client) -> None:
    house.fault(client.dialect, "list_lag", seconds=0.2)
    number = client.placed()
    assert client.listed() == []
    assert client.order(number)["orderId"] == int(number)
    eventually(lambda: len(client.listed()) == 1)


def test_an_order_rejected_after_acceptance_says_why(house: SandboxThread, client: Client) -> None:
    house.fault(client.dialect, "reject_after_accept", text="halted")
    number = client.placed()
    eventually(lambda: client.order(number)["status"] == "REJECTED")
    assert client.order(number)["statusDescription"] == "halted"


def test_state_survives_the_door(house: SandboxThread, client: Client) -> None:
    number = client.placed(orderType="LIMIT", price="1.00")
    house.run(client.door.stop())
    house.run(client.door.start("127.0.0.1", client.door.port))
    assert client.order(number)["status"] == "WORKING"
    again: Any = house.open(lambda market: TdaDoor(market, client.dialect, client.dialect))
    assert time.time() * 1000 > int(number)
    other = Client(again, client.dialect)
    assert other.order(number)["status"] == "WORKING"
    other.session.close()
