"""Traps of Alpaca and its SDK, each with the guard that keeps us out of it; the list is in test_traps.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from models.errors import (
    BrokerError,
    ConfigurationError,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    Unmapped,
)
from models.reports import BrokerStatus, FillReport, Found
from models.settings import BrokerSettings
from tests.contract.desks import AlpacaDesk
from tests.contract.suite.desk import eventually, order, resting
from tests.kit import never
from worker.brokers.alpaca import stream as alpaca_stream
from worker.brokers.alpaca.access import PAPER_URL, access_from
from worker.brokers.alpaca.adapter import AlpacaBroker


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AlpacaDesk]:
    monkeypatch.setattr(alpaca_stream, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setenv("APCA_RETRY_MAX", "5")
    monkeypatch.setenv("APCA_RETRY_WAIT", "0")
    with closing(AlpacaDesk(tmp_path)) as found:
        found.broker.connect()
        found.ready()
        yield found


# -- SENDING ---
@pytest.mark.parametrize(("status", "kind"), [(504, ServerError), (429, RateLimited)])
def test_the_sdk_does_not_send_again(desk: AlpacaDesk, status: int, kind: type[Exception]) -> None:
    """The SDK sends POST /orders again after 429 and 504: up to four orders from one call.

    Guard: `rest._sdk` switches its repeats off, whatever APCA_RETRY_* say. docs/facts/alpaca.md#1.1.
    """
    desk.fault("status", None, status=status, operation="place")
    with pytest.raises(kind):
        desk.place(order())
    assert desk.arrivals() == 1


def test_a_504_after_the_order_was_taken_is_unknown_and_found(desk: AlpacaDesk) -> None:
    """504 after the order was taken: the SDK's own repeat ends in 422 though the order exists.

    Guard: `codes` has every 5xx under ServerError, an OutcomeUnknown. docs/facts/alpaca.md#1.1, #3.6.
    """
    desk.fault("status", status=504, accepted=True, operation="place")
    wanted = resting()
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)
    assert desk.found(wanted).status is BrokerStatus.ACCEPTED
    assert desk.arrivals() == 1


def test_must_be_unique_after_a_lost_answer_is_our_own_order(desk: AlpacaDesk) -> None:
    """422 "client_order_id must be unique" looks like a refusal; it means that the first send worked.

    Guard: `codes.Duplicate`, and `AlpacaOrders._first_send` looks it up. docs/facts/alpaca.md#2.1.
    """
    desk.fault("accept_drop")
    wanted = resting()
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)
    assert desk.place(wanted).broker_client_order_id == wanted.client_order_id
    desk.the_one(wanted)


def test_must_be_unique_for_an_order_with_other_terms_stays_unknown(desk: AlpacaDesk) -> None:
    """The id may have been used by somebody else, for another order.

    Guard: `models.terms.contradictions`. docs/facts/alpaca.md#2.1.
    """
    wanted = resting()
    desk.place(wanted)
    with pytest.raises(OutcomeUnknown):
        desk.place(resting(quantity=11, client_order_id=wanted.client_order_id))


def test_a_taken_id_that_cannot_be_looked_up_stays_unknown(desk: AlpacaDesk) -> None:
    """The look-up after "must be unique" may fail with a refusal of its own.

    Guard: `http.lost_after` around `_first_send`. docs/facts/alpaca.md#2.2, #2.14.
    """
    wanted = resting()
    desk.place(wanted)
    desk.fault("status", None, status=401, operation="find")
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)


def test_every_call_ends_though_the_sdk_has_no_timeout(desk: AlpacaDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK sets no HTTP timeout: a server that does not answer holds the caller for ever.

    Guard: `http.Wire` stands in for the SDK's session; `http._Bounded` ends drip-fed answers too.
    docs/facts/alpaca.md#1.2.
    """
    desk.hasten(monkeypatch)
    for operation, call in {
        "account": desk.broker.get_account_info,
        "quote": lambda: desk.broker.get_market_data("AAPL"),
        "find": lambda: desk.find(order()),
    }.items():
        desk.fault("hang", operation=operation)
        began = time.monotonic()
        with pytest.raises(Exception, match="alpaca"):
            call()
        assert time.monotonic() - began < 3, operation


# -- SETTINGS ---
@pytest.mark.parametrize(
    "url", ["https://api.alpaca.markets", "https://API.alpaca.markets/v2", "https://api.alpaca.markets.:443/"]
)
def test_the_live_url_has_to_be_asked_for(url: str) -> None:
    """The live host trades real money, however it is spelled.

    Guard: `access.access_from`. docs/facts/alpaca.md#1.3.
    """
    keys = {"adapter": "alpaca", "key_id": "k", "secret_key": "s", "base_url": url}
    with pytest.raises(ConfigurationError, match="live = true"):
        AlpacaBroker.check_settings("alpaca", BrokerSettings(**keys))
    AlpacaBroker.check_settings("alpaca", BrokerSettings(**keys, live=True))


def test_without_a_url_it_is_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own default is the live host, and the environment may say so too.

    Guard: `access.access_from` always names a URL. docs/facts/alpaca.md#1.3.
    """
    monkeypatch.setenv("APCA_API_BASE_URL", "https://api.alpaca.markets")
    settings = BrokerSettings(adapter="alpaca", key_id="k", secret_key="s")
    assert access_from("alpaca", settings).base_url == PAPER_URL


# -- READING ---
def test_a_fraction_of_a_share_is_held_exactly(desk: AlpacaDesk) -> None:
    """`int(position.qty)` raises for "0.557436865", and float loses digits.

    Guard: `account.position_report` reads decimals. docs/facts/alpaca.md#1.5.
    """
    quantity = Decimal("0.557436865")
    desk.house.call(lambda: desk.house.market.set_position("alpaca", "KO", quantity))
    assert [position.quantity for position in desk.broker.get_positions()] == [quantity]


@pytest.mark.parametrize("status", [403, 404, 422, 502])
def test_an_html_page_is_nobodys_answer(desk: AlpacaDesk, status: int) -> None:
    """A proxy's HTML page has no code: the SDK raises another exception, which says nothing of the order.

    Guard: `codes.ERRORS` has no row for BARE below 500: Unmapped, so unknown. docs/facts/alpaca.md#3.7.
    """
    desk.fault("status", status=status, html=True, operation="place")
    with pytest.raises((Unmapped, ServerError)):
        desk.place(order())


@pytest.mark.parametrize("how", [{"status": 404, "html": True}, {"status": 404, "code": 40400000}, {"status": 503}])
def test_a_lookup_that_fails_is_no_proof_of_absence(desk: AlpacaDesk, how: dict[str, Any]) -> None:
    """Only Alpaca's own 404 with its code says that there is no such order.

    Guard: `codes.ERRORS` knows 404 with code 40410000 only, and find_order insists on it.
    docs/facts/alpaca.md#2.14, #3.4.
    """
    wanted = resting()
    desk.place(wanted)
    desk.fault("status", None, operation="find", **how)
    with pytest.raises(BrokerError):
        desk.find(wanted)
    desk.clear()
    assert isinstance(desk.find(wanted), Found)


# -- THE STREAM ---
def test_a_handler_that_fails_does_not_end_the_stream(desk: AlpacaDesk) -> None:
    """An exception in a handler ends the SDK's stream silently, for good.

    Guard: `AlpacaStream._guarded`. docs/facts/alpaca.md#4.4.
    """

    def fail(_: Any) -> None:
        raise RuntimeError("the worker's fault")

    desk.broker.updates(fail)
    desk.place(order(quantity=3))
    eventually(lambda: desk.the_one(order(quantity=3)).state == "filled")
    stream: Any = desk.broker._stream
    assert stream.is_listening
    desk.broker.updates(desk.reports.append)
    placed = desk.place(order())
    eventually(lambda: [r for r in desk.reports if isinstance(r, FillReport) and r.cumulative_quantity == 10])
    assert stream is desk.broker._stream
    assert desk.executions(placed)


def test_refused_keys_do_not_hammer_the_stream(desk: AlpacaDesk) -> None:
    """With wrong keys the SDK connects about 82 times a second.

    Guard: `StreamRefused` pauses for RARE_PAUSE_S. docs/facts/alpaca.md#4.4.
    """
    asked: list[str] = []
    updates = desk.door.stream
    known = updates._is_known
    updates._is_known = lambda key, secret: asked.append(key) or known(key, secret)
    stream = alpaca_stream.AlpacaStream(
        "alpaca", f"ws://127.0.0.1:{desk.door.port}/stream", "wrong", "wrong",
        on_event=lambda _: None, on_gap=lambda: None,
    )  # fmt: skip
    stream.start()
    try:
        eventually(lambda: stream._complaint)
        assert "not authorized" in str(stream._complaint)
        assert not stream.is_listening
        never(lambda: len(asked) > 1, 0.5)
    finally:
        stream.stop()
    assert desk.broker.is_connected()


def test_a_stream_that_goes_on_saying_other_things_is_left_and_tried_again(
    desk: AlpacaDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of another kind for ever are no answer, and no connection that anybody would hear an order on.

    Guard: the time that `AlpacaStream._listen` gives to `_authorize`. docs/facts/alpaca.md#4.1.
    """
    connections: list[str] = []

    async def talk(request: web.Request) -> web.WebSocketResponse:
        connections.append(request.path)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        while not socket.closed:
            await socket.send_json({"stream": "elsewhere", "data": {}})
            await asyncio.sleep(0.02)
        return socket

    app = web.Application()
    app.add_routes([web.get("/stream", talk)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    desk.house.run(runner.setup())
    desk.house.run(web.TCPSite(runner, "127.0.0.1", 0).start())
    monkeypatch.setattr(alpaca_stream, "_PATIENCE_S", 0.3)
    stream = alpaca_stream.AlpacaStream(
        "alpaca", f"ws://127.0.0.1:{runner.addresses[0][1]}/stream", "k", "s",
        on_event=lambda _: None, on_gap=lambda: None,
    )  # fmt: skip
    stream.start()
    try:
        eventually(lambda: len(connections) > 1)
        assert stream._complaint
        assert not stream.is_listening
    finally:
        stream.stop()
        desk.house.run(runner.cleanup())


def test_what_the_stream_missed_is_read_when_it_is_back(desk: AlpacaDesk) -> None:
    """The stream replays nothing: what happens during a reconnect is lost.

    Guard: `AlpacaBroker._catch_up`, called whenever listening begins. docs/facts/alpaca.md#4.2.
    """
    desk.fault("status", None, status=503, operation="stream")
    desk.fault("disconnect")
    eventually(lambda: not desk.broker.is_streaming)
    during = order()
    desk.place(during)
    desk.settled(during, BrokerStatus.FILLED)
    assert not desk.reports
    desk.clear()
    desk.ready()
    told = eventually(lambda: [r for r in desk.reports if not isinstance(r, FillReport)])
    assert [(r.broker_client_order_id, r.status) for r in told] == [(during.client_order_id, BrokerStatus.FILLED)]
    assert [r.quantity for r in desk.reports if isinstance(r, FillReport)] == [10]
    after = desk.place(order(quantity=4))
    eventually(lambda: desk.executions(after))
