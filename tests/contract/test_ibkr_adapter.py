"""The IB adapter against the sandbox's TWS door, with both SDKs: what it says about an order must be true."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import (
    BrokerError,
    ConfigurationError,
    InstrumentUnknown,
    NotConnected,
    NotPermitted,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    Refused,
    SubmitTimeout,
    Unsupported,
)
from models.reports import Ambiguous, BrokerStatus, CommissionReport, FillReport, Found, Missing, OrderReport, Report
from tests.contract.tws_doors import TwsDoors, a_ref, a_resting_order, an_order, found, gateway, place
from tests.kit.waiting import eventually
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.sandbox.market.accounts import Books

__all__ = ["gateway"]


# -- PLACING ---
def test_a_commission_follows_its_execution(gateway: TwsDoors) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    order = an_order()
    place(broker, "m1", order)
    (commission,) = eventually(lambda: [r for r in told if isinstance(r, CommissionReport)])
    (fill,) = (r for r in told if isinstance(r, FillReport))
    assert (commission.execution_id, commission.commission) == (fill.execution_id, Decimal(1))
    done = found(broker, "m1", order)
    assert done is not None
    assert [fill.commission for fill in done.fills] == [Decimal(1)]


def test_every_kind_of_order_reaches_the_broker_as_meant(gateway: TwsDoors) -> None:
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
    ("code", "kind"), [(201, OrderRejected), (200, InstrumentUnknown), (203, NotPermitted), (321, OrderRejected)]
)
def test_a_definitive_no_is_refused_and_nothing_is_there(gateway: TwsDoors, code: int, kind: type[Refused]) -> None:
    broker = gateway.broker()
    gateway.fault("refuse", code=code, text="sandbox says no")
    with pytest.raises(kind, match="sandbox says no") as caught:
        place(broker, "no", an_order())
    assert caught.value.code == str(code)
    assert isinstance(broker.find_order(a_ref("no", an_order())), Missing)


def test_an_unknown_symbol_is_refused_before_anything_is_sent(gateway: TwsDoors) -> None:
    with pytest.raises(InstrumentUnknown):
        place(gateway.broker(), "nope", an_order(symbol="NOPE"))
    assert gateway.house.arrivals("ibkr") == []


@pytest.mark.parametrize("changes", [{"quantity": "0.5"}, {"extended_hours": True}])
def test_what_ib_cannot_do_is_not_sent(gateway: TwsDoors, changes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        place(gateway.broker(), "odd", an_order(**changes))
    assert gateway.house.arrivals("ibkr") == []


def test_a_late_answer_is_told_as_an_update(gateway: TwsDoors) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault("slow", operation="place", seconds=0.8)
    with pytest.raises(SubmitTimeout):
        place(broker, "late", a_resting_order(), deadline_s=0.5)
    eventually(lambda: [r for r in told if isinstance(r, OrderReport) and r.broker_client_order_id == "late"])


def test_a_rejection_after_acceptance_is_told_with_its_code(gateway: TwsDoors) -> None:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault("reject_after_accept")
    order = an_order()
    place(broker, "undone", order)

    def rejection() -> OrderReport | None:
        """A refusal that comes before its sender was answered is told by the next reading."""
        shown = [r for r in (*told, found(broker, "undone", order)) if isinstance(r, OrderReport)]
        return next((report for report in shown if report.status == "rejected"), None)

    rejected = eventually(rejection)
    assert (rejected.code, rejected.filled_quantity) == ("201", 0)


# -- CANCELING ---


def test_a_cancel_goes_to_the_worker_whose_client_id_placed_the_order(gateway: TwsDoors) -> None:
    order = a_resting_order()
    placed = place(gateway.broker(client_id=5), "theirs", order)
    other = gateway.broker(client_id=6)
    assert (placed.session, other.order_session) == ("5", "6")
    with pytest.raises(NotSent, match="belongs to client id 5, under which somebody is connected"):
        other.cancel_order(a_ref("theirs", order))
    report = found(other, "theirs", order)
    assert report is not None
    assert (report.status, report.session) == (BrokerStatus.ACCEPTED, "5")


def test_an_order_whose_worker_is_gone_is_canceled_under_its_client_id(gateway: TwsDoors) -> None:
    """Both client ids count from 1: under our own id the cancel would hit our own order."""
    order, owner, other = a_resting_order(), gateway.broker(client_id=5), gateway.broker(client_id=6)
    placed = [place(owner, "theirs", order), place(other, "ours", order)]
    owner.disconnect()
    eventually(lambda: 5 not in gateway.house.call(lambda: dict(gateway.door.sessions)))
    other.cancel_order(a_ref("theirs", order, placed[0].broker_order_id))
    eventually(lambda: (seen := found(other, "theirs", order)) and seen.status is BrokerStatus.CANCELED)
    mine = found(other, "ours", order)
    assert mine is not None
    assert mine.status is BrokerStatus.ACCEPTED
    assert other.is_connected()
    owner.connect()  # the id is free again


# -- THE CONNECTION ---


def test_a_gateway_that_never_gets_ready_is_not_connected(gateway: TwsDoors) -> None:
    gateway.fault("no_next_valid_id")
    broker = gateway.broker(connect=False, connect_timeout=0.5)
    with pytest.raises(NotConnected):
        broker.connect()


def test_a_silent_socket_is_noticed(gateway: TwsDoors) -> None:
    broker = gateway.broker(heartbeat=0.1)
    gateway.fault("hang", count=None, operation="time")
    eventually(lambda: not broker.is_connected())


@pytest.mark.parametrize("port", [7496, 4001])
def test_a_live_port_without_live_is_a_configuration_error(gateway: TwsDoors, port: int) -> None:
    with pytest.raises(ConfigurationError, match="live = true"):
        gateway.broker(port=port)


def test_a_live_account_without_live_is_a_configuration_error(gateway: TwsDoors) -> None:
    gateway.house.market.books = Books({"ibkr": ["U7654321"]})
    with pytest.raises(ConfigurationError, match="U7654321, a live account"):
        gateway.broker()


def test_an_account_must_be_named_if_there_are_several(gateway: TwsDoors) -> None:
    gateway.house.market.books = Books({"ibkr": ["DU1000001", "DU1000002"]})
    with pytest.raises(ConfigurationError, match="name one"):
        gateway.broker()
    broker = gateway.broker(account="DU1000001")
    place(broker, "named", an_order())


# -- READING ---


def test_a_late_listing_does_not_answer_the_next_question(gateway: TwsDoors) -> None:
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


def test_an_order_is_found_by_its_perm_id(gateway: TwsDoors) -> None:
    broker = gateway.broker()
    report = place(broker, "p1", a_resting_order())
    sighting = broker.find_order(a_ref("another-name", an_order(), report.broker_order_id))
    assert isinstance(sighting, Found)
    assert sighting.report.broker_client_order_id == "p1"


def test_an_order_sent_on_an_earlier_day_is_never_called_missing(gateway: TwsDoors) -> None:
    ref = replace(a_ref("yesterday", an_order()), sent_at=datetime.now(UTC) - timedelta(days=1))
    assert isinstance(gateway.broker().find_order(ref), Ambiguous)


def test_bars_of_a_long_time_are_read_in_several_requests(gateway: TwsDoors) -> None:
    broker, end = gateway.broker(), datetime.now(UTC)
    bars = broker.get_historical_data("SPY", "1Day", end - timedelta(days=500), end)
    starts = [bar.start for bar in bars]
    assert starts == sorted(set(starts))
    assert len(bars) > 330


def test_a_stuck_loop_does_not_send_later(gateway: TwsDoors) -> None:
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


def test_no_foreign_exception_leaves_after_the_bytes(gateway: TwsDoors, monkeypatch: pytest.MonkeyPatch) -> None:
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
