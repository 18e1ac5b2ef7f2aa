"""What was learnt from a real gateway and from public bug reports, as small inputs of our own through both SDKs."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from models.errors import NotConnected, Unsupported
from models.reports import Ambiguous, BrokerStatus
from models.terms import contradictions
from tests.contract.tws_doors import SDKS, TwsDoors, a_ref, a_resting_order, an_order, found, gateway, place
from tests.kit.waiting import eventually
from worker.sandbox.tws import messages as tws_messages
from worker.sandbox.tws.wire import encode

__all__ = ["gateway"]


# -- ROWS THAT CANNOT BE READ ---
def spoil(monkeypatch: pytest.MonkeyPatch, name: str, client_id: int, place: int | None) -> None:
    """Spoil one field of a message about orders of one client, or cut the message short for None."""
    whole = getattr(tws_messages, name)

    def spoilt(tws: Any, *rest: Any) -> bytes:
        frame: bytes = whole(tws, *rest)
        if tws.client_id != client_id:
            return frame
        fields = frame[4:].decode().split("\0")[:-1]
        if place is None:
            return encode(*fields[:40])
        fields[place] = "x?"
        return encode(*fields)

    monkeypatch.setattr(tws_messages, name, spoilt)


@pytest.mark.parametrize("place_of", [2, 6, 14, 16, 17, 24, 28, 60, 74, None])
def test_an_open_order_of_somebody_else_that_cannot_be_read_closes_nothing(
    gateway: TwsDoors, monkeypatch: pytest.MonkeyPatch, place_of: int | None
) -> None:
    order, theirs = a_resting_order(), gateway.broker(client_id=9)
    place(theirs, "theirs", order)
    spoil(monkeypatch, "open_order", 9, place_of)
    broker = gateway.broker()
    place(broker, "ours", order)
    report = found(broker, "ours", order)
    assert report is not None
    assert report.status is BrokerStatus.ACCEPTED
    assert "ours" in [report.broker_client_order_id for report in broker.get_orders()]
    assert not isinstance(broker.find_order(a_ref("never-sent", order)), Ambiguous)
    gateway.broker(client_id=3)


def test_an_open_order_of_ours_that_cannot_be_read_is_unknown_for_that_order_only(
    gateway: TwsDoors, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, before = a_resting_order(), gateway.broker(client_id=9)
    placed = place(before, "odd", order)
    place(before, "even", an_order())
    spoil(monkeypatch, "open_order", 9, 14)
    broker = gateway.broker()
    sighting = broker.find_order(a_ref("odd", order, placed.broker_order_id))
    assert isinstance(sighting, Ambiguous)
    assert "'odd'" in sighting.words
    eventually(lambda: (even := found(broker, "even", an_order())) and even.status is BrokerStatus.FILLED)


# -- CONNECTING ---
@pytest.mark.parametrize("sdk", SDKS)
def test_a_peer_that_closes_at_once_ends_the_wait_at_once(sdk: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_everything() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=close_everything, daemon=True).start()
        house: Any = None
        gateway = TwsDoors.__new__(TwsDoors)
        gateway.house, gateway.sdk, gateway.brokers = house, sdk, []
        gateway.door = type("Door", (), {"port": server.getsockname()[1]})
        broker, began = gateway.broker(connect=False, connect_timeout=20), time.monotonic()
        with pytest.raises(NotConnected, match=r"closed|reset by peer"):
            broker.connect()
        assert time.monotonic() - began < 10, "the wait went on after the peer was gone"
        server.shutdown(socket.SHUT_RDWR)


# -- THE SANDBOX DOES AS RECORDED ---
def test_fill_or_kill_is_not_offered_where_the_contract_does_not_list_it(gateway: TwsDoors) -> None:
    broker = gateway.broker()
    with pytest.raises(Unsupported, match="FOK"):
        place(broker, "f1", a_resting_order(time_in_force="fok"))
    assert gateway.house.arrivals("ibkr") == []


def test_an_ioc_order_that_finds_nobody_is_canceled_without_a_code(gateway: TwsDoors) -> None:
    broker = gateway.broker()
    order = a_resting_order(time_in_force="ioc")
    place(broker, "i1", order)
    report = eventually(lambda: (r := found(broker, "i1", order)) and r.status is BrokerStatus.CANCELED and r)
    assert report is not None
    assert (report.filled_quantity or 0, report.code) == (0, None)


def test_a_trailing_order_has_no_limit_whatever_lmt_price_it_shows(gateway: TwsDoors) -> None:
    broker = gateway.broker()
    order = an_order(order_type="trailing_stop", trail_percent="5", side="sell")
    report = place(broker, "t1", order)
    assert (report.limit_price, report.trail_percent) == (None, Decimal(5))


# -- WHAT NO LISTING HAS ---
def test_an_end_that_was_told_is_found_although_no_listing_has_the_order(
    gateway: TwsDoors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IB answers a cancel with Cancelled and 202; whether it then lists the order as completed is its affair."""
    monkeypatch.setattr(tws_messages, "completed_order", lambda *_: b"")
    order, broker = a_resting_order(), gateway.broker()
    placed = place(broker, "ours", order)
    broker.cancel_order(a_ref("ours", order, placed.broker_order_id))
    eventually(lambda: (seen := found(broker, "ours", order)) and seen.status is BrokerStatus.CANCELED)
    assert not isinstance(broker.find_order(a_ref("never-sent", order)), Ambiguous)
    assert found(gateway.broker(client_id=3), "ours", order) is None  # one that was not told knows nothing


def test_what_was_filled_in_part_and_canceled_is_found_as_ours_by_a_connection_that_was_told_nothing(
    gateway: TwsDoors,
) -> None:
    """The door lists the 5 that were left: that is no other size of order (docs/facts/ibkr.md#2.10)."""
    gateway.fault("partial")
    order, before = an_order(quantity=10), gateway.broker()
    placed = place(before, "half", order)
    eventually(lambda: (seen := found(before, "half", order)) and seen.filled_quantity == 5)
    before.cancel_order(a_ref("half", order, placed.broker_order_id))
    eventually(lambda: (seen := found(before, "half", order)) and seen.status is BrokerStatus.CANCELED)
    report = found(gateway.broker(client_id=3), "half", order)
    assert report is not None
    assert (report.status, report.filled_quantity) == (BrokerStatus.CANCELED, 5)
    assert contradictions(order, report) == []
