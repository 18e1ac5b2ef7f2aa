"""The Alpaca door as alpaca-py (strict models) and alpaca-trade-api see it, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.conftest import Story
from worker.sandbox.market.market import Market

TWO_WEEKS = (datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 17, tzinfo=UTC))
MINUTES = 10 * 390


@pytest.fixture(scope="module")
def new(drive: Callable[..., Story], foreign_python: Path) -> Story:
    """alpaca-py."""
    return drive("drive_alpaca_py.py", python=foreign_python)


@pytest.fixture(scope="module")
def old(drive: Callable[..., Story]) -> Story:
    """alpaca-trade-api."""
    return drive("drive_alpaca_trade_api.py")


def daily_bars(symbol: str) -> list[list[Any]]:
    """Return what the market says of a symbol, in the order of the clients' data frames."""
    market = Market(seed=7)
    try:
        bars = market.bars(symbol, "1Day", *TWO_WEEKS)
    finally:
        market.close()
    numbers = [(b.open, b.high, b.low, b.close, b.volume, b.trade_count, b.vwap) for b in bars]
    return [[bar.start.isoformat(), *map(float, row)] for bar, row in zip(bars, numbers, strict=True)]


def refused(story: Story) -> dict[str, tuple[int, Any]]:
    return {name: (answer["status"], answer["code"]) for name, answer in story["refused"].items()}


# -- ALPACA-PY --


def test_alpaca_py_reads_account_positions_clock_calendar_and_assets(new: Story) -> None:
    number, status, cash, power = new["account"]
    assert (number, status, cash) == ("PA3SANDBOX01", "ACTIVE", "1000000")
    assert float(power) > 0
    assert new["position"] == ["MSFT", "7", "long", "7"]
    assert new["clock"] == [True, True]
    assert [row[0] for row in new["calendar"]] == [f"2026-01-0{day}" for day in (5, 6, 7, 8, 9)]
    assert new["calendar"][0][1:] == ["2026-01-05 09:30:00", "2026-01-05 16:00:00"]
    assert new["asset"] == ["AAPL", "NASDAQ", True, True]
    assert new["assets"] > 1000


def test_alpaca_py_reads_prices_and_pages_of_bars(new: Story) -> None:
    assert new["quote"][:2] == [99.99, 100.01]
    assert new["trade"] == 100.0
    assert new["bar"] == "SPY"
    assert new["snapshot"] == [100.01, True]
    expected = [[symbol, *row] for symbol in ("AAPL", "SPY") for row in daily_bars(symbol)]
    assert new["bars"] == expected
    assert new["minutes"] == MINUTES
    assert new["unknown_quote"] == []


def test_alpaca_py_sees_a_market_order_through_on_its_stream(new: Story) -> None:
    assert new["market_events"] == ["pending_new", "new", "fill"]
    assert new["fill"] == [100.01, 10.0, 10.0, "100.01", "filled"]
    assert new["found"] == ["filled", "10", "100.01"]
    assert new["activity"] == [True, "10", "100.01"]
    assert new["execution"] is True
    assert new["complaints"] == []
    (order,) = [order for order in new.orders("alpaca") if order["client_order_id"] == "py-1"]
    assert (order["state"], float(order["filled_quantity"])) == ("filled", 10)


def test_alpaca_py_rests_orders_of_every_type_and_lists_them(new: Story) -> None:
    assert new["resting"] == {
        "limit": ["limit", "new", "95.5", None, None, None, None],
        "stop": ["stop", "new", None, "90", None, None, None],
        "stop_limit": ["stop_limit", "new", "89.5", "90", None, None, None],
        "trail_price": ["trailing_stop", "new", None, "97", "3", None, "100"],
        "trail_percent": ["trailing_stop", "new", None, "95", None, "5", "100"],
        "gtc": ["limit", "new", "50", None, None, None, None],
    }
    assert (new["listed"], new["open"]) == (6, 6)


def test_alpaca_py_replaces_and_cancels_an_order(new: Story) -> None:
    assert new["replaced"] == ["5", "96.25", True, True]
    assert (new["replaced_status"], new["replaced_events"][-1]) == ("replaced", "replaced")
    assert new["canceled_events"][-2:] == ["pending_cancel", "canceled"]
    assert new["canceled"] == ["canceled", True]
    assert (new["cancel_again"]["status"], new["cancel_again"]["code"]) == (422, 42210000)
    states = [(o["state"], o["quantity"], o["limit_price"]) for o in new.orders("alpaca") if o["replaces"]]
    assert [(state, float(size), float(price)) for state, size, price in states] == [("canceled", 5, 96.25)]


def test_alpaca_py_sees_half_a_fill_and_closes_what_it_holds(new: Story) -> None:
    assert new["partial"] == ["partially_filled", "5"]
    assert new["cancel_all"] == [200]
    assert new["closed"] == ["sell", "3", "4"]
    assert new["close_all"] == [["AAPL", 200], ["MSFT", 200]]


def test_alpaca_py_and_the_market_tell_the_same_orders(new: Story) -> None:
    told = [[status, float(filled)] for _, status, filled in reversed(new["all_orders"])]
    kept = [[order["state"], float(order["filled_quantity"])] for order in new.orders("alpaca")]
    assert told == kept[: len(told)]
    assert new.is_clean()


def test_alpaca_py_is_refused_with_alpacas_codes(new: Story) -> None:
    assert refused(new) == {
        "symbol": (422, 40010001),
        "funds": (403, 40310000),
        "twice": (422, 40010001),
        "sub_penny": (422, 42210000),
        "order": (404, 40410000),
        "client_id": (404, 40410000),
        "position": (404, 40410000),
        "asset": (404, 40410000),
        "keys": (401, None),
    }
    assert {answer["type"] for answer in new["refused"].values()} == {"APIError"}


def test_alpaca_py_links_orders(new: Story) -> None:
    assert new["bracket_legs"] == [["limit", "sell", "10", "66", None], ["stop_limit", "sell", "10", "54.5", "55"]]
    assert new["bracket"] == ["bracket", ["canceled", "filled"]]
    assert new["oco"] == ["oco", "90", ["55"]]
    assert new["oco_ends"] == ["filled"]
    assert (new["oto"], new["oto_ends"]) == (["held"], ["canceled"])


def test_alpaca_py_trades_an_option_and_a_package_by_leg(new: Story) -> None:
    assert new["contract"] == [True, "KO", "call", "100"]
    assert new["option"] == ["us_option", "buy_to_open", "1"]
    assert new["package"] == ["mleg", None, "2"]
    assert new["package_legs"] == [["buy", "2", "buy_to_open"], ["sell", "2", "sell_to_open"]]
    assert new["package_net"] is True
    assert new["options_held"] == ["3", "-2"]
    assert new["credit"] == ["-5", ["canceled", "canceled"]]


def test_alpaca_py_buys_for_an_amount_of_money_and_a_coin(new: Story) -> None:
    notional, quantity, worth = new["notional"]
    assert (notional, quantity) == ("150.25", None)
    assert worth == pytest.approx(150.25, abs=0.01)
    assert new["coin"] == ["crypto", "BTC/USD", "0.01"]
    assert new["coin_held"] == ["BTCUSD", "0.01"]
    assert new["coin_refused"]["status"] == 422


# -- ALPACA-TRADE-API --


def test_alpaca_trade_api_reads_the_account_and_prices(old: Story) -> None:
    assert old["account"][:3] == ["PA3SANDBOX01", "ACTIVE", "1000000"]
    assert old["position"] == [["MSFT", "7", "long"]]
    assert old["clock"] == [True, True]
    assert [day[:10] for day in old["calendar"]] == [f"2026-01-0{day}" for day in (5, 6, 7, 8, 9)]
    assert old["asset"][0] == "AAPL"
    assert old["asset"][1] > 1000
    assert (old["quote"], old["quotes"]) == ([99.99, 100.01], {"AAPL": 100.01})
    assert (old["trade"], old["snapshot"]) == (100.0, 100.0)


def test_alpaca_trade_api_reads_pages_of_bars(old: Story) -> None:
    assert old["columns"] == ["open", "high", "low", "close", "volume", "trade_count", "vwap"]
    assert old["bars"] == daily_bars("AAPL")
    assert old["many"] == {"AAPL": 10, "SPY": 10}
    assert old["minutes"] == MINUTES


def test_alpaca_trade_api_places_replaces_and_cancels(old: Story) -> None:
    assert old["market_events"] == ["pending_new", "new", "fill"]
    assert old["found"] == ["filled", "10", "100.01"]
    assert old["activities"] == [[True, "10", "100.01"]]
    assert old["open"] == ["limit", "stop", "stop_limit", "trailing_stop"]
    assert old["replaced"] == ["5", "96.25", True]
    assert old["canceled_events"][-2:] == ["pending_cancel", "canceled"]
    assert old["listed"] == ["canceled"] * 4 + ["filled", "replaced"]
    assert old["left"] == ["AAPL"]


def test_alpaca_trade_api_is_refused_with_alpacas_codes(old: Story) -> None:
    assert refused(old) == {
        "symbol": (422, 40010001),
        "funds": (403, 40310000),
        "twice": (422, 40010001),
        "client_id": (404, 40410000),
        "position": (404, 40410000),
        "keys": (401, 401),
    }


def test_alpaca_trade_api_repeats_a_post_and_the_name_keeps_it_from_trading_twice(old: Story) -> None:
    assert old["repeated"]["text"] == "client_order_id must be unique"
    assert old["exists"] == "1"
    assert len([order for order in old.orders("alpaca") if order["client_order_id"] == "old-2"]) == 1
    assert old.control.duplicates() == []


def test_alpaca_trade_api_links_a_bracket_and_buys_for_an_amount_of_money(old: Story) -> None:
    assert old["bracket"] == ["bracket", ["canceled", "filled"]]
    notional, worth = old["notional"]
    assert (notional, worth) == ("150.25", pytest.approx(150.25, abs=0.01))
