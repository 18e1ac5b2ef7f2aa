"""The Alpaca door, driven by the SDK the project uses and by plain requests: orders, account and data."""

from __future__ import annotations

import re
import uuid
from functools import partial
from typing import Any

import pytest
import requests
from alpaca_trade_api.rest import APIError, TimeFrame, TimeFrameUnit

from tests.contract.alpaca_client import KEYS, ORDER_KEYS, bought, filled, resting, words
from tests.contract.doors import SandboxThread
from tests.kit.waiting import eventually
from worker.sandbox.alpaca.door import AlpacaDoor

# Recorded paper traffic, 2026-10-08 (docs/facts/alpaca.md).
POSITION_KEYS = words(
    """
    asset_class asset_id asset_marginable avg_entry_price change_today cost_basis current_price exchange
    lastday_price market_value qty qty_available side symbol unrealized_intraday_pl unrealized_intraday_plpc
    unrealized_pl unrealized_plpc
    """
)
ACCOUNT_KEYS = words(
    """
    account_blocked account_number accrued_fees admin_configurations balance_asof buying_power cash created_at
    crypto_status crypto_tier currency effective_buying_power equity id initial_margin intraday_adjustments
    last_equity last_maintenance_margin long_market_value maintenance_margin multiplier
    non_marginable_buying_power options_approved_level options_buying_power options_trading_level
    pending_reg_taf_fees portfolio_value position_market_value regt_buying_power short_market_value
    shorting_enabled sma status trade_suspended_by_user trading_blocked transfers_blocked user_configurations
    """
)
ACTIVITY_KEYS = words(
    """
    activity_type cum_qty id leaves_qty order_id order_status price qty side symbol transaction_time type
    """
)
NANOSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


# -- ORDERS ---


def test_an_order_has_the_recorded_keys_and_fills(api: Any) -> None:
    order = bought(api, client_order_id="mine-1")
    assert sorted(order) == ORDER_KEYS
    assert order["status"] == "pending_new"
    assert order["position_intent"] == "buy_to_open"
    assert order["qty"] == "10"
    assert NANOSECONDS.fullmatch(order["created_at"])
    done = filled(api, order)
    assert done["filled_qty"] == "10"
    assert float(done["filled_avg_price"]) > 0
    assert NANOSECONDS.fullmatch(done["filled_at"])
    assert api.get_order_by_client_order_id("mine-1")["id"] == order["id"]


def test_a_client_order_id_is_unique_for_ever(api: Any) -> None:
    filled(api, bought(api, client_order_id="once"))
    with pytest.raises(APIError, match="client_order_id must be unique") as caught:
        bought(api, client_order_id="once")
    assert (caught.value.status_code, caught.value.code) == (422, 40010001)


@pytest.mark.parametrize(
    ("change", "status", "code", "text"),
    [
        ({"symbol": "NOPE"}, 422, 40010001, 'asset "NOPE" not found'),
        ({"qty": "0"}, 422, 40010001, "qty must be > 0"),
        ({"qty": None}, 422, 40010001, "qty or notional is required"),
        ({"side": "hold"}, 422, 40010001, "invalid side: hold"),
        ({"type": "limit"}, 422, 40010001, "limit orders require limit price"),
        ({"type": "limit", "limit_price": "100.001"}, 422, 42210000, "sub-penny increment"),
        ({"type": "limit", "limit_price": 100.001}, 422, 42210000, "sub-penny increment"),
        ({"qty": "1.5", "time_in_force": "gtc"}, 422, 42210000, "fractional orders must be DAY orders"),
        ({"qty": "1.5", "symbol": "SIM900"}, 403, 40310000, 'asset "SIM900" is not fractionable'),
        ({"extended_hours": True}, 422, 42210000, "extended hours order must be DAY limit orders"),
        ({"type": "trailing_stop"}, 422, 40010001, "trail_price or trail_percent"),
        ({"client_order_id": "x" * 129}, 422, 40010001, "no more than 128"),
        ({"qty": "90000000"}, 403, 40310000, "insufficient buying power"),
    ],
)
def test_a_bad_order_is_refused_with_the_real_code(
    house: SandboxThread, api: Any, change: dict[str, Any], status: int, code: int, text: str
) -> None:
    body = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day", **change}
    with pytest.raises(APIError, match=text) as caught:
        api.post("/orders", {key: value for key, value in body.items() if value is not None})
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert house.taken("alpaca") == 0


def test_no_buying_power_is_told_with_its_numbers(door: AlpacaDoor) -> None:
    body = {"symbol": "SPY", "qty": 10**7, "side": "buy", "type": "market", "time_in_force": "day"}
    answer = requests.post(f"{door.url}/v2/orders", json=body, headers=KEYS, timeout=2)
    assert answer.status_code == 403
    assert sorted(answer.json()) == ["buying_power", "code", "cost_basis", "message"]


def test_selling_more_than_held_is_refused_and_selling_nothing_held_opens_a_short(
    house: SandboxThread, api: Any
) -> None:
    house.hold("alpaca", "KO", 5)
    with pytest.raises(APIError, match=r"requested: 6, available: 5"):
        api.submit_order("KO", "6", "sell", "market", "day")
    assert api.submit_order("KO", "5", "sell", "market", "day")["position_intent"] == "sell_to_close"
    short = api.submit_order("IBM", "5", "sell", "market", "day")
    assert short["position_intent"] == "sell_to_open"
    assert short["side"] == "sell"
    filled(api, short)
    position = api.get_position("IBM")
    assert (position["side"], position["qty"]) == ("short", "-5")


def test_orders_are_listed_by_status_time_and_direction(api: Any) -> None:
    done = filled(api, bought(api))
    first, second = resting(api), resting(api)
    assert [o["id"] for o in api.list_orders()] == [second["id"], first["id"]]
    assert [o["id"] for o in api.list_orders(status="closed")] == [done["id"]]
    everything = api.list_orders(status="all", direction="asc")
    assert [o["id"] for o in everything] == [done["id"], first["id"], second["id"]]
    assert len(api.list_orders(status="all", limit=2)) == 2
    after = api.list_orders(status="all", after=first["submitted_at"])
    assert [o["id"] for o in after] == [second["id"]]
    until = api.list_orders(status="all", until=first["submitted_at"])
    assert [o["id"] for o in until] == [done["id"]]
    assert api.list_orders(status="all", symbols=["MSFT"]) == []


def test_a_cancel_is_a_wish_until_the_order_says_canceled(api: Any) -> None:
    order = resting(api)
    assert api.cancel_order(order["id"]) is None
    eventually(lambda: api.get_order(order["id"])["status"] == "canceled")
    with pytest.raises(APIError, match='already in "canceled" state') as caught:
        api.cancel_order(order["id"])
    assert caught.value.code == 42210000


def test_cancel_all_answers_207(api: Any) -> None:
    orders = {resting(api)["id"], resting(api)["id"]}
    assert {row["id"] for row in api.delete("/orders")} == orders
    eventually(lambda: api.list_orders() == [])


def test_a_replacement_has_a_new_id_and_both_name_each_other(api: Any) -> None:
    old = resting(api)
    new = api.replace_order(old["id"], qty="4", limit_price="1.75")
    assert new["id"] != old["id"]
    assert (new["replaces"], new["qty"], new["limit_price"]) == (old["id"], "4", "1.75")
    before = api.get_order(old["id"])
    assert (before["status"], before["replaced_by"]) == ("replaced", new["id"])


def test_unknown_things_are_404_and_a_bad_id_422(api: Any) -> None:
    for call in (
        partial(api.get_order, str(uuid.uuid4())),
        partial(api.get_order_by_client_order_id, "nobody"),
        partial(api.get_position, "AAPL"),
        partial(api.get_asset, "NOPE"),
    ):
        with pytest.raises(APIError) as caught:
            call()
        assert (caught.value.status_code, caught.value.code) == (404, 40410000)
    with pytest.raises(APIError) as caught:
        api.get_order("no-uuid")
    assert caught.value.status_code == 422


def test_wrong_or_missing_keys_are_401(door: AlpacaDoor) -> None:
    for headers in ({}, {**KEYS, "APCA-API-SECRET-KEY": "wrong"}):
        answer = requests.get(f"{door.url}/v2/account", headers=headers, timeout=2)
        assert (answer.status_code, answer.json()) == (401, {"message": "unauthorized."})


# -- ACCOUNT ---


def test_account_positions_and_activities_have_the_recorded_keys(house: SandboxThread, api: Any) -> None:
    house.price("AAPL", "100")
    filled(api, bought(api, qty="0.5"))
    filled(api, bought(api, qty="2"))
    assert sorted(api.get_account()) == ACCOUNT_KEYS
    (position,) = api.list_positions()
    assert sorted(position) == POSITION_KEYS
    assert position["qty"] == "2.5"
    assert all(isinstance(v, str) for k, v in position.items() if k != "asset_marginable")
    eventually(lambda: len(api.get_activities("FILL")) == 2)
    newest, oldest = api.get_activities("FILL")
    assert sorted(newest) == ACTIVITY_KEYS
    assert (newest["qty"], oldest["qty"]) == ("2", "0.5")
    assert re.fullmatch(r"\d{17}::[0-9a-f-]{36}", newest["id"])
    page = api.get_activities("FILL", page_size=1, direction="asc")
    assert page == [oldest]
    assert api.get_activities("FILL", page_token=oldest["id"], direction="asc") == [newest]
    assert api.get_activities("FILL", after=oldest["transaction_time"], direction="asc") == [newest]


def test_closing_a_position_is_an_order(api: Any) -> None:
    filled(api, bought(api))
    order = api.close_position("AAPL")
    assert (order["side"], order["qty"]) == ("sell", "10")
    filled(api, order)
    assert api.list_positions() == []


def test_clock_calendar_and_assets(api: Any) -> None:
    assert api.get_clock()["is_open"] is True
    assert {"date", "open", "close", "session_open", "session_close"} <= set(
        api.get_calendar("2026-11-02", "2026-11-08")[0]
    )
    assert len(api.get_calendar("2026-11-02", "2026-11-08")) == 5
    assert api.get_asset("SPY")["exchange"] == "ARCA"
    assert api.get_asset("SIM900")["fractionable"] is False


# -- DATA ---


def test_bars_are_paged_until_the_token_is_null(door: AlpacaDoor, api: Any) -> None:
    span = {"timeframe": "1Min", "start": "2026-03-02T14:30:00Z", "end": "2026-03-06T21:00:00Z"}
    get = partial(requests.get, f"{door.url}/v2/stocks/AAPL/bars", headers=KEYS, timeout=5)
    first = get(params=span).json()
    assert len(first["bars"]) == 1000
    assert first["next_page_token"]
    bars = list(api.get_bars_iter("AAPL", TimeFrame(1, TimeFrameUnit.Minute), span["start"], span["end"], raw=True))
    assert len(bars) == 5 * 390
    assert bars[:1000] == first["bars"]
    assert sorted(bars[0]) == ["c", "h", "l", "n", "o", "t", "v", "vw"]
    assert len({bar["t"] for bar in bars}) == len(bars)
    backwards = list(get(params={**span, "sort": "desc", "limit": 7}).json()["bars"])
    assert backwards == bars[:-8:-1]


def test_bars_of_many_symbols_and_of_nothing(door: AlpacaDoor, api: Any) -> None:
    bars = list(api.get_bars_iter(["MSFT", "AAPL"], TimeFrame.Day, "2026-03-02", "2026-03-07", raw=True))
    assert [bar["S"] for bar in bars] == ["AAPL"] * 5 + ["MSFT"] * 5
    url = f"{door.url}/v2/stocks/NOPE/bars"
    answer = requests.get(url, params={"timeframe": "1Day", "start": "2026-03-02"}, headers=KEYS, timeout=5)
    assert answer.json() == {"bars": None, "symbol": "NOPE", "next_page_token": None}
    for bad in ({"timeframe": "7Weeks"}, {"limit": "10001"}, {"start": "yesterday"}, {"page_token": "%%"}):
        assert requests.get(url, params=bad, headers=KEYS, timeout=5).status_code == 400


def test_latest_quotes_trades_bars_and_snapshots(house: SandboxThread, api: Any) -> None:
    house.price("AAPL", "123.45")
    assert api.get_latest_quote("AAPL")["ap"] > api.get_latest_quote("AAPL")["bp"] > 0
    assert api.get_latest_trade("AAPL")["p"] == 123.45
    assert set(api.get_latest_quotes(["AAPL", "KO", "NOPE"])) == {"AAPL", "KO"}
    assert set(api.get_latest_bars(["AAPL", "KO"])) == {"AAPL", "KO"}
    assert set(api.get_snapshot("AAPL")) >= {"latestTrade", "latestQuote", "minuteBar", "dailyBar", "prevDailyBar"}
    assert set(api.get_snapshots(["AAPL", "KO"])) == {"AAPL", "KO"}
    with pytest.raises(APIError):
        api.get_latest_quote("NOPE")
