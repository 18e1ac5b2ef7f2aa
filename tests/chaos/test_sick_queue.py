"""A queue that is slow, cuts replies in half, or hands messages out again while they are worked on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from models.settings import load_settings
from producers.bell import envelope
from producers.client import OrderClient
from tests.kit import World, environment, eventually, outcomes_of

MODES = ("slow", "half", "cut")
#: Seconds by which a slow queue holds each answer back.
SLOW_S = 0.15


class Proxy:
    """A TCP port in front of the queue's unix socket that spoils what comes back.

    Modes: `pass`; `slow` holds every chunk back for 0.15 s; `half` sends half of a reply and cuts; `cut` cuts instead.
    """

    def __init__(self, target: Path) -> None:
        self.mode, self._target = "pass", target
        self.spoilt = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(str(self._target))
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                mode = self.mode if replies else "pass"
                self.spoilt += mode != "pass"
                if mode == "slow":
                    time.sleep(SLOW_S)
                elif mode != "pass":
                    sink.sendall(data[: len(data) // 2] if mode == "half" else b"")
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world(["alpaca"])


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    made = Proxy(world.fleet.server.socket)
    yield made
    world.fleet.kill_all()
    made.close()


def test_a_queue_that_is_slow_and_cuts_its_replies_costs_time_and_no_order(world: World, proxy: Proxy) -> None:
    url = f"redis://127.0.0.1:{proxy.port}/0"
    worker = world.fleet.start("alpaca", CORRO_REDIS_URL=url)
    with environment(world.environment):
        client = OrderClient(load_settings(redis_url=url))
    placed = []
    for mode in MODES:
        proxy.mode, before = mode, proxy.spoilt
        for n in range(8):
            began = time.monotonic()
            placed.append(client.submit(world.orders.request("SPY", "buy", 1 + n)))
            assert time.monotonic() - began < 5
        eventually(lambda before=before: proxy.spoilt > before, 5)  # type: ignore[misc]
        for order in placed:
            assert outcomes_of(world.orders.wait(order, "filled", 20)) == [("alpaca", "accepted")]
        assert worker.popen.poll() is None
    client.close()
    proxy.mode = "pass"
    # A message that no row knows: only a worker that consumes again can execute it.
    foreign = {"client_order_id": "by-message", "symbol": "KO", "side": "buy", "quantity": "2"}
    world.fleet.queue.lpush("orders.alpaca", envelope("orders.submit", "orders.alpaca", {"orders": [foreign]}))
    world.orders.wait("by-message", "filled", 40)
    assert len(world.orders.at_doors()) == len(placed) + 1


def test_a_message_that_comes_back_while_it_is_worked_on_is_executed_once(new_world: Callable[..., World]) -> None:
    """As after a visibility timeout: the note says that it was taken an hour ago, and kombu hands it out again.

    Rings are not noted; a message that brings orders without rows is.
    """
    world = new_world(["alpaca"])
    worker = world.fleet.start("alpaca")
    world.control.add_fault("alpaca", "slow", seconds=1.5, operation="place")
    ids = [f"comes-back-{n}" for n in range(40)]
    orders = [{"client_order_id": id_, "symbol": "DIA", "side": "buy", "quantity": "2"} for id_ in ids]
    world.fleet.queue.lpush("orders.alpaca", envelope("orders.submit", "orders.alpaca", {"orders": orders}))
    eventually(lambda: len(world.orders.at_doors(symbol="DIA")) >= 2, 15)
    (tag,) = world.fleet.queue.zrange("unacked_index", 0, -1)
    world.fleet.queue.zadd("unacked_index", {tag: time.time() - 3600})
    # Nobody else puts anything at that end of a list.
    eventually(lambda: "cmdstat_rpush" in world.fleet.queue.info("commandstats"), 15, "it was not handed out again")
    for id_ in ids:  # the last ones of so slow a batch are too old to be sent under its claim, and claimed anew
        *stale, last = outcomes_of(world.orders.wait(id_, "filled", 30))
        assert (last, set(stale) <= {("alpaca", "not_sent")}) == (("alpaca", "accepted"), True)
    assert len(world.orders.at_doors(symbol="DIA")) == len(ids)
    eventually(lambda: not world.fleet.queue.hlen("unacked") and not world.fleet.queue.llen("orders.alpaca"), 15)
    assert worker.popen.poll() is None
