"""The Alpaca adapter against the sandbox's Alpaca door: real SDK, real HTTP, real websocket."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import (
    ConfigurationError,
    ConnectionLost,
    DataError,
    InstrumentUnknown,
    InsufficientFunds,
    NoData,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    PacingViolation,
    RateLimited,
    Refused,
    ServerError,
    Stale,
    SubmitTimeout,
    UnreadableReply,
    Unsupported,
)
from models.messages import OrderRequest
from models.reports import BrokerStatus, FillReport, Found, Missing, OrderReport
from models.settings import BrokerSettings
from models.vocabulary import Side
from tests.contract.doors import Sandbox, eventually, sandbox
from worker.brokers import alpaca, alpaca_stream
from worker.brokers.alpaca import AlpacaBroker
from worker.brokers.base import OrderRef, Ticket
from worker.sandbox.alpaca_door import AlpacaDoor


class Desk:
    """A connected adapter, what it pushed, and the market behind it."""

    def __init__(self, house: Sandbox, **settings: Any) -> None:
        self.house = house
        self.door: Any = house.open(lambda market: AlpacaDoor(market))
        self.reports: list[Any] = []
        self.broker = AlpacaBroker("alpaca", self.settings(**settings))
        self.broker.updates(self.reports.append)

    def settings(self, **more: Any) -> BrokerSettings:
        table = {"base_url": self.door.url, "data_url": self.door.url, "key_id": "k", "secret_key": "s", **more}
        return BrokerSettings(adapter="alpaca", **table)

    def place(self, order: OrderRequest, deadline_s: float = 3.0, **more: Any) -> OrderReport:
        return self.broker.place_order(ticket(order, deadline_s, **more))

    def find(self, order: OrderRequest) -> Any:
        return self.broker.find_order(ref(order))

    def settled(self, order: OrderRequest, status: BrokerStatus) -> OrderReport:
        return eventually(lambda: found.report if (found := self.find(order)).report.status is status else None)

    def pushed(self, kind: type, order: OrderRequest) -> list[Any]:
        ours = [r for r in self.reports if r.broker_client_order_id == order.client_order_id]
        return [r for r in ours if isinstance(r, kind)]

    def arrivals(self) -> int:
        return len(self.house.arrivals("alpaca"))


def order(symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> OrderRequest:
    return OrderRequest(symbol=symbol, side=side, quantity=quantity, **terms)


def resting(**terms: Any) -> OrderRequest:
    return order(order_type="limit", limit_price="1.00", **terms)


def ticket(wanted: OrderRequest, deadline_s: float = 3.0, still_mine: Any = lambda: None) -> Ticket:
    return Ticket(
        order=wanted,
        broker_client_order_id=wanted.client_order_id,
        deadline_s=deadline_s,
        still_mine=still_mine,
    )


def ref(wanted: OrderRequest, broker_order_id: str | None = None) -> OrderRef:
    return OrderRef(
        order=wanted,
        broker_client_order_id=wanted.client_order_id,
        broker_order_id=broker_order_id,
        sent_at=datetime.now(UTC),
    )


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(alpaca_stream, "FIRST_PAUSE_S", 0.05)
    for name in [name for name in os.environ if name.startswith("APCA_")]:
        monkeypatch.delenv(name)
    with sandbox() as house:
        found = Desk(house)
        found.broker.connect()
        eventually(lambda: found.broker.is_streaming)
        yield found
        found.broker.disconnect()


# -- ORDERS ---
def test_a_market_order_is_accepted_filled_and_pushed(desk: Desk) -> None:
    wanted = order()
    report = desk.place(wanted)
    assert report.status in (BrokerStatus.ACCEPTED, BrokerStatus.FILLED)
    assert report.broker_client_order_id == wanted.client_order_id
    (fill,) = eventually(lambda: desk.pushed(FillReport, wanted))
    assert (fill.quantity, fill.cumulative_quantity, fill.side) == (10, 10, Side.BUY)
    assert fill.broker_order_id == report.broker_order_id
    last = desk.settled(wanted, BrokerStatus.FILLED)
    assert (last.filled_quantity, last.avg_fill_price) == (10, fill.price)
    eventually(lambda: desk.pushed(OrderReport, wanted)[-1].status is BrokerStatus.FILLED)


def test_the_stream_and_the_activities_name_a_fill_differently_and_agree_on_its_sum(desk: Desk) -> None:
    began, wanted = datetime.now(UTC), order()
    desk.place(wanted)
    (pushed,) = eventually(lambda: desk.pushed(FillReport, wanted))
    (read,) = desk.broker.get_fills(began - timedelta(seconds=1))
    assert read.execution_id != pushed.execution_id
    same = ("broker_order_id", "cumulative_quantity", "quantity", "price", "symbol", "side")
    assert [getattr(read, name) for name in same] == [getattr(pushed, name) for name in same]


def test_a_partial_fill_is_a_state_of_its_own(desk: Desk) -> None:
    desk.house.fault("alpaca", "partial", symbol="AAPL")
    wanted = order()
    desk.place(wanted)
    report = desk.settled(wanted, BrokerStatus.PARTIALLY_FILLED)
    assert report.filled_quantity == 5


def test_a_limit_order_rests_is_listed_and_can_be_canceled(desk: Desk) -> None:
    wanted = resting(time_in_force="gtc")
    report = desk.place(wanted)
    assert report.status is BrokerStatus.ACCEPTED
    assert report.limit_price == 1
    assert [o.broker_order_id for o in desk.broker.get_orders()] == [report.broker_order_id]
    desk.broker.cancel_order(ref(wanted, report.broker_order_id))
    desk.settled(wanted, BrokerStatus.CANCELED)
    assert desk.broker.get_orders() == []
    with pytest.raises(Refused):
        desk.broker.cancel_order(ref(wanted, report.broker_order_id))


def test_an_order_can_be_canceled_by_our_id_alone(desk: Desk) -> None:
    wanted = resting()
    desk.place(wanted)
    desk.broker.cancel_order(ref(wanted))
    desk.settled(wanted, BrokerStatus.CANCELED)
    with pytest.raises(Refused):
        desk.broker.cancel_order(ref(order()))


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
def test_every_kind_of_order_arrives_exactly_as_written(desk: Desk, terms: dict[str, Any]) -> None:
    wanted = order(**terms)
    report = desk.place(wanted)
    assert (report.symbol, report.order_type, report.quantity) == ("AAPL", wanted.order_type, wanted.quantity)
    assert (report.limit_price, report.time_in_force) == (wanted.limit_price, wanted.time_in_force)
    (line,) = desk.house.arrivals("alpaca")
    assert line["client_order_id"] == wanted.client_order_id


def test_refusals_have_their_classes(desk: Desk) -> None:
    with pytest.raises(InsufficientFunds):
        desk.place(order(quantity=10**9))
    with pytest.raises(InstrumentUnknown):
        desk.place(order(symbol="ZZZZ"))
    with pytest.raises(OrderRejected) as caught:
        desk.place(order(order_type="limit", limit_price="100.001"))
    assert caught.value.code == "42210000"
    desk.house.fault("alpaca", "refuse")
    with pytest.raises(Refused):
        desk.place(order())
    assert desk.house.taken("alpaca") == 0


def test_what_alpaca_cannot_do_is_known_before_sending(desk: Desk) -> None:
    for wanted in (
        order(quantity="0.5", time_in_force="gtc"),
        order(extended_hours=True),
        order(order_type="limit", limit_price="1", time_in_force="gtc", extended_hours=True),
    ):
        with pytest.raises(Unsupported):
            desk.place(wanted)
    assert desk.arrivals() == 0


# -- UNKNOWN OUTCOMES ---
@pytest.mark.parametrize(
    ("fault", "options", "kind"),
    [
        ("accept_drop", {}, ConnectionLost),
        ("accept_hang", {}, SubmitTimeout),
        ("status", {"status": 500, "accepted": True, "operation": "place"}, ServerError),
        ("status", {"status": 504, "accepted": True, "operation": "place", "html": True}, ServerError),
    ],
)
def test_an_order_lost_on_the_way_back_is_unknown_sent_once_and_found(
    desk: Desk, fault: str, options: dict[str, Any], kind: type[Exception]
) -> None:
    desk.house.fault("alpaca", fault, **options)
    wanted, began = resting(), time.monotonic()
    with pytest.raises(kind):
        desk.place(wanted, deadline_s=0.7)
    assert time.monotonic() - began < 1.5
    assert desk.arrivals() == 1
    assert isinstance(desk.find(wanted), Found)


@pytest.mark.parametrize(
    ("fault", "options", "kind"),
    [("hang", {}, SubmitTimeout), ("status", {"status": 503, "operation": "place"}, ServerError)],
)
def test_an_order_lost_on_the_way_there_is_unknown_too_and_missing(
    desk: Desk, fault: str, options: dict[str, Any], kind: type[Exception]
) -> None:
    desk.house.fault("alpaca", fault, **options)
    wanted = order()
    with pytest.raises(kind):
        desk.place(wanted, deadline_s=0.7)
    assert desk.house.taken("alpaca") == 0
    seen = desk.find(wanted)
    assert isinstance(seen, Missing)
    assert wanted.client_order_id in seen.evidence


def test_an_id_that_exists_already_is_our_own_first_send(desk: Desk) -> None:
    wanted = resting()
    first = desk.place(wanted)
    assert desk.place(wanted).broker_order_id == first.broker_order_id
    assert desk.house.taken("alpaca") == 1


def test_an_id_that_exists_with_other_terms_is_unknown_and_never_adopted(desk: Desk) -> None:
    wanted = resting()
    desk.place(wanted)
    other = resting(quantity=11, client_order_id=wanted.client_order_id)
    with pytest.raises(UnreadableReply):
        desk.place(other)


def test_a_taken_id_that_cannot_be_looked_up_stays_unknown(desk: Desk) -> None:
    wanted = resting()
    desk.place(wanted)
    desk.house.fault("alpaca", "status", count=None, status=401, operation="find")
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)


def test_a_lookup_that_fails_is_no_proof_of_absence(desk: Desk) -> None:
    wanted = resting()
    desk.place(wanted)
    for options in ({"status": 404, "html": True}, {"status": 404, "code": 40400000}, {"status": 503}):
        desk.house.fault("alpaca", "status", count=None, operation="find", **options)
        with pytest.raises(OutcomeUnknown):
            desk.find(wanted)
        desk.house.clear()
    assert isinstance(desk.find(wanted), Found)


def test_throttling_is_a_refusal_with_a_time(desk: Desk) -> None:
    desk.house.fault("alpaca", "rate_limit", count=None, per_minute=0)
    with pytest.raises(RateLimited) as caught:
        desk.place(order())
    assert caught.value.retry_after is not None
    assert 0 <= caught.value.retry_after <= 62
    with pytest.raises(PacingViolation):
        desk.broker.get_market_data("AAPL")
    assert desk.house.taken("alpaca") == 0


def test_a_stale_claim_sends_nothing(desk: Desk) -> None:
    def still_mine() -> None:
        raise Stale("claimed long ago")

    with pytest.raises(Stale):
        desk.place(order(), still_mine=still_mine)
    assert desk.arrivals() == 0


def test_many_orders_at_once_each_get_their_own_answer(desk: Desk) -> None:
    wanted, found = [resting() for _ in range(24)], {}

    def send(one: OrderRequest) -> None:
        found[one.client_order_id] = desk.place(one).broker_client_order_id

    threads = [threading.Thread(target=send, args=(one,)) for one in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {one.client_order_id: one.client_order_id for one in wanted}
    before = desk.broker.find_orders([ref(one) for one in [*wanted, order()]])
    assert [type(one) for one in before] == [Found] * 24 + [Missing]


def test_listings_are_read_to_their_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca, "_PAGE", 3)
    monkeypatch.setattr(alpaca, "_FILLS_PAGE", 2)
    began = datetime.now(UTC) - timedelta(seconds=1)
    rest = [resting() for _ in range(7)]
    for one in rest:
        desk.place(one)
        time.sleep(0.003)  # pages overlap by a millisecond
    market = [order(quantity=1) for _ in range(5)]
    for one in market:
        desk.place(one)
        desk.settled(one, BrokerStatus.FILLED)
    listed = [o.broker_client_order_id for o in desk.broker.get_orders()]
    assert listed == [one.client_order_id for one in rest]
    everything = desk.broker.get_orders(open_only=False, since=began)
    assert {o.broker_client_order_id for o in everything} == {one.client_order_id for one in rest + market}
    assert len(desk.broker.get_fills(began)) == 5


def test_a_listing_that_does_not_advance_is_an_error_and_not_a_list(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = desk.place(resting())
    monkeypatch.setattr(alpaca, "_PAGE", 1)
    monkeypatch.setattr(alpaca.AlpacaBroker, "_rows", lambda *_: [report])
    with pytest.raises(UnreadableReply):
        desk.broker.get_orders()


# -- CONNECTION ---
def test_a_closed_door_sends_nothing_and_opens_again(desk: Desk) -> None:
    desk.house.fault("alpaca", "down", count=None)
    eventually(lambda: desk.door._site is None and not desk.door._runner.server.connections)
    with pytest.raises(NotConnected):
        desk.place(order())
    assert not desk.broker.is_connected()
    with pytest.raises(NotConnected):
        desk.broker.connect()
    desk.house.clear()
    eventually(lambda: desk.door._site is not None)
    desk.broker.connect()
    assert desk.broker.is_connected()
    desk.place(order())


def test_an_adapter_that_is_not_connected_sends_nothing(desk: Desk) -> None:
    desk.broker.disconnect()
    desk.broker.disconnect()
    assert not desk.broker.is_connected()
    with pytest.raises(NotConnected):
        desk.place(order())
    with pytest.raises(DataError):
        desk.broker.get_market_data("AAPL")
    desk.broker.connect()
    desk.place(order())


@pytest.mark.parametrize("ending", ["", "/", "/v2", "/v2/"])
def test_a_base_url_may_end_as_users_write_it(desk: Desk, ending: str) -> None:
    settings = desk.settings(base_url=desk.door.url + ending, data_url=desk.door.url + ending)
    broker = AlpacaBroker("other", settings)
    broker.connect()
    assert broker.get_account_info().paper
    assert broker.get_market_data("AAPL").bid
    broker.disconnect()


def test_wrong_keys_are_a_matter_of_configuration(desk: Desk) -> None:
    broker = AlpacaBroker("other", desk.settings(key_id="wrong"))
    with pytest.raises(ConfigurationError):
        broker.connect()
    assert not broker.is_connected()
    broker.disconnect()


def test_environment_of_the_sdk_does_not_lead_astray(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(
    "url", ["https://api.alpaca.markets", "https://API.alpaca.markets/v2", "https://api.alpaca.markets.:443/"]
)
def test_real_money_has_to_be_asked_for(url: str) -> None:
    keys = {"adapter": "alpaca", "key_id": "k", "secret_key": "s", "base_url": url}
    with pytest.raises(ConfigurationError, match="live = true"):
        AlpacaBroker.check_settings("alpaca", BrokerSettings(**keys))
    AlpacaBroker.check_settings("alpaca", BrokerSettings(**keys, live=True))


def test_a_url_that_is_none_is_refused() -> None:
    keys = {"adapter": "alpaca", "key_id": "k", "secret_key": "s", "base_url": "paper-api.alpaca.markets"}
    with pytest.raises(ConfigurationError, match="base_url"):
        AlpacaBroker.check_settings("alpaca", BrokerSettings(**keys))


# -- STREAM ---
def test_the_stream_comes_back_and_what_it_missed_is_read(desk: Desk) -> None:
    desk.house.fault("alpaca", "status", count=None, status=503, operation="stream")
    desk.house.fault("alpaca", "disconnect")
    eventually(lambda: not desk.broker.is_streaming)
    during, after = order(), order()
    desk.place(during)
    desk.settled(during, BrokerStatus.FILLED)
    assert not desk.reports
    desk.house.clear()
    eventually(lambda: desk.broker.is_streaming)
    eventually(lambda: [r.status for r in desk.pushed(OrderReport, during)] == [BrokerStatus.FILLED])
    assert [r.symbol for r in desk.reports if isinstance(r, FillReport)] == ["AAPL"]
    desk.place(after)
    eventually(lambda: desk.pushed(FillReport, after))


def test_an_unknown_event_is_read_again_over_rest(desk: Desk) -> None:
    desk.house.fault("alpaca", "garbage_update", count=10, replace=True, symbol="AAPL")
    wanted = order()
    desk.place(wanted)
    eventually(lambda: [r for r in desk.pushed(OrderReport, wanted) if r.status is BrokerStatus.FILLED])


def test_an_unreadable_frame_does_not_end_the_stream(desk: Desk) -> None:
    desk.house.fault("alpaca", "garbage_update", count=3, unreadable=True, symbol="AAPL")
    wanted = order()
    desk.place(wanted)
    eventually(lambda: desk.pushed(FillReport, wanted))


def test_a_callback_that_fails_does_not_end_the_stream(desk: Desk) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("the worker's fault")

    desk.broker.updates(fail)
    desk.place(order())
    desk.broker.updates(desk.reports.append)
    wanted = order()
    desk.place(wanted)
    eventually(lambda: desk.pushed(FillReport, wanted))


def test_a_stream_that_is_refused_does_not_keep_from_trading(desk: Desk) -> None:
    calls = []
    stream = alpaca_stream.TradeUpdates(
        "alpaca",
        f"ws://127.0.0.1:{desk.door.port}/stream",
        "wrong",
        "wrong",
        on_event=calls.append,
        on_gap=lambda: None,
    )
    stream.start()
    eventually(lambda: stream._complaint)
    assert "not authorized" in str(stream._complaint)
    assert not stream.is_listening
    stream.stop()
    assert desk.broker.is_connected()


# -- DATA ---
def test_account_positions_and_quotes_are_in_our_words(desk: Desk) -> None:
    desk.house.hold("alpaca", "MSFT", 7)
    desk.house.hold("alpaca", "TSLA", -3)
    account = desk.broker.get_account_info()
    assert account.cash
    assert account.buying_power
    assert {p.symbol: p.quantity for p in desk.broker.get_positions()} == {"MSFT": 7, "TSLA": -3}
    quote = desk.broker.get_market_data("AAPL")
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid <= quote.ask
    assert quote.bid_size is not None
    assert quote.bid_size % 100 == 0
    with pytest.raises(NoData):
        desk.broker.get_market_data("ZZZZ")


def test_bars_are_paged_ordered_and_within_their_range(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca, "_BARS_PAGE", 100)
    start, end = datetime(2026, 1, 5, 15, tzinfo=UTC), datetime(2026, 1, 5, 20, tzinfo=UTC)
    bars = desk.broker.get_historical_data("AAPL", "1Min", start, end)
    assert len(bars) == 300
    assert [bar.start for bar in bars] == [start + timedelta(minutes=n) for n in range(300)]
    assert all(isinstance(bar.close, Decimal) and bar.low <= bar.close <= bar.high for bar in bars)
    monkeypatch.undo()
    for timeframe in desk.broker.capabilities.timeframes:
        back = timedelta(hours=2) if timeframe.endswith("Min") else timedelta(days=40)
        assert desk.broker.get_historical_data("AAPL", timeframe, end - back, end)
    with pytest.raises(Unsupported):
        desk.broker.get_historical_data("AAPL", "7Min", start, end)
    with pytest.raises(NoData):
        desk.broker.get_historical_data("AAPL", "1Min", start.replace(day=4), start.replace(day=4, hour=16))


def test_a_failed_read_of_data_is_a_data_error(desk: Desk) -> None:
    desk.house.fault("alpaca", "status", count=None, status=500, operation="quote")
    with pytest.raises(DataError):
        desk.broker.get_market_data("AAPL")


def test_secrets_stay_out_of_reprs() -> None:
    settings = BrokerSettings(adapter="alpaca", key_id="my-key", secret_key="my-secret")
    access = alpaca.access_from("alpaca", settings)
    assert "my-" not in repr(access) + repr(settings)
