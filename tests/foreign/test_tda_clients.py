"""The TDA door as tda-api sees it, and the Schwab door as schwab-py does, each in a process of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.conftest import Story
from worker.sandbox.market.market import Market

TWO_WEEKS = (datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 17, tzinfo=UTC))
NUMBERS = {"tda": "123456789", "schwab": "12345678"}


@pytest.fixture(scope="module", params=["tda", "schwab"])
def story(drive: Callable[..., Story], foreign_python: Path, request: pytest.FixtureRequest) -> Story:
    """tda-api or schwab-py, through its whole story."""
    found = drive("drive_tda.py", request.param, python=foreign_python)
    found.seen["dialect"] = request.param
    return found


def is_schwab(story: Story) -> bool:
    return bool(story["dialect"] == "schwab")


def test_the_client_gets_an_access_token_before_its_first_call(story: Story) -> None:
    told = "grant_type=refresh_token&refresh_token=rt"
    assert story["refresh"] == [told if is_schwab(story) else f"{told}&client_id=key%40AMER.OAUTHAP"]
    assert {"access_token", "expires_at", "refresh_token"} <= set(story["written"])
    words = "refresh_token_authentication_error" if is_schwab(story) else "invalid_grant"
    assert story["denied"]["type"] == "OAuthError"
    assert words in story["denied"]["text"]


def test_tda_api_gets_a_new_refresh_token_before_the_old_one_dies(story: Story) -> None:
    if is_schwab(story):
        assert "offline" not in story.seen  # Schwab's refresh tokens end after seven days, whatever one asks for
        return
    (asked,) = story["offline"]
    assert "access_type=offline" in asked
    assert story["rotated"] is True


def test_the_client_reads_account_and_positions(story: Story) -> None:
    number = NUMBERS[story["dialect"]]
    assert story["number"] == number
    hashed = hashlib.sha256(number.encode()).hexdigest().upper()
    assert story["account"] == (hashed if is_schwab(story) else number)
    assert story["balances"] == [1_000_000, True]
    assert story["positions"] == [["MSFT", 7]]


def test_the_client_reads_quotes_and_candles(story: Story) -> None:
    assert story["quote"] == [99.99, 100.01, 100.0, "AAPL"]
    assert story["quotes"] == ["AAPL", "SPY"]
    unknown: dict[str, Any] = {"errors": {"invalidSymbols": ["NOPE"]}} if is_schwab(story) else {}
    assert story["unknown_quote"] == [200, unknown]
    market = Market(seed=7)
    try:
        bars = market.bars("AAPL", "1Day", *TWO_WEEKS)
    finally:
        market.close()
    rows = [[b.start.timestamp() * 1000, *map(float, (b.open, b.high, b.low, b.close)), b.volume] for b in bars]
    assert story["bars"] == rows
    assert story["candles"] == {"minute": True, "week": True, "half_hour": True}
    assert story["all_days"] is True


def test_the_client_finds_the_number_of_its_order_and_sees_it_filled(story: Story) -> None:
    assert story["fill"] == [10, 0, 10, 100.01]
    activity, execution, leg = story["fill_words"]
    assert (activity, execution) == ("EXECUTION", "FILL")
    assert (leg["instruction"], leg["positionEffect"], leg["instrument"]["symbol"]) == ("BUY", "OPENING", "AAPL")
    order = story.orders(story["dialect"])[0]
    assert (order["state"], order["symbol"], order["quantity"]) == ("filled", "AAPL", "10")


def test_the_client_rests_orders_of_every_type_and_lists_them(story: Story) -> None:
    waiting = "AWAITING_STOP_CONDITION" if is_schwab(story) else "WORKING"
    assert story["resting"] == {
        "limit": ["LIMIT", "WORKING", "DAY", 95.5, None, None],
        "gtc": ["LIMIT", "WORKING", "GOOD_TILL_CANCEL", 50.0, None, None],
        "stop": ["STOP", waiting, "DAY", None, 90.0, None],
        "stop_limit": ["STOP_LIMIT", waiting, "DAY", 89.5, 90.0, None],
        "trail": ["TRAILING_STOP", waiting, "DAY", None, 95.0, 5.0],
    }
    assert story["short"] == "SELL_SHORT"
    assert (story["listed"], story["filled"], story["everywhere"]) == (True, [True], 3)


def test_the_client_replaces_and_cancels_an_order(story: Story) -> None:
    assert story["replaced"] == ["REPLACED", 96.25, 5]
    assert story["cancel"] == [200, "", "CANCELED"]
    assert story["cancel_again"] == [400, ["errors", "message"] if is_schwab(story) else ["error"]]
    (successor,) = [order for order in story.orders(story["dialect"]) if order["replaces"]]
    assert (successor["state"], float(successor["limit_price"]), successor["quantity"]) == ("canceled", 96.25, "5")


def test_the_client_sees_half_a_fill_as_a_working_order(story: Story) -> None:
    assert story["partial"] == ["WORKING", 5, 5]
    assert story["sold"] == "FILLED"
    assert story.control.accounts()[story["dialect"]]["positions"]["AAPL"]["quantity"] == "15"


def test_what_the_account_cannot_carry_is_taken_and_rejected_a_moment_later(story: Story) -> None:
    reason, filled = story["poor"]
    assert "buying power" in reason
    assert filled == 0
    assert "oversold" in story["oversold"]
    rejected = [order for order in story.orders(story["dialect"]) if order["state"] == "rejected"]
    assert [order["symbol"] for order in rejected] == ["AAPL", "TSLA"]


def test_a_bad_order_is_refused_in_the_brokers_words(story: Story) -> None:
    statuses = {name: status for name, (status, _) in story["refused"].items()}
    assert statuses == {"symbol": 400, "account": 404, "order": 404, "form": 400}
    keys = {tuple(sorted(document)) for _, document in story["refused"].values()}
    assert keys == {("errors", "message") if is_schwab(story) else ("error",)}
    assert story["unsuccessful"]["type"] == "UnsuccessfulOrderException"
    strange = "AccountHashMismatchException" if is_schwab(story) else "AccountIdMismatchException"
    assert story["mismatch"]["type"] == strange


def test_only_schwab_has_a_preview(story: Story) -> None:
    assert story.seen.get("preview") == (950.0 if is_schwab(story) else None)
    orders = [order for order in story.orders(story["dialect"]) if not order["symbol"].startswith("KO")]
    placed = [order for order in orders if order["state"] != "new"]
    assert (len(placed), len(orders)) == (12, 13)  # the last one rests: the mismatch
    assert story.control.duplicates() == []


def test_the_clients_own_templates_of_linked_orders_are_linked_by_the_door(story: Story) -> None:
    assert story["bracket"] == ["TRIGGER", "MARKET", "LIMIT", "STOP"]
    assert story["oco_inside"] == ["OCO"]
    assert story["bracket_ends"] == ["FILLED", "FILLED", "CANCELED"]
    assert story["pair"] == ["OCO", 2]
    assert story["pair_ends"] == ["CANCELED", "FILLED"]


def test_the_client_trades_an_option_of_the_chain_and_a_vertical_of_its_template(story: Story) -> None:
    assert story["chain"] == ["SUCCESS", "CALL", True]
    assert story["symbol"] is True
    assert story["call"] == ["OPTION", "BUY_TO_OPEN", True]
    assert story["vertical"] == ["NET_DEBIT", "VERTICAL", 2, 2]
    assert story["vertical_legs"] == [["BUY_TO_OPEN", 2], ["SELL_TO_OPEN", 2]]
    assert story["by_leg"] == [[1, 2], [2, 2]]
    if is_schwab(story):
        assert story["vertical_preview"] == [600.0, []]
    held = story.control.accounts()[story["dialect"]]["positions"]
    assert sorted(float(held[name]["quantity"]) for name in held if len(name) > 6) == [-2, 3]


def test_schwab_py_sees_two_accounts_of_one_login_and_mixes_none(
    drive: Callable[..., Story], foreign_python: Path
) -> None:
    usual, other = "12345678", "12345679"
    sandbox = (f"--accounts=schwab={usual},{other}", "--doors=schwab")
    story = drive("drive_schwab_accounts.py", "schwab", python=foreign_python, sandbox=sandbox)
    assert story["numbers"] == story["preferences"] == [usual, other]
    assert story["held"] == {usual: [["AAPL", 4]], other: [["AAPL", 9], ["MSFT", 7]]}
    assert story["held_together"] == story["held"]
    assert story["listed"] == {usual: True, other: True}
    assert story["everywhere"] == [[usual, "FILLED"], [other, "FILLED"], [other, "WORKING"]]
    assert all(status in (400, 404) for status in story["refused"]), story["refused"]
    assert "oversold" in story["oversold"]
    ended = sorted((one["account"], one["symbol"], one["state"]) for one in story.orders("schwab"))
    assert ended == [
        (usual, "AAPL", "filled"), (usual, "MSFT", "rejected"),
        (other, "AAPL", "canceled"), (other, "AAPL", "filled"), (other, "MSFT", "filled"),
    ]  # fmt: skip
    assert story.is_clean()
