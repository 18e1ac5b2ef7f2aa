"""Budgets at the doors: what is held back never arrives, and what a broker says of its own count is believed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import BrokerError, ConfigurationError, PacingViolation, QuotaExhausted, RateLimited
from models.reports import Report
from models.settings import BrokerSettings
from tests.contract.brokers import AdapterBench, a_ref, a_ticket, bench, resting
from tests.kit import eventually
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker
from worker.pacing.budget import Use, using

HTTP = ("alpaca", "tda", "schwab")


@pytest.fixture
def open_bench(tmp_path: Path) -> Iterator[Callable[..., AdapterBench]]:
    """A bench whose adapter has a budget of its own."""
    opened = []

    def make(kind: str, **settings: Any) -> AdapterBench:
        context = bench(kind, tmp_path)
        found = context.__enter__()
        opened.append((context, found))
        found.broker.disconnect()
        found.broker = found.another(**settings)
        found.broker.connect()
        return found

    yield make
    for context, found in opened:
        found.broker.disconnect()
        context.__exit__(None, None, None)


def lines(bench: AdapterBench, event: str) -> list[dict[str, Any]]:
    return [line for line in bench.house.call(lambda: list(bench.house.market.ledger.lines)) if line["event"] == event]


def ticket(**terms: Any) -> Any:
    made = resting(**terms)
    return a_ticket(made, made.client_order_id)


def again(ask: Callable[[], object], times: int = 41) -> None:
    for _ in range(times):
        ask()


def place_until_held(bench: AdapterBench, most: int = 60, **terms: Any) -> tuple[int, QuotaExhausted]:
    """Place orders until the budget holds one back; returns how many went out."""
    for count in range(most):
        try:
            bench.broker.place_order(ticket(**terms))
        except QuotaExhausted as held:
            return count, held
    raise AssertionError(f"{most} orders went out")


# -- HELD BACK ---
@pytest.mark.parametrize("kind", HTTP)
def test_an_order_over_the_budget_never_arrives(open_bench: Callable[..., AdapterBench], kind: str) -> None:
    bench = open_bench(kind, requests_per_minute=40)
    sent, held = place_until_held(bench)
    assert sent == len(bench.orders()) > 3
    assert 10 < (held.retry_after or 0) < 65


@pytest.mark.parametrize("kind", HTTP)
def test_what_closes_a_position_and_cancels_go_on(open_bench: Callable[..., AdapterBench], kind: str) -> None:
    bench = open_bench(kind, requests_per_minute=60)
    bench.house.hold(bench.name, "AAPL", 100)
    first = resting()
    report = bench.broker.place_order(a_ticket(first, first.client_order_id))
    place_until_held(bench)
    report_of_sell = bench.broker.place_order(ticket(side="sell", limit_price="9999"))
    assert report_of_sell.broker_order_id
    bench.broker.cancel_order(a_ref(first, first.client_order_id, report.broker_order_id))


@pytest.mark.parametrize("kind", HTTP)
def test_a_replace_needs_one_turn_of_an_order(open_bench: Callable[..., AdapterBench], kind: str) -> None:
    """It reads the order first: with two turns each, replaces would lose to orders, which need one."""
    bench = open_bench(kind, requests_per_minute=40)
    old = bench.place(resting())
    (budget,) = (one for one in bench.broker.limits.budgets.values() if one.rate.limit == 40)
    while budget.rate.limit - budget.left() < budget.rate.part(budget.shares[Use.ORDER]) - 1:
        assert budget.try_spend(Use.ORDER) == 0
    _, report = bench.replace(old, limit_price="1.25")
    assert report.limit_price == Decimal("1.25")
    assert budget.try_spend(Use.ORDER) > 0


@pytest.mark.parametrize("kind", HTTP)
def test_fetches_leave_room_for_orders(open_bench: Callable[..., AdapterBench], kind: str) -> None:
    bench = open_bench(kind, requests_per_minute=40, data_requests_per_minute=40)
    with pytest.raises(PacingViolation) as held:
        again(lambda: bench.broker.get_market_data("AAPL"))
    assert held.value.retry_after
    assert bench.broker.place_order(ticket()).broker_order_id


def test_a_fetch_asks_for_data_whatever_it_reads(open_bench: Callable[..., AdapterBench]) -> None:
    bench = open_bench("alpaca", requests_per_minute=40)
    with using(Use.DATA), pytest.raises(QuotaExhausted):
        again(bench.broker.get_positions)
    assert bench.broker.get_positions() == []


@pytest.mark.parametrize("sdk", ["ib_insync", "ib_async"])
def test_messages_to_tws_keep_their_pace(open_bench: Callable[..., AdapterBench], sdk: str) -> None:
    bench = open_bench(sdk, messages_per_second=20)
    bench.house.fault("ibkr", "rate_limit", None, per_second=22)
    sent = 0
    for _ in range(40):
        try:
            bench.broker.place_order(ticket())
            sent += 1
        except QuotaExhausted as held:
            time.sleep(min(held.retry_after or 0.0, 1.0))
    assert sent > 20
    assert lines(bench, "limited") == []


# -- THE BROKER'S OWN WORD ---
def test_a_429_holds_back_what_comes_after_it(open_bench: Callable[..., AdapterBench]) -> None:
    bench = open_bench("alpaca", requests_per_minute=1000)
    pushed: list[Report] = []
    bench.broker.updates(pushed.append)
    eventually(lambda: bench.broker.is_streaming)
    bench.broker.place_order(ticket())
    eventually(lambda: pushed)  # so the stream has read what it had missed, and asks no more beside us
    bench.house.fault("alpaca", "rate_limit", None, per_minute=0)
    with pytest.raises(RateLimited) as told:
        bench.broker.place_order(ticket())
    assert told.value.retry_after
    for ask in (lambda: bench.broker.place_order(ticket()), bench.broker.get_positions):
        with pytest.raises(QuotaExhausted) as held:
            ask()
        assert held.value.retry_after == pytest.approx(told.value.retry_after, abs=3)
    asked = [line["operation"] for line in lines(bench, "limited") if line["operation"] != "stream"]
    assert asked == ["place"], "the broker was not asked again"


def test_the_headers_of_an_answer_count_what_others_have_used(open_bench: Callable[..., AdapterBench]) -> None:
    """Another program with the same keys has used most of Alpaca's limit: its own count says so."""
    bench = open_bench("alpaca", requests_per_minute=1000)
    other = bench.another(requests_per_minute=0)
    other.connect()
    bench.house.fault("alpaca", "rate_limit", None, per_minute=200)
    again(other.get_positions, 110)
    other.disconnect()
    assert bench.broker.get_positions() == []  # told: less than 90 of 200 are left
    with pytest.raises(PacingViolation):
        bench.broker.get_market_data("AAPL")
    assert bench.broker.place_order(ticket()).broker_order_id
    assert lines(bench, "limited") == []


def test_an_unreadable_header_changes_nothing(open_bench: Callable[..., AdapterBench]) -> None:
    bench = open_bench("alpaca")
    bench.door.told_of = lambda _: {"X-RateLimit-Limit": "0", "X-RateLimit-Remaining": "x", "X-RateLimit-Reset": ""}
    bench.house.fault("alpaca", "rate_limit", None, per_minute=200)
    for _ in range(3):
        assert bench.broker.get_positions() == []


def test_error_100_makes_a_pause(open_bench: Callable[..., AdapterBench]) -> None:
    bench = open_bench("ib_insync", messages_per_second=45)
    bench.house.fault("ibkr", "rate_limit", None, per_second=0)
    with pytest.raises(BrokerError):
        bench.broker.get_orders()
    assert lines(bench, "limited")
    bench.house.clear()
    (budget,) = bench.broker.limits.budgets.values()
    assert budget._word[0] == 0.0, "the budget knows"


# -- SETTINGS ---
@pytest.mark.parametrize(
    ("adapter", "keys"),
    [
        (AlpacaBroker, {"key_id": "k", "secret_key": "s", "requests_per_minute": -1}),
        (AlpacaBroker, {"key_id": "k", "secret_key": "s", "data_requests_per_minute": "lots"}),
        (AlpacaBroker, {"key_id": "k", "secret_key": "s", "budget_window": 0}),
        (TdaBroker, {"api_key": "k", "refresh_token": "r", "base_url": "http://h/v1", "requests_per_minute": "x"}),
        (SchwabBroker, {"api_key": "k", "refresh_token": "r", "app_secret": "s", "base_url": "http://h",
                        "budget_window": 0.1}),
        (IbkrBroker, {"messages_per_second": 0}),
        (IbkrBroker, {"history_per_10_minutes": -1}),
    ],
)  # fmt: skip
def test_a_wrong_budget_is_refused_before_anything_is_opened(adapter: Any, keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"brokers\.x"):
        adapter.check_settings("x", BrokerSettings(adapter="x", **keys))
