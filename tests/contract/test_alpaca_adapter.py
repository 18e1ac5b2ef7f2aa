"""The Alpaca adapter against the sandbox's Alpaca door: real SDK, real HTTP, real websocket."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import (
    ConfigurationError,
    NoData,
    OrderRejected,
    PacingViolation,
    RateLimited,
    ServerError,
    UnreadableReply,
    Unsupported,
)
from models.reports import BrokerStatus, FillReport, OrderReport
from models.settings import BrokerSettings
from tests.contract.connected_alpaca import ConnectedAlpaca, desk, order, ref, resting, ticket
from tests.kit.waiting import eventually
from worker.brokers.alpaca import adapter as alpaca
from worker.brokers.alpaca import listings as alpaca_listings
from worker.brokers.alpaca import prices as alpaca_prices
from worker.brokers.alpaca.adapter import AlpacaBroker

__all__ = ["desk"]

# -- ORDERS ---


def test_the_stream_and_the_activities_name_a_fill_alike_and_agree_on_its_sum(desk: ConnectedAlpaca) -> None:
    began, wanted = datetime.now(UTC), order()
    desk.place(wanted)
    (pushed,) = eventually(lambda: desk.pushed(FillReport, wanted))
    (read,) = desk.broker.get_fills(began - timedelta(seconds=1))
    assert read.execution_id == pushed.execution_id
    same = ("broker_order_id", "cumulative_quantity", "quantity", "price", "symbol", "side")
    assert [getattr(read, name) for name in same] == [getattr(pushed, name) for name in same]


@pytest.mark.parametrize(
    "terms",
    [
        {"order_type": "stop", "stop_price": "999.5"},
        {"order_type": "stop_limit", "stop_price": "999.5", "limit_price": "1000.25"},
        {"order_type": "trailing_stop", "side": "sell_short", "trail_percent": "1.5"},
        {"order_type": "trailing_stop", "side": "sell_short", "trail_amount": "2.25"},
        {"order_type": "limit", "limit_price": "1.05", "extended_hours": True},
        {"order_type": "limit", "limit_price": "0.1234", "quantity": "0.5"},
        {"order_type": "limit", "limit_price": "1", "side": "buy_to_cover", "time_in_force": "gtc"},
    ],
)
def test_every_kind_of_order_arrives_exactly_as_written(desk: ConnectedAlpaca, terms: dict[str, Any]) -> None:
    wanted = order(**terms)
    report = desk.place(wanted)
    assert (report.symbol, report.order_type, report.quantity) == ("AAPL", wanted.order_type, wanted.quantity)
    assert (report.limit_price, report.time_in_force) == (wanted.limit_price, wanted.time_in_force)
    (line,) = desk.house.arrivals("alpaca")
    assert line["client_order_id"] == wanted.client_order_id


def test_a_price_below_a_penny_is_refused_with_alpacas_code(desk: ConnectedAlpaca) -> None:
    with pytest.raises(OrderRejected) as caught:
        desk.place(order(order_type="limit", limit_price="100.001"))
    assert caught.value.code == "42210000"


def test_what_alpaca_cannot_do_is_known_before_sending(desk: ConnectedAlpaca) -> None:
    for wanted in (
        order(quantity="0.5", time_in_force="gtc"),
        order(extended_hours=True),
        order(order_type="limit", limit_price="1", time_in_force="gtc", extended_hours=True),
    ):
        with pytest.raises(Unsupported):
            desk.place(wanted)
    assert desk.arrivals() == 0


# -- UNKNOWN OUTCOMES ---


def test_throttling_is_a_refusal_with_a_time(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "rate_limit", count=None, per_minute=0)
    with pytest.raises(RateLimited) as caught:
        desk.place(order())
    assert caught.value.retry_after is not None
    assert 0 <= caught.value.retry_after <= 62
    with pytest.raises(PacingViolation):
        desk.broker.get_market_data("AAPL")
    assert desk.house.taken("alpaca") == 0


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def test_listings_are_read_to_their_end(desk: ConnectedAlpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca_listings, "ORDERS_PAGE", 3)
    monkeypatch.setattr(alpaca_listings, "FILLS_PAGE", 2)
    began = datetime.now(UTC) - timedelta(seconds=1)
    rest = [resting() for _ in range(7)]
    for one in rest:
        desk.place(one)
        placed_at = milliseconds()
        eventually(lambda at=placed_at: milliseconds() > at + 1)  # pages overlap by a millisecond
    market = [order(quantity=1) for _ in range(5)]
    for one in market:
        desk.place(one)
        desk.settled(one, BrokerStatus.FILLED)
    listed = [o.broker_client_order_id for o in desk.broker.get_orders()]
    assert listed == [one.client_order_id for one in rest]
    everything = desk.broker.get_orders(open_only=False, since=began)
    assert {o.broker_client_order_id for o in everything} == {one.client_order_id for one in rest + market}
    assert len(desk.broker.get_fills(began)) == 5


@pytest.mark.parametrize("others", [3, 30])
def test_several_orders_are_looked_up_in_requests_that_do_not_grow_with_what_came_since(
    desk: ConnectedAlpaca, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    monkeypatch.setattr(alpaca_listings, "ORDERS_PAGE", 2)
    rest = [resting() for _ in range(7)]
    for one in rest:
        desk.place(one)
    for _ in range(others):
        desk.place(resting())
    desk.house.fault("alpaca", "rate_limit", per_minute=10_000)
    seen = desk.broker.find_orders([ref(one) for one in rest])
    assert [found.report.broker_client_order_id for found in seen] == [one.client_order_id for one in rest]
    assert len(desk.door._calls) <= len(rest) + len(rest) // 3


def test_a_listing_that_does_not_advance_is_an_error_and_not_a_list(
    desk: ConnectedAlpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.place(resting())
    monkeypatch.setattr(
        alpaca_listings, "ORDERS_PAGE", 1
    )  # and the overlap of a millisecond shows the same order again
    with pytest.raises(UnreadableReply):
        desk.broker.get_orders()


# -- CONNECTION ---


@pytest.mark.parametrize("ending", ["", "/", "/v2", "/v2/"])
def test_a_base_url_may_end_as_users_write_it(desk: ConnectedAlpaca, ending: str) -> None:
    settings = desk.settings(base_url=desk.door.url + ending, data_url=desk.door.url + ending)
    broker = AlpacaBroker("other", settings)
    broker.connect()
    assert broker.get_account_info().paper
    assert broker.get_market_data("AAPL").bid
    broker.disconnect()


def test_environment_of_the_sdk_does_not_lead_astray(desk: ConnectedAlpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "APCA_API_BASE_URL": "https://api.alpaca.markets",
        "APCA_API_DATA_URL": "http://127.0.0.1:9",
        "APCA_API_OAUTH_TOKEN": "wrong",
        "APCA_API_VERSION": "v9",
        "APCA_RETRY_MAX": "5",
    }.items():
        monkeypatch.setenv(name, value)
    broker = AlpacaBroker("other", desk.settings())
    broker.connect()
    assert broker.get_market_data("AAPL").ask
    desk.house.fault("alpaca", "status", count=None, status=504, operation="place")
    with pytest.raises(ServerError):
        broker.place_order(ticket(order()))
    assert desk.arrivals() == 1
    broker.disconnect()


def test_keys_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    bare = BrokerSettings(adapter="alpaca")
    with pytest.raises(ConfigurationError, match="key_id"):
        AlpacaBroker.check_settings("alpaca", bare)
    monkeypatch.setenv("APCA_API_KEY_ID", "k")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "s")
    AlpacaBroker.check_settings("alpaca", bare)


def test_a_url_that_is_none_is_refused() -> None:
    keys = {"adapter": "alpaca", "key_id": "k", "secret_key": "s", "base_url": "paper-api.alpaca.markets"}
    with pytest.raises(ConfigurationError, match="base_url"):
        AlpacaBroker.check_settings("alpaca", BrokerSettings(**keys))


# -- STREAM ---


def test_an_unknown_event_is_read_again_over_rest(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "garbage_update", count=10, replace=True, symbol="AAPL")
    wanted = order()
    desk.place(wanted)
    eventually(lambda: [r for r in desk.pushed(OrderReport, wanted) if r.status is BrokerStatus.FILLED])


def test_an_unreadable_frame_does_not_end_the_stream(desk: ConnectedAlpaca) -> None:
    desk.house.fault("alpaca", "garbage_update", count=3, unreadable=True, symbol="AAPL")
    wanted = order()
    desk.place(wanted)
    eventually(lambda: desk.pushed(FillReport, wanted))


# -- DATA ---
def test_sizes_of_a_quote_are_the_feeds_own_numbers_and_say_so(desk: ConnectedAlpaca) -> None:
    quote = desk.broker.get_market_data("AAPL")
    assert quote.bid_size
    assert quote.size_unit == "unspecified"


def test_bars_are_paged_ordered_and_within_their_range(desk: ConnectedAlpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca_prices, "BARS_PAGE", 100)
    start, end = datetime(2026, 1, 5, 15, tzinfo=UTC), datetime(2026, 1, 5, 20, tzinfo=UTC)
    bars = desk.broker.get_historical_data("AAPL", "1Min", start, end)
    assert len(bars) == 300
    assert [bar.start for bar in bars] == [start + timedelta(minutes=n) for n in range(300)]
    assert all(isinstance(bar.close, Decimal) and bar.low <= bar.close <= bar.high for bar in bars)
    with pytest.raises(NoData):
        desk.broker.get_historical_data("AAPL", "1Min", start.replace(day=4), start.replace(day=4, hour=16))


def test_secrets_stay_out_of_reprs() -> None:
    settings = BrokerSettings(adapter="alpaca", key_id="my-key", secret_key="my-secret")
    access = alpaca.access_from("alpaca", settings)
    assert "my-" not in repr(access) + repr(settings)
