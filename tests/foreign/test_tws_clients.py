"""The TWS door as IBKR's own client, ib_insync and ib_async see it, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.conftest import Story
from worker.sandbox.market.market import Market

FIVE_DAYS = (datetime(2026, 1, 8, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC))
#: What the decoders of the three clients are shown: every message the door can send, but for the end of a session.
KINDS = {*range(1, 12), 15, 17, 49, *range(52, 56), 57, 58, 59, 61, 62, 63, 64, 73, 74, 75, 76, 79, 81, 101, 102}


@pytest.fixture(scope="module")
def official(drive: Callable[..., Story], foreign_python: Path) -> Story:
    """IBKR's own client (PyPI: ibapi-stable)."""
    return drive("drive_ibapi.py", python=foreign_python)


@pytest.fixture(scope="module", params=["ib_insync", "ib_async"])
def popular(drive: Callable[..., Story], request: pytest.FixtureRequest) -> Story:
    """One of the two clients that corro itself can use."""
    return drive("drive_ib.py", request.param)


def daily_bars() -> list[list[Any]]:
    """Return what the market says of AAPL, in the order of a TWS bar."""
    market = Market(seed=7)
    try:
        bars = market.bars("AAPL", "1Day", *FIVE_DAYS)
    finally:
        market.close()
    rows = [(b.start.date(), *(float(v) for v in (b.open, b.high, b.low, b.close)), float(b.volume)) for b in bars]
    return [[*row, float(bar.vwap), bar.trade_count] for row, bar in zip(rows, bars, strict=True)]


def states(story: Story) -> dict[str, int]:
    """Count the market's orders in the plain story's share by state."""
    found = [order["state"] for order in story.orders("ibkr") if order["symbol"] == "AAPL"]
    return {state: found.count(state) for state in set(found)}


def ledger_counts(story: Story) -> tuple[int, int]:
    """Count what arrived of the plain story, and what of it was turned away."""
    lines = story.control.ledger()
    mine = {line["number"] for line in lines if line["event"] == "arrived" and line["symbol"] in ("AAPL", "NOPE")}
    return len(mine), sum(line["event"] == "rejected" and line["number"] in mine for line in lines)


# -- IBKR'S OWN CLIENT --


def test_the_official_decoder_reads_every_kind_of_message_to_its_last_field(official: Story) -> None:
    assert set(official["kinds_read"]) - {0} == KINDS
    assert official["leftovers"] == []
    assert official["complaints"] == []


def test_the_official_client_agrees_on_a_text_version_and_is_let_in(official: Story) -> None:
    assert (official["server_version"], official["accounts"]) == (176, "DU1000001")
    assert abs(official["time"] - time.time()) < 60
    assert {2104, 2106, 2158} <= {code for number, code in official["codes"] if number == -1}


def test_the_official_client_reads_the_account_in_all_three_ways(official: Story) -> None:
    summary, values = official["summary"], official["values"]
    assert summary["TotalCashValue"] == ["1000000.00", "USD"]
    assert summary["NetLiquidation"][0] == values["NetLiquidation"]
    assert summary["BuyingPower"][0] == values["BuyingPower"]
    assert official["multi"] == len(values)
    ((account, symbol, size, cost),) = official["positions"]
    assert (account, symbol, size) == ("DU1000001", "BRK B", "5")
    assert cost > 0
    assert official["portfolio"] == [["BRK B", "5"]]


def test_the_official_client_reads_contracts_quotes_and_bars(official: Story) -> None:
    assert official["contract"] == [265598, "NASDAQ", 0.01, "AAPL INC"]
    assert [9004, 200] in official["codes"]
    ticks = official["ticks"]
    assert (ticks["1"], ticks["2"], ticks["4"]) == (99.99, 100.01, 100.0)
    assert set(official["sizes"]) == {"0", "3", "5", "8"}
    read = [[datetime.strptime(row[0], "%Y%m%d").date(), *map(float, row[1:])] for row in official["bars"]]  # noqa: DTZ007
    assert read == daily_bars()


def test_the_official_client_sees_a_market_order_through(official: Story) -> None:
    assert official["fill"] == ["AAPL", "BOT", "10", 100.01, "market", "10"]
    assert official["fill_ids"] == [True, True, True, 41]
    assert official["commission"] == [1.0, "USD"]
    assert official["market_statuses"] == ["PreSubmitted", "Filled"]
    assert official["executions"] == [["market", "10"]]
    (order,) = [order for order in official.orders("ibkr") if order["client_order_id"] == "market"]
    assert (order["state"], order["side"], order["quantity"]) == ("filled", "buy", "10")
    assert order["executions"][0]["price"] == "100.01"


def test_the_official_client_changes_and_cancels_an_order(official: Story) -> None:
    assert official["modified"] == [96.5, "10"]
    assert official["limit_statuses"] == ["Cancelled", "PendingCancel", "PreSubmitted", "Submitted"]
    (order,) = [order for order in official.orders("ibkr") if order["client_order_id"] == "limit"]
    assert (order["state"], order["limit_price"]) == ("canceled", "96.5")


def test_the_official_client_rests_orders_of_every_type(official: Story) -> None:
    unset = 1.7976931348623157e308
    # A real gateway tells the stop of a trailing order as its limit price, too (docs/facts/ibkr.md).
    assert official["resting"] == {
        "stop": ["STP", "DAY", 0.0, 90.0, unset, unset, "PreSubmitted"],
        "stop_limit": ["STP LMT", "DAY", 89.5, 90.0, unset, unset, "PreSubmitted"],
        "trail": ["TRAIL", "DAY", 97.0, 3.0, unset, 97.0, "PreSubmitted"],
        "trail_percent": ["TRAIL", "DAY", 95.0, 0.0, 5.0, 95.0, "PreSubmitted"],
        "gtc": ["LMT", "GTC", 50.0, 0.0, unset, unset, "Submitted"],
    }
    ended = [o for o in official.orders("ibkr") if (o["symbol"], o["state"]) == ("AAPL", "canceled")]
    orders = {(o["order_type"], o["trail_percent"]): o for o in ended}
    assert float(orders["stop", None]["stop_price"]) == 90
    assert float(orders["stop_limit", None]["limit_price"]) == 89.5
    assert float(orders["trailing_stop", None]["trail_amount"]) == 3
    assert orders["trailing_stop", "5.0"]["trail_amount"] is None


def test_the_official_client_is_refused_with_ibs_codes(official: Story) -> None:
    assert official["refused"] == [110, 200, 201]
    assert [4711, 10147] in official["codes"]
    assert 10148 in [code for _, code in official["codes"]]
    assert ledger_counts(official) == (10, 3)


def test_the_official_client_asks_what_if_and_places_nothing(official: Story) -> None:
    margin, _ = official["what_if"]
    assert float(margin) == pytest.approx(250.03, abs=0.02)
    assert states(official) == {"filled": 1, "canceled": 6}


def test_the_official_client_finds_completed_orders(official: Story) -> None:
    done = {ref: rest for ref, *rest in official["completed"]}
    assert done["market"] == ["Filled", "10", "Filled Size: 10"]
    assert done["limit"] == ["Cancelled", "0", "Cancelled by Trader"]
    assert len(official["completed"]) == 7
    assert official.is_clean()


def test_the_official_client_looks_up_every_class_of_instrument(official: Story) -> None:
    assert official["option"] == ["OPT", "KO", "USD", "100", 0.01, True]
    assert official["future"][:4] == ["FUT", "ES", "USD", "50"]
    assert official["forex"][:3] == ["CASH", "EUR", "USD"]
    assert official["crypto"][:3] == ["CRYPTO", "BTC", "USD"]
    assert official["abroad"][:3] == ["STK", "SHOP", "CAD"]
    assert ["KO", "STK", ["OPT"]] in official["samples"]


def test_the_official_client_trades_a_package_and_is_told_by_leg(official: Story) -> None:
    assert official["package"] == [["BAG", "BOT", "2"], ["OPT", "BOT", "2"], ["OPT", "SLD", "2"]]
    assert official["package_net"] == [True]
    assert official["package_legs"] == [[1, "BUY"], [1, "SELL"]]
    assert official["package_what_if"] == [True, True]
    held = official.control.accounts()["ibkr"]["positions"]
    assert sorted(float(held[name]["quantity"]) for name in held if len(name) > 6) == [-2, 3]


def test_the_official_client_links_orders_as_ibs_samples_do(official: Story) -> None:
    assert official["staged"] == [False, False]
    assert official["parents"] == [True, True]
    assert official["oca"] == ["pair", "pair"]
    linked = [o for o in official.orders("ibkr") if o["symbol"] == "KO" and o["order_type"] in ("market", "stop")]
    assert [(o["side"], o["state"]) for o in linked] == [("buy", "filled"), ("sell", "canceled")]


def test_the_official_client_rests_the_rarer_kinds(official: Story) -> None:
    assert official["rarer"] == {
        "gtd": ["GTD", True],
        "if_touched": ["MIT", 40.0],
        "limit_if_touched": ["LIT", 40.5],
        "trail_limit": ["TRAIL LIMIT", 0.25],
        "iceberg": [10],
        "hidden": [True],
        "adaptive": ["Adaptive", [["adaptivePriority", "Patient"]]],
    }


# -- IB_INSYNC AND IB_ASYNC --


def test_the_decoder_never_complains(popular: Story) -> None:
    assert popular["complaints"] == []


def test_the_client_reads_account_and_positions(popular: Story) -> None:
    assert (popular["server_version"], popular["accounts"]) == (176, ["DU1000001"])
    assert popular["summary"]["TotalCashValue"] == ["1000000.00", "USD"]
    assert popular["positions"] == [["DU1000001", "BRK B", 5]]
    assert popular["portfolio"] == [["BRK B", 5]]
    assert abs(popular["time"] - time.time()) < 60


def test_the_client_reads_contracts_quotes_and_bars(popular: Story) -> None:
    assert popular["contract"] == [265598, "NASDAQ"]
    assert popular["unknown"] == 200
    assert popular["quote"] == [99.99, 100.01, 100.0]
    assert [[date.fromisoformat(day), *rest] for day, *rest in popular["bars"]] == daily_bars()


def test_the_client_sees_a_market_order_through(popular: Story) -> None:
    assert popular["fill"] == ["AAPL", "BOT", 10, 100.01]
    assert popular["fill_ids"] == ["market", True]
    assert popular["commission"] == [1.0, "USD"]
    assert popular["market_status"] == "Filled"
    assert popular["executions"] == [["market", 10]]


def test_the_client_changes_and_cancels_orders_of_every_type(popular: Story) -> None:
    assert popular["modified"] == [96.5]
    assert popular["limit_status"] == "Cancelled"
    waiting = dict.fromkeys(("stop", "stop_limit", "trail", "trail_percent"), "PreSubmitted")
    assert popular["resting"] == {**waiting, "gtc": "Submitted"}
    assert sorted(kind for _, kind in popular["open"]) == ["LMT", "STP", "STP LMT", "TRAIL", "TRAIL"]
    assert states(popular) == {"filled": 1, "canceled": 6}
    done = {ref: rest for ref, *rest in popular["completed"]}
    assert (done["market"], done["limit"]) == (["Filled", 10], ["Cancelled", 0])


def test_the_client_is_refused_with_ibs_codes(popular: Story) -> None:
    assert popular["refused"] == [200, 201]
    assert ledger_counts(popular) == (9, 2)
    assert popular.is_clean()


def test_the_client_trades_a_package_and_asks_what_it_would_cost(popular: Story) -> None:
    assert popular["chain"] == ["100", True]
    assert popular["package"] == [["BAG", "BOT", 2], ["OPT", "BOT", 2], ["OPT", "SLD", 2]]
    assert popular["package_net"] is True
    assert popular["package_what_if"] == [True, True]


def test_the_clients_own_brackets_and_groups_are_linked_by_the_door(popular: Story) -> None:
    assert popular["bracket"] == ["Filled", "Filled", "Cancelled"]
    assert popular["oca"] == ["Cancelled", "Cancelled"]


def test_the_client_rests_the_rarer_kinds(popular: Story) -> None:
    assert popular["rarer"] == {
        "gtd": ["LMT", "GTD"], "if_touched": ["MIT", "DAY"], "trail_limit": ["TRAIL LIMIT", "DAY"],
        "adaptive": ["LMT", "DAY"],
    }  # fmt: skip
    assert popular["algo"] == ["Adaptive", "Patient"]


# -- SEVERAL ACCOUNTS BEHIND ONE LOGIN --


def test_the_official_client_sees_two_accounts_and_mixes_none(
    drive: Callable[..., Story], foreign_python: Path
) -> None:
    usual, other = "DU1000001", "DU1000002"
    story = drive(
        "drive_ibapi_accounts.py", python=foreign_python, sandbox=(f"--accounts=ibkr={usual},{other}", "--doors=ibkr")
    )
    first = story["first"]
    assert story["accounts"] == f"{usual},{other},"
    assert story["refused"] == [
        [-1, 321, "The account code is required for this operation."],
        [first, 321, "You must specify an account."],
        [first + 1, 321, "Invalid account code 'DU9'."],
    ]
    assert story["values_of"] == story["portfolio_of"] == story["executions_of"] == [other]
    assert story["positions"] == [[other, "AAPL", "4"]]
    assert story["summary_of"] == [usual, other]
    assert story["open_in"] == usual
    assert sorted((one["account"], one["state"]) for one in story.orders("ibkr")) == [(usual, "new"), (other, "filled")]
