"""The IB adapter against the sandbox's TWS door, with both SDKs: what it says about an order must be true."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import (
    BrokerError,
    ConfigurationError,
    ConnectionLost,
    DataError,
    InstrumentUnknown,
    InsufficientFunds,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    QuotaExhausted,
    Refused,
    Stale,
    SubmitTimeout,
    Unmapped,
    Unsupported,
)
from models.messages import OrderRequest
from models.reports import Ambiguous, BrokerStatus, CommissionReport, FillReport, Found, Missing, OrderReport, Report
from models.settings import BrokerSettings
from tests.contract.doors import Sandbox, eventually, sandbox
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr import IbkrBroker
from worker.sandbox.faults import Fault
from worker.sandbox.tws import TwsDoor

SDKS = ("ib_insync", "ib_async")
DONE = (BrokerStatus.FILLED, BrokerStatus.CANCELED)


class Gateway:
    """A TWS door, and adapters connected to it."""

    def __init__(self, house: Sandbox, sdk: str) -> None:
        self.house, self.sdk = house, sdk
        self.door: Any = house.open(lambda market: TwsDoor(market))  # type: ignore[arg-type, return-value]
        self.brokers: list[IbkrBroker] = []

    def broker(self, client_id: int = 1, connect: bool = True, **settings: object) -> IbkrBroker:
        values = {"port": self.door.port, "client_id": client_id, "sdk": self.sdk, "request_timeout": 1}
        broker = IbkrBroker("ibkr", BrokerSettings(adapter="ibkr", **{**values, **settings}))  # type: ignore[arg-type]
        self.brokers.append(broker)
        if connect:
            broker.connect()
        return broker

    def fault(self, kind: str, count: int | None = 1, operation: str | None = None, **options: Any) -> None:
        fault = Fault("ibkr", kind, count, operation=operation, options=options)
        self.house.call(lambda: self.house.market.faults.add(fault))

    def close(self) -> None:
        for broker in self.brokers:
            broker.disconnect()


@pytest.fixture(params=SDKS)
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    with sandbox() as house:
        gateway = Gateway(house, request.param)
        yield gateway
        gateway.close()


def an_order(**changes: Any) -> OrderRequest:
    return OrderRequest(**{"symbol": "AAPL", "side": "buy", "quantity": 10, **changes})


def a_resting_order(**changes: Any) -> OrderRequest:
    return an_order(order_type="limit", limit_price="1.00", **changes)


def place(
    broker: IbkrBroker, ref: str, order: OrderRequest, deadline_s: float = 5.0, still_mine: Callable[[], None] = int
) -> OrderReport:
    ticket = Ticket(order=order, broker_client_order_id=ref, deadline_s=deadline_s, still_mine=still_mine)
    return broker.place_order(ticket)


def a_ref(ref: str, order: OrderRequest, broker_order_id: str | None = None) -> OrderRef:
    return OrderRef(order=order, broker_client_order_id=ref, broker_order_id=broker_order_id, sent_at=datetime.now(UTC))


def found(broker: IbkrBroker, ref: str, order: OrderRequest) -> OrderReport | None:
    sighting = broker.find_order(a_ref(ref, order))
    return sighting.report if isinstance(sighting, Found) else None


# -- PLACING ---
def test_a_market_order_is_accepted_then_filled_by_its_executions(gateway: Gateway) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    order = an_order()
    report = place(broker, "m1", order)
    assert report.broker_client_order_id == "m1"
    assert report.broker_order_id is not None
    assert report.status in (BrokerStatus.ACCEPTED, BrokerStatus.FILLED)
    eventually(lambda: [r for r in told if isinstance(r, CommissionReport)])
    fills = [r for r in told if isinstance(r, FillReport)]
    assert [(f.quantity, f.cumulative_quantity, f.broker_client_order_id) for f in fills] == [(10, 10, "m1")]
    assert fills[0].filled_at.tzinfo is not None
    assert abs(fills[0].filled_at - datetime.now(UTC)) < timedelta(minutes=1)
    last = [r for r in told if isinstance(r, OrderReport)][-1]
    assert (last.status, last.filled_quantity, last.broker_order_id) == ("filled", 10, report.broker_order_id)
    done = found(broker, "m1", order)
    assert done is not None
    assert (done.status, done.filled_quantity) == (BrokerStatus.FILLED, 10)
    assert [fill.commission for fill in done.fills] == [Decimal(1)]


def test_every_kind_of_order_reaches_the_broker_as_meant(gateway: Gateway) -> None:
    broker = gateway.broker()
    kinds: dict[str, dict[str, Any]] = {
        "limit": {"order_type": "limit", "limit_price": "1.5"},
        "stop": {"order_type": "stop", "stop_price": "900"},
        "stop-limit": {"order_type": "stop_limit", "stop_price": "900", "limit_price": "901"},
        "trail": {"order_type": "trailing_stop", "trail_percent": "5", "side": "buy"},
        "gtc": {"order_type": "limit", "limit_price": "1.5", "time_in_force": "gtc"},
        "extended": {"order_type": "limit", "limit_price": "1.5", "extended_hours": True},
        "class-share": {"order_type": "limit", "limit_price": "1.5", "symbol": "BRK.B"},
    }
    for ref, changes in kinds.items():
        place(broker, ref, an_order(**changes))
    seen = {r.broker_client_order_id: r for r in broker.get_orders()}
    assert set(seen) == set(kinds)
    for ref, changes in kinds.items():
        order, report = an_order(**changes), seen[ref]
        assert (report.symbol, report.order_type, report.side) == (order.symbol, order.order_type, order.side)
        assert (report.limit_price, report.stop_price) == (order.limit_price, order.stop_price)
        assert (report.time_in_force, report.quantity) == (order.time_in_force, order.quantity)


@pytest.mark.parametrize(
    ("code", "kind"), [(201, OrderRejected), (200, InstrumentUnknown), (110, OrderRejected), (434, OrderRejected)]
)
def test_a_definitive_no_is_refused_and_nothing_is_there(gateway: Gateway, code: int, kind: type[Refused]) -> None:
    broker = gateway.broker()
    gateway.fault("refuse", code=code, text="sandbox says no")
    with pytest.raises(kind, match="sandbox says no") as caught:
        place(broker, "no", an_order())
    assert caught.value.code == str(code)
    assert isinstance(broker.find_order(a_ref("no", an_order())), Missing)


def test_a_no_that_the_wire_confirms_is_refused(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("refuse", code=201, text="no", inactive=True)
    with pytest.raises(OrderRejected):
        place(broker, "no", an_order())


def test_too_little_money_is_refused_as_such(gateway: Gateway) -> None:
    with pytest.raises(InsufficientFunds):
        place(gateway.broker(), "rich", an_order(quantity=10_000_000))


def test_an_unknown_symbol_is_refused_before_anything_is_sent(gateway: Gateway) -> None:
    with pytest.raises(InstrumentUnknown):
        place(gateway.broker(), "nope", an_order(symbol="NOPE"))
    assert gateway.house.arrivals("ibkr") == []


@pytest.mark.parametrize("changes", [{"quantity": "0.5"}, {"extended_hours": True}])
def test_what_ib_cannot_do_is_not_sent(gateway: Gateway, changes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        place(gateway.broker(), "odd", an_order(**changes))
    assert gateway.house.arrivals("ibkr") == []


def test_a_claim_that_aged_out_is_not_sent(gateway: Gateway) -> None:
    def aged() -> None:
        raise Stale("the claim is too old")

    with pytest.raises(Stale):
        place(gateway.broker(), "old", an_order(), still_mine=aged)
    assert gateway.house.arrivals("ibkr") == []


def test_a_preset_notice_is_no_cancel(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("tif_preset")
    assert place(broker, "preset", an_order()).status is not BrokerStatus.CANCELED
    eventually(lambda: (r := found(broker, "preset", an_order())) and r.status is BrokerStatus.FILLED)


def test_an_order_held_for_locating_shares_is_accepted(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("locate_hold", seconds=30)
    report = place(broker, "held", an_order(side="sell_short"))
    assert (report.status, report.raw_status) == (BrokerStatus.ACCEPTED, "Inactive")


def test_an_unmapped_code_is_unknown_whatever_the_truth_is(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("refuse", code=10289, text="never seen before")
    with pytest.raises(Unmapped) as caught:
        place(broker, "odd", an_order())
    assert caught.value.code == "10289"


def test_an_order_whose_answer_is_swallowed_is_unknown_and_found(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("accept_hang")
    with pytest.raises(SubmitTimeout):
        place(broker, "mute", a_resting_order(), deadline_s=0.6)
    report = found(broker, "mute", a_resting_order())
    assert report is not None
    assert report.status is BrokerStatus.ACCEPTED


def test_an_order_that_was_swallowed_is_unknown_and_missing(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("hang")
    with pytest.raises(SubmitTimeout):
        place(broker, "gone", an_order(), deadline_s=0.6)
    assert isinstance(broker.find_order(a_ref("gone", an_order())), Missing)


def test_a_late_answer_is_told_as_an_update(gateway: Gateway) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault("slow", operation="place", seconds=0.8)
    with pytest.raises(SubmitTimeout):
        place(broker, "late", a_resting_order(), deadline_s=0.5)
    eventually(lambda: [r for r in told if isinstance(r, OrderReport) and r.broker_client_order_id == "late"])


def test_a_fill_without_any_status_is_seen(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("swallow_status")
    report = place(broker, "quiet", an_order())
    assert (report.status, report.filled_quantity) == (BrokerStatus.FILLED, 10)


def test_a_rejection_after_acceptance_is_told_with_its_code(gateway: Gateway) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault("reject_after_accept")
    place(broker, "undone", an_order())
    rejected = eventually(lambda: [r for r in told if isinstance(r, OrderReport) and r.status == "rejected"])
    assert (rejected[0].code, rejected[0].filled_quantity) == ("201", 0)


def test_doubled_statuses_change_nothing(gateway: Gateway) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault("duplicate_status")
    place(broker, "twice", an_order())
    eventually(lambda: [r for r in told if isinstance(r, CommissionReport)])
    assert len([r for r in told if isinstance(r, FillReport)]) == 1
    states = [r.status for r in told if isinstance(r, OrderReport)]
    assert len(states) == len(set(states))


def test_many_orders_from_many_threads_each_get_their_own_answer(gateway: Gateway) -> None:
    broker = gateway.broker(messages_per_second=400)
    refs = [f"b{n}" for n in range(60)]
    with ThreadPoolExecutor(16) as pool:
        reports = list(pool.map(lambda ref: place(broker, ref, an_order(quantity=1)), refs))
    assert [report.broker_client_order_id for report in reports] == refs
    assert len({report.broker_order_id for report in reports}) == 60
    assert len(gateway.house.arrivals("ibkr")) == 60


def test_our_own_pacing_holds_back_before_the_send_not_after(gateway: Gateway) -> None:
    broker = gateway.broker(messages_per_second=8)
    outcomes: list[object] = []
    for n in range(12):
        try:
            outcomes.append(place(broker, f"p{n}", an_order(quantity=1), deadline_s=0.5))
        except QuotaExhausted as error:
            outcomes.append(error)
    held = [o for o in outcomes if isinstance(o, QuotaExhausted)]
    assert held
    assert len(gateway.house.arrivals("ibkr")) == 12 - len(held)


# -- CANCELING ---
def test_a_cancel_is_requested_and_ends_the_order(gateway: Gateway) -> None:
    broker = gateway.broker()
    order = a_resting_order()
    place(broker, "c1", order)
    broker.cancel_order(a_ref("c1", order))
    report = eventually(lambda: (r := found(broker, "c1", order)) and r.status in DONE and r)
    assert report.status is BrokerStatus.CANCELED


def test_a_cancel_after_a_restart_finds_the_order_at_the_broker(gateway: Gateway) -> None:
    order = a_resting_order()
    first = gateway.broker(client_id=4)
    place(first, "c2", order)
    first.disconnect()
    again = gateway.broker(client_id=4)
    again.cancel_order(a_ref("c2", order))
    eventually(lambda: (r := found(again, "c2", order)) and r.status is BrokerStatus.CANCELED)


def test_only_the_client_that_placed_an_order_may_cancel_it(gateway: Gateway) -> None:
    order = a_resting_order()
    place(gateway.broker(client_id=5), "theirs", order)
    other = gateway.broker(client_id=6)
    with pytest.raises(Refused, match="not ours to cancel"):
        other.cancel_order(a_ref("theirs", order))
    report = found(other, "theirs", order)
    assert report is not None
    assert report.status is BrokerStatus.ACCEPTED


def test_a_refused_cancel_leaves_the_live_order_live(gateway: Gateway) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    order = a_resting_order()
    place(broker, "stubborn", order)
    gateway.fault("cancel_10148")
    with pytest.raises(Refused) as caught:
        broker.cancel_order(a_ref("stubborn", order))
    assert caught.value.code == "10148"
    report = found(broker, "stubborn", order)
    assert report is not None
    assert report.status is BrokerStatus.ACCEPTED
    assert {r.status for r in told if isinstance(r, OrderReport)} == {BrokerStatus.ACCEPTED}


def test_a_cancel_of_nothing_is_refused(gateway: Gateway) -> None:
    with pytest.raises(Refused, match="nothing to cancel"):
        gateway.broker().cancel_order(a_ref("never", an_order()))


# -- THE CONNECTION ---
def test_an_order_cut_off_after_it_left_is_unknown_and_found_after_reconnect(gateway: Gateway) -> None:
    broker = gateway.broker()
    order = an_order()
    gateway.fault("accept_drop")
    with pytest.raises(ConnectionLost):
        place(broker, "dropped", order)
    assert not broker.is_connected()
    with pytest.raises(NotConnected):
        place(broker, "next", order)
    with pytest.raises(NotConnected):
        broker.find_order(a_ref("dropped", order))
    before = broker.session
    broker.connect()
    assert broker.session > before
    report = eventually(lambda: (r := found(broker, "dropped", order)) and r.status is BrokerStatus.FILLED and r)
    assert [fill.quantity for fill in report.fills] == [10]
    assert len(gateway.house.arrivals("ibkr")) == 1


def test_an_outage_of_ib_gates_orders_and_raises_the_session_on_return(gateway: Gateway) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault("no_fill")
    order = an_order()
    place(broker, "before", order)
    session = broker.session
    gateway.fault("nightly_reset", seconds=0.5)
    eventually(lambda: not broker.is_connected())
    during = (lambda: place(broker, "during", order), broker.connect, lambda: broker.find_order(a_ref("x", order)))
    for attempt in during:
        with pytest.raises(NotConnected):
            attempt()
    gateway.house.call(lambda: gateway.house.market.release("ibkr"))
    eventually(broker.is_connected)
    assert broker.session == session + 1
    eventually(lambda: [r for r in told if isinstance(r, FillReport) and r.broker_client_order_id == "before"])
    assert found(broker, "during", order) is None


def test_an_order_in_flight_when_ib_is_lost_is_unknown(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("accept_hang")
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(place, broker, "flying", an_order())
        eventually(lambda: gateway.house.arrivals("ibkr"))
        gateway.fault("nightly_reset", seconds=0.2)
        with pytest.raises(ConnectionLost):
            flying.result(3)


def test_a_cut_and_a_reconnect_lose_no_fill(gateway: Gateway) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault("no_fill")
    place(broker, "away", an_order())
    gateway.fault("disconnect")
    eventually(lambda: not broker.is_connected())
    gateway.house.call(lambda: gateway.house.market.release("ibkr"))
    eventually(lambda: gateway.house.call(lambda: gateway.house.market.orders("ibkr")[0].state == "filled"))
    broker.connect()
    assert [r.quantity for r in told if isinstance(r, FillReport)] == [10]
    assert [f.broker_client_order_id for f in broker.get_fills(datetime.now(UTC) - timedelta(hours=1))] == ["away"]


def test_a_refused_port_is_not_connected_at_once(gateway: Gateway) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        broker = gateway.broker(connect=False, port=free.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(NotConnected):
            broker.connect()
    assert time.monotonic() - started < 2
    assert not broker.is_connected()


def test_a_gateway_that_is_down_comes_back(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("down", count=None)
    eventually(lambda: not broker.is_connected())
    with pytest.raises(NotConnected):
        broker.connect()
    gateway.house.clear()
    eventually(lambda: _connects(broker))
    place(broker, "back", an_order())


def _connects(broker: IbkrBroker) -> bool:
    try:
        broker.connect()
    except NotConnected:
        return False
    return broker.is_connected()


def test_a_client_id_in_use_says_so(gateway: Gateway) -> None:
    gateway.broker(client_id=9)
    second = gateway.broker(client_id=9, connect=False)
    started = time.monotonic()
    with pytest.raises(NotConnected, match=r"326 .*client id is already in use.*own client_id"):
        second.connect()
    assert time.monotonic() - started < 2
    assert gateway.brokers[0].is_connected()


def test_a_gateway_that_never_gets_ready_is_not_connected(gateway: Gateway) -> None:
    gateway.fault("no_next_valid_id")
    broker = gateway.broker(connect=False, connect_timeout=0.5)
    with pytest.raises(NotConnected):
        broker.connect()


def test_executions_that_cannot_be_read_keep_the_gate_closed(gateway: Gateway) -> None:
    gateway.fault("mute_executions")
    broker = gateway.broker(connect=False, request_timeout=0.3)
    with pytest.raises(NotConnected, match="executions"):
        broker.connect()
    broker.connect()


def test_a_silent_socket_is_noticed(gateway: Gateway) -> None:
    broker = gateway.broker(heartbeat=0.1)
    gateway.fault("hang", count=None, operation="time")
    eventually(lambda: not broker.is_connected())


def test_order_ids_are_never_used_again_after_a_rollback(gateway: Gateway) -> None:
    broker = gateway.broker()
    first = place(broker, "r1", a_resting_order())
    place(broker, "r2", an_order())
    eventually(lambda: (r := found(broker, "r2", an_order())) and r.status is BrokerStatus.FILLED)
    gateway.fault("rollback_next_valid_id")
    gateway.fault("disconnect")
    eventually(lambda: not broker.is_connected())
    broker.connect()
    second = place(broker, "r3", a_resting_order())
    assert second.broker_order_id != first.broker_order_id
    assert {r.broker_client_order_id for r in broker.get_orders()} == {"r1", "r3"}


def test_a_rollback_after_our_own_restart_is_caught_by_what_ib_shows(gateway: Gateway) -> None:
    first = gateway.broker()
    place(first, "old", a_resting_order())
    first.disconnect()
    gateway.fault("rollback_next_valid_id")
    second = gateway.broker()
    place(second, "new", a_resting_order())
    assert {r.broker_client_order_id for r in second.get_orders()} == {"old", "new"}


@pytest.mark.parametrize("port", [7496, 4001])
def test_a_live_port_without_live_is_a_configuration_error(gateway: Gateway, port: int) -> None:
    with pytest.raises(ConfigurationError, match="live = true"):
        gateway.broker(port=port)


def test_a_live_account_without_live_is_a_configuration_error(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sandbox.tws.ACCOUNT", "U7654321")
    with pytest.raises(ConfigurationError, match="U7654321 is a live account"):
        gateway.broker()


def test_an_account_must_be_named_if_there_are_several(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.sandbox.tws.ACCOUNT", "DU1000001,DU2")
    with pytest.raises(ConfigurationError, match="name one"):
        gateway.broker()
    broker = gateway.broker(account="DU1000001")
    place(broker, "named", an_order())


def test_nothing_is_imported_or_started_before_connect(gateway: Gateway) -> None:
    threads = threading.active_count()
    broker = gateway.broker(connect=False)
    assert threading.active_count() == threads
    assert not broker.is_connected()
    for call in (broker.get_positions, broker.get_orders, lambda: place(broker, "x", an_order())):
        with pytest.raises(NotConnected):
            call()
    broker.disconnect()


def test_disconnect_twice_and_connect_again_works(gateway: Gateway) -> None:
    broker = gateway.broker()
    broker.disconnect()
    broker.disconnect()
    assert not broker.is_connected()
    eventually(lambda: _connects(broker))
    place(broker, "again", an_order())


# -- READING ---
@pytest.mark.parametrize("operation", ["open_orders", "executions", "completed"])
def test_a_listing_that_does_not_answer_is_never_an_empty_one(gateway: Gateway, operation: str) -> None:
    broker = gateway.broker(request_timeout=0.3)
    gateway.fault("hang", operation=operation)
    with pytest.raises(BrokerError):
        broker.find_order(a_ref("x", an_order()))


def test_a_late_listing_does_not_answer_the_next_question(gateway: Gateway) -> None:
    broker = gateway.broker(request_timeout=0.3)
    place(broker, "here", a_resting_order())
    gateway.fault("slow", operation="open_orders", seconds=0.8)
    for _ in range(2):
        with pytest.raises(BrokerError):
            broker.get_orders()
    assert eventually(lambda: _orders(broker)) == ["here"]


def _orders(broker: IbkrBroker) -> list[str | None]:
    try:
        return [report.broker_client_order_id for report in broker.get_orders()]
    except BrokerError:
        return []


def test_an_unreadable_row_makes_a_listing_fail(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = gateway.broker()
    place(broker, "odd", an_order())
    eventually(lambda: (r := found(broker, "odd", an_order())) and r.status is BrokerStatus.FILLED)
    from worker.sandbox import tws_messages

    monkeypatch.setattr(tws_messages, "completed_order", lambda *_: tws_messages.encode(101, "garbage"))
    with pytest.raises(BrokerError, match="unreadable"):
        broker.find_order(a_ref("odd", an_order()))


def test_several_orders_are_found_in_one_reading(gateway: Gateway) -> None:
    broker = gateway.broker()
    for ref in ("f1", "f2"):
        place(broker, ref, a_resting_order())
    sightings = broker.find_orders([a_ref(ref, an_order()) for ref in ("f1", "f2", "f3")])
    assert [type(sighting) for sighting in sightings] == [Found, Found, Missing]


def test_an_order_is_found_by_its_perm_id(gateway: Gateway) -> None:
    broker = gateway.broker()
    report = place(broker, "p1", a_resting_order())
    sighting = broker.find_order(a_ref("another-name", an_order(), report.broker_order_id))
    assert isinstance(sighting, Found)
    assert sighting.report.broker_client_order_id == "p1"


def test_an_order_sent_on_an_earlier_day_is_never_called_missing(gateway: Gateway) -> None:
    ref = replace(a_ref("yesterday", an_order()), sent_at=datetime.now(UTC) - timedelta(days=1))
    assert isinstance(gateway.broker().find_order(ref), Ambiguous)


def test_a_partial_fill_is_told_with_its_quantity(gateway: Gateway) -> None:
    broker = gateway.broker()
    gateway.fault("partial")
    place(broker, "half", an_order())
    report = eventually(lambda: (r := found(broker, "half", an_order())) and r.filled_quantity and r)
    assert (report.status, report.filled_quantity) == (BrokerStatus.PARTIALLY_FILLED, 5)


def test_account_positions_quote_and_bars(gateway: Gateway) -> None:
    gateway.house.hold("ibkr", "MSFT", 7)
    broker = gateway.broker()
    account = broker.get_account_info()
    assert account.paper
    assert account.buying_power is not None
    assert account.buying_power > 0
    assert {p.symbol: p.quantity for p in broker.get_positions()} == {"MSFT": 7}
    quote = broker.get_market_data("SPY")
    assert quote.bid is not None
    assert quote.ask is not None
    assert 0 < quote.bid <= quote.ask
    end = datetime.now(UTC)
    for timeframe, days in (("1Min", 4), ("15Min", 30), ("1Day", 500), ("1Week", 200)):
        start = end - timedelta(days=days)
        bars = broker.get_historical_data("SPY", timeframe, start, end)
        starts = [bar.start for bar in bars]
        assert starts == sorted(set(starts))
        assert start <= starts[0]
        assert starts[-1] < end
    assert len(broker.get_historical_data("SPY", "1Day", end - timedelta(days=500), end)) > 330


def test_reads_that_fail_say_why(gateway: Gateway) -> None:
    broker = gateway.broker()
    end = datetime.now(UTC)
    with pytest.raises(DataError):
        broker.get_market_data("NOPE")
    gateway.fault("error_code", operation="quote", code=354, text="not subscribed")
    with pytest.raises(DataError, match="not subscribed"):
        broker.get_market_data("SPY")
    gateway.fault("error_code", operation="bars", code=162, text="Historical data request pacing violation")
    with pytest.raises(DataError, match="pacing"):
        broker.get_historical_data("SPY", "1Day", end - timedelta(days=5), end)
    with pytest.raises(Unsupported):
        broker.get_historical_data("SPY", "7Min", end - timedelta(days=5), end)


def test_a_callback_that_fails_does_no_harm(gateway: Gateway) -> None:
    def broken(_: Report) -> None:
        raise RuntimeError("strategy bug")

    broker = gateway.broker()
    broker.updates(broken)
    assert isinstance(place(broker, "cb", an_order()), OrderReport)


def test_a_stuck_loop_does_not_send_later(gateway: Gateway) -> None:
    broker = gateway.broker()
    place(broker, "warm", an_order())
    loop = broker._thread._loop
    assert loop is not None
    release = threading.Event()
    loop.call_soon_threadsafe(release.wait, 3)
    try:
        with pytest.raises(NotConnected, match="stuck"):
            place(broker, "stuck", an_order(), deadline_s=0.3)
    finally:
        release.set()
    assert isinstance(broker.find_order(a_ref("stuck", an_order())), Missing)


def test_no_foreign_exception_leaves_after_the_bytes(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = gateway.broker()
    place(broker, "warm", an_order())
    live = broker._live
    assert live is not None
    original = live.client.placeOrder

    def breaks_late(*args: object) -> None:
        original(*args)
        raise ValueError("SDK bug")

    def breaks_early(*_: object) -> None:
        raise ValueError("SDK bug")

    monkeypatch.setattr(live.client, "placeOrder", breaks_early)
    with pytest.raises(NotConnected):
        place(broker, "early", an_order())
    monkeypatch.setattr(live.client, "placeOrder", breaks_late)
    with pytest.raises(OutcomeUnknown):
        place(broker, "late", an_order())
    eventually(lambda: [line["client_order_id"] for line in gateway.house.arrivals("ibkr")] == ["warm", "late"])


def test_importing_the_adapter_imports_no_sdk() -> None:
    code = "import sys, worker.brokers.ibkr; sys.exit(any(m.startswith(('ib_', 'eventkit')) for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
