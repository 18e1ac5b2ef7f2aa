"""Rings are taken together and without acknowledgement; what has no row yet keeps its own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from producers.bell import RING, SINGLE_RING, envelope
from producers.ear import EVERYTHING
from tests.kit import World, eventually, outcomes_of
from worker.messaging.rings import together


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world(["alpaca"])


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_test(world: World) -> Any:
    yield
    world.fleet.kill_all()


def foreign(id_: str, *, ring: bool = False) -> bytes:
    order = {"client_order_id": id_, "symbol": "KO", "side": "buy", "quantity": "2"}
    return envelope("orders.submit", "orders.alpaca", {"orders": [order]}, ring=ring)


def calls(world: World, command: str) -> int:
    stats: Any = world.fleet.queue.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_the_mark_stands_in_a_message_as_the_script_looks_for_it() -> None:
    assert SINGLE_RING in foreign("a", ring=True)
    assert RING.encode() not in foreign("a")
    tricky = envelope("orders.submit", "q", {"orders": [{"client_order_id": "a", "tags": ['"corro-ring": 1,']}]})
    assert SINGLE_RING not in tricky


def test_several_become_one_with_all_their_orders() -> None:
    made = json.loads(together([foreign(name, ring=True) for name in "abc"]))
    _, kwargs, _ = json.loads(made["body"])
    assert [order["client_order_id"] for order in kwargs["orders"]] == ["a", "b", "c"]
    assert RING in made["headers"]


def test_a_backlog_of_single_orders_is_taken_in_a_few_claims(world: World) -> None:
    placed = [world.orders.send("SPY", "buy", 1) for _ in range(120)]
    world.fleet.queue.lpush("orders.alpaca", foreign("between"))
    placed += [world.orders.send("SPY", "buy", 1) for _ in range(60)]
    popped = calls(world, "brpop")
    world.fleet.start("alpaca")
    for order in (*placed, "between"):
        assert outcomes_of(world.orders.wait(order, "filled", 30)) == [("alpaca", "accepted")]
    eventually(lambda: not world.fleet.queue.exists("orders.alpaca", "unacked"))
    assert calls(world, "brpop") - popped < 60  # of 181 messages
    with world.database.read() as connection:
        claims = connection.exec_driver_sql("SELECT count(DISTINCT started_at) FROM attempts").scalar_one()
    assert claims < 60


def test_only_what_is_no_ring_is_written_down_for_its_acknowledgement(world: World) -> None:
    world.fleet.start("alpaca")
    world.orders.wait(world.orders.send("KO", "buy", 1), "filled")
    before = calls(world, "hset")
    for _ in range(5):
        world.orders.wait(world.orders.send("KO", "buy", 1), "filled")
    assert calls(world, "hset") == before
    world.fleet.queue.lpush("orders.alpaca", foreign("counted"))
    world.orders.wait("counted", "filled")
    assert calls(world, "hset") == before + 1


def test_a_ring_for_an_order_that_has_no_row_here_is_set_aside(world: World) -> None:
    """Its producer works on another database, whose own fleet may send it: two would."""
    world.fleet.queue.lpush(
        "orders.alpaca", foreign("elsewhere", ring=True), b'{"headers": {"corro-ring": 1, "id": 7}}'
    )
    world.fleet.start("alpaca")
    eventually(lambda: "not_recorded" in world.corro("dead-letters").out, 15)
    assert world.orders.row("elsewhere") is None
    world.fleet.queue.lpush(
        "orders.alpaca", envelope("orders.submit", "orders.alpaca", {"orders": [7, None]}, ring=True), foreign("after")
    )
    world.orders.wait("after", "filled")


def test_rings_that_were_not_begun_go_back_when_a_worker_stops(world: World) -> None:
    world.control.add_fault("alpaca", "slow", seconds=1.0, operation="place")
    worker = world.fleet.start("alpaca")
    placed = [world.orders.send("PEP", "buy", 1 + n) for n in range(6)]
    eventually(lambda: world.orders.at_doors(symbol="PEP"), 10)
    worker.popen.terminate()
    placed += [world.orders.send("PEP", "buy", 20 + n) for n in range(6)]
    assert world.fleet.wait_gone(worker, 30) == 0
    world.control.clear_faults()
    queued = [o.client_order_id for o in placed if world.orders.row(o.client_order_id)["status"] == "queued"]  # type: ignore[index]
    ringing = b"".join(world.fleet.queue.lrange("orders.alpaca", 0, -1)).decode()
    assert queued
    assert [id_ for id_ in queued if id_ not in ringing] == []
    world.fleet.start("alpaca")
    for order in placed:
        world.orders.wait(order, "filled", 20)


def test_a_worker_says_what_it_has_committed_once_a_commit_and_who_waits_hears_it(world: World) -> None:
    world.fleet.start_all()
    ear, before = world.client.ear, calls(world, "publish")
    with ear.listening("heard-1") as mine, ear.listening("another") as other:
        assert ear.hears.wait(5)
        mine.clear()
        other.clear()
        order = world.orders.send("KO", "buy", 2, client_order_id="heard-1")
        assert mine.wait(5)
        world.orders.wait(order, "filled")
        assert not other.is_set()
    events = world.client.order("heard-1").events
    commits = len({event["at"] for event in events if event["kind"] != "queued"})
    eventually(lambda: calls(world, "publish") > before, 5)
    assert calls(world, "publish") - before <= commits
    with ear.listening(EVERYTHING) as heard:
        heard.clear()
        assert world.client.quote("KO").result(5).symbol == "KO"
        assert heard.wait(5)
