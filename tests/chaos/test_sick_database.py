"""A database that is there and does not do its work: read-only, full, slow. Nothing is sent that it does not record."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator

import pytest

from models.errors import DatabaseUnavailable
from producers.bell import envelope
from tests.kit import PostgresServer, World, eventually, never, outcomes_of
from tests.kit.postgres import SickDatabase
from worker.local.processes import Process

NewWorld = Callable[..., World]


def bare(name: str) -> bytes:
    """Return a message with an order that only it knows."""
    order = {"client_order_id": name, "symbol": "KO", "side": "buy", "quantity": "2"}
    return envelope("orders.submit", "orders.alpaca", {"orders": [order]})


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], postgres: PostgresServer) -> World:
    made = make_world(["alpaca"], database_url=postgres.fresh())
    made.fleet.start_all()
    return made


@pytest.fixture
def server(world: World) -> Iterator[SickDatabase]:
    made = SickDatabase(world.settings.database)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["read_only", "full"])
def test_a_database_that_takes_no_writes_stops_trading_and_loses_nothing(
    world: World, server: SickDatabase, kind: str
) -> None:
    world.orders.wait(world.orders.send("AAPL", "buy", 1), "filled")
    before, symbol = len(world.control.orders()), {"read_only": "PEP", "full": "WMT"}[kind]
    world.control.add_fault("alpaca", "slow", count=1, symbol=symbol, seconds=1.5, operation="place")
    under_way = world.orders.send(symbol, "buy", 3, route="alpaca")
    eventually(lambda: world.orders.at_doors(symbol=symbol), 10)  # sent, not yet recorded
    with getattr(server, kind)():
        with pytest.raises(DatabaseUnavailable):
            world.client.submit(world.orders.request("KO", "buy", 1))
        world.fleet.queue.lpush("orders.alpaca", bare(f"while-{kind}"))
        eventually(lambda: "message_waits_for_database" in world.fleet.processes["alpaca"].log.read_text(), 15)
        never(lambda: len(world.control.orders()) != before + 1, 2)
        assert world.fleet.processes["alpaca"].popen.poll() is None
    assert outcomes_of(world.orders.wait(under_way, "filled", 30)) == [("alpaca", "accepted")]
    assert world.orders.wait(f"while-{kind}", "filled", 30)["filled_quantity"] == 2
    assert len(world.control.orders()) == before + 2


def test_a_slow_database_makes_orders_late_and_not_two(world: World, server: SickDatabase) -> None:
    with server.before_every_write("PERFORM pg_sleep(0.4)"):
        placed = [world.orders.send("DIS", "buy", 1 + n, route="alpaca") for n in range(4)]
        ended = [world.orders.wait(order, ["filled", "expired"], 40) for order in placed]
    for whole in ended:
        assert len(world.orders.at_doors(whole["client_order_id"])) == (whole["status"] == "filled")
    world.orders.wait(world.orders.send("DIS", "buy", 9), "filled", 15)


def limit(process: Process, size: int | None) -> None:
    """Let a process write no file beyond a size: its disk is full there, and nobody else's."""
    most = resource.RLIM_INFINITY if size is None else size
    resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def test_a_disk_that_is_full_under_sqlite_stops_trading_and_loses_nothing(new_world: NewWorld) -> None:
    world = new_world(["alpaca"])
    process = world.fleet.start("alpaca")
    world.orders.wait(world.orders.send("AAPL", "buy", 1), "filled")
    world.control.add_fault("alpaca", "stream_silent", symbol="PEP")
    world.control.add_fault("alpaca", "slow", count=1, symbol="PEP", seconds=1.5, operation="place")
    under_way = world.orders.send("PEP", "buy", 3, route="alpaca")
    eventually(lambda: world.orders.at_doors(symbol="PEP"), 10)
    limit(process, 2_048)  # its database and its log are full
    began = time.monotonic()
    try:
        waiting = world.orders.send("KO", "buy", 2, route="alpaca")
        never(lambda: world.orders.at_doors(symbol="KO"), 3)
        assert process.popen.poll() is None
        assert world.orders.whole(under_way.client_order_id)["status"] == "submitted"
    finally:
        limit(process, None)
    assert time.monotonic() - began < 20
    assert outcomes_of(world.orders.wait(under_way, "filled", 30)) == [("alpaca", "accepted")]
    assert outcomes_of(world.orders.wait(waiting, "filled", 30)) == [("alpaca", "accepted")]
    assert len(world.control.orders()) == 3
