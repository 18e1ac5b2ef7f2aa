"""The TDA and Schwab door in both dialects: tokens, accounts and orders."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.doors import SandboxThread
from tests.contract.tda_client import Client, filled, order
from tests.kit.waiting import eventually
from worker.sandbox.tda.door import TdaDoor

# -- TOKENS ---


def test_tda_rotates_the_refresh_token_only_for_offline_access(tda: Client) -> None:
    body = tda.token().json()
    assert body["scope"] == "PlaceTrades AccountAccess MoveMoney"
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 1800)
    assert "refresh_token" not in body
    rotated = tda.token(access_type="offline").json()
    assert rotated["refresh_token_expires_in"] == 7_776_000
    assert rotated["refresh_token"] != "rt"
    refused = tda.token("wrong")
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})


def test_schwab_wants_basic_auth_and_a_good_refresh_token(schwab: Client) -> None:
    body = schwab.token().json()
    assert sorted(body) == ["access_token", "expires_in", "id_token", "refresh_token", "scope", "token_type"]
    assert body["refresh_token"] == "rt"
    assert schwab.token(secret="wrong").status_code == 401
    refused = schwab.token("wrong")
    assert (refused.status_code, refused.json()["error"]) == (400, "unsupported_token_type")


def test_calls_need_a_token_that_has_not_expired(house: SandboxThread, client: Client) -> None:
    client.door.tokens._lifetime_s = 0.2
    client.log_in()
    assert client.call("GET", "/accounts").ok
    eventually(lambda: client.call("GET", "/accounts").status_code == 401)
    client.session.headers["Authorization"] = ""
    assert client.call("GET", "/accounts").status_code == 401
    assert set(client.place().json()) == ({"error"} if client.dialect == "tda" else {"message", "errors"})
    assert house.taken(client.dialect) == 0


def test_an_expired_token_stays_expired_until_it_is_refreshed(house: SandboxThread, client: Client) -> None:
    house.fault(client.dialect, "token_expired")
    assert client.place().status_code == 401
    assert client.place().status_code == 401
    client.log_in()
    assert client.place().status_code == 201
    assert house.taken(client.dialect) == 1


# -- ACCOUNTS ---


def test_schwab_names_the_account_by_a_hash(schwab: Client) -> None:
    (row,) = schwab.call("GET", "/accounts/accountNumbers").json()
    assert row == {"accountNumber": "12345678", "hashValue": schwab.door.account_path}
    assert schwab.call("GET", f"/accounts/{row['accountNumber']}").status_code == 404
    body = schwab.call("GET", f"/accounts/{row['hashValue']}").json()
    assert body["securitiesAccount"]["accountNumber"] == "12345678"


def test_positions_come_only_when_asked_for_and_there(house: SandboxThread, client: Client) -> None:
    def inner(fields: str = "") -> Any:
        return client.call("GET", client.account, params={"fields": fields}).json()["securitiesAccount"]

    assert "positions" not in inner("positions")
    house.hold(client.dialect, "AAPL", 7)
    house.hold(client.dialect, "SPY", -3)
    assert "positions" not in inner()
    long, short = inner("positions")["positions"]
    assert (long["longQuantity"], long["shortQuantity"]) == (7, 0)
    assert (short["longQuantity"], short["shortQuantity"]) == (0, 3)
    assert long["instrument"]["symbol"] == "AAPL"
    fund = "EQUITY" if client.dialect == "tda" else "COLLECTIVE_INVESTMENT"
    assert short["instrument"]["assetType"] == fund
    assert inner()["currentBalances"]["buyingPower"] > 0


def test_tda_lists_orders_with_the_account(tda: Client) -> None:
    number = tda.placed()
    body = tda.call("GET", tda.account, params={"fields": "positions,orders"}).json()["securitiesAccount"]
    assert [str(o["orderId"]) for o in body["orderStrategies"]] == [number]
    assert body["accountId"] == tda.door.account


def test_schwab_has_a_preview_and_preferences(house: SandboxThread, schwab: Client) -> None:
    body = schwab.call("POST", f"{schwab.account}/previewOrder", json=order()).json()
    assert body["orderValidationResult"]["rejects"] == []
    body = schwab.call("POST", f"{schwab.account}/previewOrder", json=order(instruction="SELL")).json()
    assert body["orderValidationResult"]["rejects"]
    assert schwab.call("GET", "/userPreference").json()["accounts"][0]["accountNumber"] == "12345678"
    assert house.taken("schwab") == 0


# -- ORDERS ---


def test_an_order_fills_and_tells_its_executions(client: Client) -> None:
    number = client.placed()
    assert re.fullmatch(r"\d{13}", number)
    body = filled(client, number)
    assert (body["orderId"], body["filledQuantity"], body["remainingQuantity"]) == (int(number), 10, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", body["enteredTime"])
    assert body["closeTime"].endswith("+0000")
    assert body["orderLegCollection"][0]["instruction"] == "BUY"
    assert body["orderLegCollection"][0]["positionEffect"] == "OPENING"
    (activity,) = body["orderActivityCollection"]
    assert activity["executionLegs"][0]["price"] > 0
    assert body["accountId" if client.dialect == "tda" else "accountNumber"] == int(client.door.account)


def test_a_partial_fill_is_working_with_a_filled_quantity(house: SandboxThread, client: Client) -> None:
    house.fault(client.dialect, "partial")
    number = client.placed()
    eventually(lambda: client.order(number)["filledQuantity"] == 5)
    assert client.order(number)["status"] == "WORKING"


def test_the_location_can_carry_the_real_host(house: SandboxThread) -> None:
    for name, real in (("tda", "https://api.tdameritrade.com/v1"), ("schwab", "https://api.schwabapi.com/trader/v1")):
        door: Any = house.open(lambda m, n=name: TdaDoor(m, n, n, literal_location=True))
        client = Client(door, name)
        assert client.place().headers["Location"].startswith(f"{real}/accounts/{door.account_path}/orders/")
        client.session.close()


@pytest.mark.parametrize("instruction", ["SELL", "BUY_TO_COVER"])
def test_closing_what_is_not_held_is_taken_and_then_rejected(client: Client, instruction: str) -> None:
    body = client.order(client.placed(instruction=instruction))
    assert (body["status"], body["filledQuantity"]) == ("REJECTED", 0)
    assert "oversold/overbought" in body["statusDescription"]


def test_open_sells_count_against_the_position(house: SandboxThread, client: Client) -> None:
    house.hold(client.dialect, "AAPL", 10)
    high = {"instruction": "SELL", "orderType": "LIMIT", "price": "9000.00"}
    assert client.order(client.placed(quantity=8, **high))["status"] != "REJECTED"
    assert client.order(client.placed(quantity=3, **high))["status"] == "REJECTED"
    assert client.order(client.placed(quantity=2, **high))["status"] != "REJECTED"


def test_no_buying_power_is_taken_and_then_rejected(client: Client) -> None:
    body = client.order(client.placed(quantity=10**7))
    assert body["status"] == "REJECTED"
    assert "buying power" in body["statusDescription"]


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "NOPE"},
        {"quantity": 0},
        {"quantity": 1.5},
        {"orderType": "LIMIT"},
        {"orderType": "LIMIT", "price": "10.001"},
        {"session": "AM"},
        {"orderStrategyType": "OCO"},
        {"orderLegCollection": []},
        {"orderType": "TRAILING_STOP"},
    ],
)
def test_a_bad_order_is_400_and_not_taken(house: SandboxThread, client: Client, change: dict[str, Any]) -> None:
    answer = client.place(**change)
    assert answer.status_code == 400
    if client.dialect == "schwab":
        assert answer.json()["message"] == "A validation error occurred while processing the request."
        assert answer.json()["errors"]
    else:
        assert set(answer.json()) == {"error"}
    assert house.taken(client.dialect) == 0


@pytest.mark.parametrize("word", ["IMMEDIATE_OR_CANCEL", "END_OF_WEEK", "END_OF_MONTH", "NEXT_END_OF_MONTH", "HOLD"])
def test_schwab_refuses_the_words_that_it_does_not_take_though_it_may_specify_them(schwab: Client, word: str) -> None:
    answer = schwab.place(**{"instruction" if word == "HOLD" else "duration": word})
    assert (answer.status_code, answer.json()) == (400, {"message": f"Invalid value '{word}'"})


def test_the_dialects_take_different_words(tda: Client, schwab: Client) -> None:
    assert tda.place(duration="IMMEDIATE_OR_CANCEL").status_code == 400
    assert schwab.place(orderType="LIMIT_ON_CLOSE", price="1.00", duration="FILL_OR_KILL").status_code == 201
    assert tda.place(orderType="LIMIT_ON_CLOSE", price="1.00").status_code == 400
    assert schwab.place(orderType="LIMIT_ON_CLOSE", price="1.00").status_code == 201
    assert schwab.place(requestedDestination="AUTO").status_code == 400


def test_stops_trail_and_wait_in_the_words_of_the_dialect(house: SandboxThread, schwab: Client) -> None:
    house.price("AAPL", "100")
    trail = {"stopPriceLinkBasis": "LAST", "stopPriceLinkType": "VALUE", "stopPriceOffset": 5}
    number = schwab.placed(instruction="SELL_SHORT", orderType="TRAILING_STOP", **trail)
    eventually(lambda: schwab.order(number)["status"] == "AWAITING_STOP_CONDITION")
    assert schwab.order(number)["stopPrice"] == 95
    house.price("AAPL", "94")
    filled(schwab, number)


def test_orders_are_listed_newest_first_and_by_status(client: Client) -> None:
    done = client.placed()
    filled(client, done)
    open_ = client.placed(orderType="LIMIT", price="1.00")
    eventually(lambda: client.order(open_)["status"] == "WORKING")
    assert [str(o["orderId"]) for o in client.listed()] == [open_, done]
    assert [str(o["orderId"]) for o in client.listed(status="FILLED")] == [done]
    assert [str(o["orderId"]) for o in client.listed(maxResults="1")] == [open_]


def test_tda_lists_by_days_and_schwab_insists_on_exact_times(tda: Client, schwab: Client) -> None:
    today = datetime.now(UTC).date()
    tda.placed()
    assert len(tda.listed(fromEnteredTime=f"{today}", toEnteredTime=f"{today}")) == 1
    assert tda.listed(fromEnteredTime=f"{today - timedelta(5)}", toEnteredTime=f"{today - timedelta(2)}") == []
    assert len(tda.listed(fromEnteredTime="1971-01-01T00:00:00+0000")) == 1
    schwab.placed()
    assert schwab.call("GET", schwab.orders).status_code == 400
    assert schwab.call("GET", schwab.orders, params={"fromEnteredTime": f"{today}T00:00:00Z"}).status_code == 400
    days = {"fromEnteredTime": str(today), "toEnteredTime": str(today)}
    assert schwab.call("GET", schwab.orders, params=days).status_code == 400
    later = f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    assert schwab.listed(fromEnteredTime=later) == []


def test_a_cancel_is_a_wish_and_a_second_one_an_error(client: Client) -> None:
    number = client.placed(orderType="LIMIT", price="1.00")
    answer = client.call("DELETE", f"{client.orders}/{number}")
    assert (answer.status_code, answer.content) == (200, b"")
    eventually(lambda: client.order(number)["status"] == "CANCELED")
    assert client.call("DELETE", f"{client.orders}/{number}").status_code == 400
    assert client.call("DELETE", f"{client.orders}/1000000000000").status_code == 404


def test_a_replacement_is_a_new_order(client: Client) -> None:
    old = client.placed(orderType="LIMIT", price="1.00")
    answer = client.call("PUT", f"{client.orders}/{old}", json=order(orderType="LIMIT", price="1.50"))
    assert answer.status_code == 201
    new = answer.headers["Location"].rpartition("/")[2]
    assert new != old
    assert client.order(old)["status"] == "REPLACED"
    assert client.order(new)["price"] == 1.5
