"""The Alpaca door's trade_updates stream, and how the door fails when it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests
import websocket
from alpaca_trade_api.rest import APIError, TimeFrame
from alpaca_trade_api.stream import TradingStream

from tests.contract.alpaca_client import KEYS, ORDER_KEYS, bought, filled, impatient, resting
from tests.contract.doors import SandboxThread
from tests.kit.waiting import eventually
from worker.sandbox.alpaca.door import AlpacaDoor

# -- STREAM ---


class HeardUpdates:
    """The SDK's own stream on a thread, collecting what it hands to the handler."""

    def __init__(self, url: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self.stream = TradingStream("k", "s", url, raw_data=True)
        self.stream.subscribe_trade_updates(self._handle)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    async def _handle(self, message: dict[str, Any]) -> None:
        self.seen.append(message["data"])

    def _run(self) -> None:
        async def consume() -> None:
            await self.stream._start_ws()
            self.task = asyncio.current_task()
            self.loop = asyncio.get_running_loop()
            try:
                await self.stream._consume()
            except asyncio.CancelledError:
                await self.stream.close()

        asyncio.run(consume())

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.task.cancel)
        self._thread.join(5)

    def events(self) -> list[str]:
        return [update["event"] for update in self.seen]


@pytest.fixture
def updates(door: AlpacaDoor) -> Iterator[HeardUpdates]:
    found = HeardUpdates(door.url)
    eventually(lambda: door.stream._outboxes)
    yield found
    found.stop()


def test_the_sdk_stream_sees_every_step_of_an_order(house: SandboxThread, api: Any, updates: HeardUpdates) -> None:
    house.fault("alpaca", "partial")
    order = bought(api)
    eventually(lambda: "partial_fill" in updates.events())
    house.call(lambda: house.market.release("alpaca"))
    eventually(lambda: "fill" in updates.events())
    assert updates.events() == ["pending_new", "new", "partial_fill", "fill"]
    fill = updates.seen[-1]
    assert {"execution_id", "price", "qty", "position_qty", "timestamp"} <= set(fill)
    assert (fill["qty"], fill["position_qty"]) == ("5", "10")
    assert fill["order"]["id"] == order["id"]
    assert fill["order"]["filled_qty"] == "10"
    assert sorted(fill["order"]) == ORDER_KEYS
    ids = {activity["id"].partition("::")[2] for activity in api.get_activities("FILL")}
    assert fill["execution_id"] in ids


def test_cancel_replace_and_reject_are_streamed(house: SandboxThread, api: Any, updates: HeardUpdates) -> None:
    old = resting(api)
    new = api.replace_order(old["id"], limit_price="1.60")
    eventually(lambda: api.get_order(new["id"])["status"] == "new")
    api.cancel_order(new["id"])
    eventually(lambda: "canceled" in updates.events())
    assert updates.events() == ["pending_new", "new", "replaced", "new", "pending_cancel", "canceled"]
    house.fault("alpaca", "reject_after_accept")
    bought(api)
    eventually(lambda: updates.events()[-1] == "rejected")


def test_updates_can_be_silent_doubled_or_garbage(house: SandboxThread, api: Any, updates: HeardUpdates) -> None:
    house.fault("alpaca", "stream_silent", None)
    filled(api, bought(api))
    house.clear()
    assert updates.seen == []
    house.fault("alpaca", "duplicate_update", None)
    bought(api)
    eventually(lambda: updates.events().count("fill") == 2)
    house.clear()
    house.fault("alpaca", "garbage_update", 1)
    bought(api)
    eventually(lambda: "moon_phase" in updates.events())


def test_the_handshake_takes_both_forms_and_refuses_wrong_keys(door: AlpacaDoor) -> None:
    for path in ("/stream", "/stream/"):
        socket = websocket.create_connection(door.url.replace("http", "ws") + path, timeout=3)
        try:
            socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            assert json.loads(socket.recv())["data"]["status"] == "unauthorized"
            socket.send(json.dumps({"action": "auth", "key": "k", "secret": "wrong"}))
            assert json.loads(socket.recv())["data"] == {"status": "unauthorized", "action": "auth"}
            socket.send(json.dumps({"action": "auth", "key": "k", "secret": "s"}))
            opcode, frame = socket.recv_data()
            assert opcode == websocket.ABNF.OPCODE_BINARY
            assert json.loads(frame)["data"] == {"status": "authorized", "action": "auth"}
            socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            assert json.loads(socket.recv()) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
        finally:
            socket.close()


# -- FAULTS ---


def test_a_refusal_takes_no_order_but_leaves_a_line_in_the_ledger(house: SandboxThread, api: Any) -> None:
    house.fault("alpaca", "refuse", symbol="AAPL", text="no more for today")
    bought(api, symbol="KO")
    with pytest.raises(APIError, match="no more for today") as caught:
        bought(api)
    assert (caught.value.status_code, caught.value.code) == (403, 40310000)
    assert house.taken("alpaca") == 1
    assert [line["symbol"] for line in house.arrivals("alpaca")] == ["KO", "AAPL"]
    bought(api)


def test_a_hang_takes_nothing_and_an_accepted_hang_takes_the_order(house: SandboxThread, api: Any) -> None:
    impatient(api)
    for kind, taken in (("hang", 0), ("accept_hang", 1)):
        house.fault("alpaca", kind)
        with pytest.raises(requests.exceptions.ReadTimeout):
            bought(api, client_order_id=kind)
        assert house.taken("alpaca") == taken
    assert api.get_order_by_client_order_id("accept_hang")["symbol"] == "AAPL"


def test_a_dropped_answer_leaves_the_order_at_the_broker(house: SandboxThread, api: Any) -> None:
    house.fault("alpaca", "accept_drop")
    with pytest.raises(requests.exceptions.ConnectionError):
        bought(api, client_order_id="dropped")
    assert api.get_order_by_client_order_id("dropped")


def test_an_answer_that_is_noise_or_ends_within_leaves_the_order_at_the_broker(house: SandboxThread, api: Any) -> None:
    house.fault("alpaca", "garbage")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        bought(api, client_order_id="noise")
    for share in (0.4, 0.7, 0.97):
        house.fault("alpaca", "half_reply", share=share)
        with pytest.raises(requests.exceptions.RequestException):
            bought(api, client_order_id=f"half-{share}")
    house.fault("alpaca", "half_reply", operation="list", share=0.9)
    assert api.get_order_by_client_order_id("half-0.97")
    with pytest.raises(requests.exceptions.RequestException):
        api.list_orders(status="all")
    assert house.taken("alpaca") == 4
    struck = [(s["kind"], s["symbol"], s["operation"]) for s in house.call(lambda: list(house.market.faults.struck))]
    placed = ("half_reply", "AAPL", "place")
    assert struck == [("garbage", "AAPL", "place"), placed, placed, placed, ("half_reply", None, "list")]


def test_a_late_update_is_overtaken_by_those_behind_it(house: SandboxThread, api: Any, updates: HeardUpdates) -> None:
    house.fault("alpaca", "late_update", seconds=0.4)
    bought(api)
    eventually(lambda: len(updates.events()) == 3)
    assert updates.events() == ["new", "fill", "pending_new"]


@pytest.mark.parametrize("accepted", [False, True])
def test_an_answer_can_be_no_json_or_half_of_one(house: SandboxThread, door: AlpacaDoor, accepted: bool) -> None:
    order = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
    place = partial(requests.post, f"{door.url}/v2/orders", headers=KEYS, json=order, timeout=5)
    house.fault("alpaca", "garbage", accepted=accepted, operation="place")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        place().json()
    house.fault("alpaca", "half_reply", accepted=accepted, operation="place", share=0.97)
    half = place()  # requests itself does not count the bytes
    assert 0 < len(half.content) < int(half.headers["Content-Length"])
    with pytest.raises(requests.exceptions.JSONDecodeError):
        half.json()
    assert house.taken("alpaca") == (2 if accepted else 0)
    assert place().json()["symbol"] == "AAPL"


def test_statuses_hit_the_operation_they_are_aimed_at(house: SandboxThread, api: Any) -> None:
    house.fault("alpaca", "status", status=504, html=True, accepted=True, operation="place")
    api.list_orders()
    with pytest.raises(requests.exceptions.HTTPError):
        bought(api, client_order_id="lost")
    assert api.get_order_by_client_order_id("lost")
    house.fault("alpaca", "status", status=500, operation="list")
    with pytest.raises(APIError, match="internal server error occurred"):
        api.list_orders(status="all")
    house.fault("alpaca", "status", status=503, operation="bars")
    with pytest.raises(APIError):
        api.get_bars("AAPL", TimeFrame.Day, "2026-03-02", "2026-03-03")
    assert house.taken("alpaca") == 1


def test_a_slow_answer_comes_after_the_order_was_taken(house: SandboxThread, api: Any) -> None:
    impatient(api)
    house.fault("alpaca", "slow", seconds=30)
    with pytest.raises(requests.exceptions.ReadTimeout):
        bought(api)
    assert house.taken("alpaca") == 1


def test_a_door_that_is_down_refuses_connections_and_comes_back_on_its_port(
    house: SandboxThread, door: AlpacaDoor
) -> None:
    get = partial(requests.get, f"{door.url}/v2/clock", headers=KEYS, timeout=1)
    assert get().ok
    house.fault("alpaca", "down", None)
    eventually(lambda: door._site is None)
    with pytest.raises(requests.exceptions.ConnectionError):
        get()
    house.clear()

    def is_back() -> bool:
        try:
            return get().ok
        except requests.exceptions.ConnectionError:
            return False

    eventually(is_back)


def test_a_disconnect_cuts_websockets_once(house: SandboxThread, door: AlpacaDoor) -> None:
    socket = websocket.create_connection(door.url.replace("http", "ws") + "/stream", timeout=3)
    house.fault("alpaca", "disconnect")
    with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
        socket.recv()
    socket.close()
    assert requests.get(f"{door.url}/v2/clock", headers=KEYS, timeout=1).ok


def test_a_lookup_can_lag_behind_acceptance(house: SandboxThread, api: Any) -> None:
    house.fault("alpaca", "not_found_lag", seconds=0.2)
    bought(api, client_order_id="late")
    with pytest.raises(APIError):
        api.get_order_by_client_order_id("late")

    def found() -> bool:
        try:
            return bool(api.get_order_by_client_order_id("late"))
        except APIError:
            return False

    eventually(found)


def test_the_rate_limit_exists_only_while_its_fault_stands(house: SandboxThread, door: AlpacaDoor) -> None:
    get = partial(requests.get, f"{door.url}/v2/clock", headers=KEYS, timeout=1)
    house.fault("alpaca", "rate_limit", None, per_minute=2)
    answers = [get() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["X-RateLimit-Remaining"] == "0"
    assert answers[2].json()["code"] == 42910000
    house.clear()
    house.fault("alpaca", "rate_limit", None, per_minute=0, headers=False)
    bare = get()
    assert bare.status_code == 429
    assert not [name for name in bare.headers if "ratelimit" in name.lower() or name == "Retry-After"]
    house.clear()
    assert get().ok
