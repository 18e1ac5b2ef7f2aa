"""Doubled and late messages, paused workers, and cancels that race: the row decides, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producers.bell import envelope
from tests.kit import World, events_of, eventually, never, outcomes_of
from tests.kit.process import HeldTwins

pytestmark = pytest.mark.usefixtures("own_workers")

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def ring(world: World, *ids: str, queue: str) -> bytes:
    """Return a ring for orders that have a row."""
    bodies = [world.client.order(id_).row for id_ in ids]
    wire = [
        {name: row[name] for name in ("client_order_id", "symbol", "side")} | {"quantity": str(row["quantity"])}
        for row in bodies
    ]
    return envelope("orders.submit", queue, {"orders": wire})


@pytest.fixture(scope="module")
def world(make_recorded_world: Callable[..., World]) -> World:
    return make_recorded_world(["alpaca", "ibkr"], timing={"fresh": 2.0, "lease": 6.0})


def test_a_ring_five_times_and_again_after_the_end_is_one_order(world: World) -> None:
    placed = [world.orders.send("KO", "buy", 1 + n, route="alpaca") for n in range(4)]
    ids = [order.client_order_id for order in placed]
    copies = [ring(world, id_, queue="orders.alpaca") for id_ in reversed(ids)]
    copies += [ring(world, *ids, queue="orders.alpaca"), ring(world, *reversed(ids), queue="orders.alpaca")]
    for _ in range(5):
        world.fleet.queue.lpush("orders.alpaca", *copies)
    world.fleet.queue.lpush("orders.ibkr", *copies)  # and at the wrong broker
    world.fleet.start("alpaca", "ibkr")
    world.fleet.start("alpaca", label="alpaca-b")
    ended = [world.orders.wait(id_, "filled") for id_ in ids]
    world.fleet.queue.lpush("orders.alpaca", *copies)
    world.fleet.queue.lpush("orders.ibkr", *copies)
    eventually(lambda: not world.fleet.queue.llen("orders.alpaca") and not world.fleet.queue.llen("orders.ibkr"))
    world.orders.wait(world.orders.send("KO", "buy", 9, route="alpaca"), "filled")

    for whole in ended:
        assert outcomes_of(whole) == [("alpaca", "accepted")]
        assert len(world.orders.at_doors(whole["client_order_id"])) == 1
        assert world.orders.whole(whole["client_order_id"])["events"] == whole["events"]


@SQLITE
def test_a_worker_that_wakes_up_after_its_lease_doubles_nothing(world: World) -> None:
    """At one broker only: one TWS connection is one worker, there is no second one beside it."""
    sleeper = world.fleet.start("alpaca", label="sleeper", CORRO_PAUSE="before_send")
    order = world.orders.send("PEP", "buy", 7, route="alpaca")
    id_ = order.client_order_id
    stat = Path(f"/proc/{sleeper.popen.pid}/stat")
    eventually(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", 15)
    world.fleet.start("alpaca", label="other")
    # The other one asks the broker, and may not conclude anything while the sleeper can still wake up and send.
    eventually(
        lambda: world.orders.row(id_)["status"] == "filled" or world.orders.whole(id_)["attempts"][0]["checks"] >= 4, 20
    )  # type: ignore[index]
    eventually(lambda: datetime.now(UTC) > world.orders.whole(id_)["attempts"][0]["lease_until"], 10)
    assert [outcome for _, outcome in outcomes_of(world.orders.whole(id_))] in (["unknown"], ["accepted"])
    os.kill(sleeper.popen.pid, signal.SIGCONT)
    whole = world.orders.wait(order, "filled", 30)

    assert [o["state"] for o in world.orders.at_doors(symbol="PEP")] == ["filled"], whole
    assert whole["filled_quantity"] == 7


def test_two_workers_of_one_broker_share_many_orders_without_sending_one_twice(world: World) -> None:
    world.fleet.start("alpaca", label="alpaca-a", ready=False)
    world.fleet.start("alpaca", label="alpaca-b", ready=False)
    for process in list(world.fleet.processes.values()):
        world.fleet.wait_ready(process)
    placed = world.client.submit_many(
        [world.orders.request("SPY", "buy", 1 + n % 5, route="alpaca") for n in range(150)]
    )
    for order in placed:  # each again, alone
        world.fleet.queue.lpush("orders.alpaca", ring(world, order.client_order_id, queue="orders.alpaca"))
    ended = world.client.wait_all(placed, 40)
    assert {order.status for order in ended} == {"filled"}
    ids = [o["client_order_id"] for o in world.orders.at_doors(symbol="SPY")]
    assert sorted(ids) == sorted(order.client_order_id for order in placed)


@SQLITE
def test_a_queued_order_that_is_canceled_is_never_sent(world: World) -> None:
    order = world.orders.send("WMT", "buy", 5, route="alpaca")
    canceled = world.client.cancel(order.client_order_id)
    assert canceled.status == "canceled"
    world.fleet.start("alpaca")
    world.orders.wait(world.orders.send("WMT", "buy", 6, route="alpaca"), "filled")
    assert [o["quantity"] for o in world.orders.at_doors(symbol="WMT")] == ["6"]
    assert world.orders.whole(order.client_order_id)["attempts"] == []


def test_a_cancel_that_races_the_fill_ends_as_the_broker_says(world: World) -> None:
    world.fleet.start("alpaca", "ibkr")
    placed = [world.orders.send("DIS", "buy", 3, route=("alpaca", "ibkr")[n % 2]) for n in range(20)]
    for n, order in enumerate(placed):
        if n % 3:
            eventually(lambda: world.orders.row(order.client_order_id)["status"] != "queued", 10)  # noqa: B023
        world.client.cancel(order.client_order_id)
    for order in placed:
        whole = world.orders.wait(order, ["filled", "canceled"], 20)
        states = [o["state"] for o in world.orders.at_doors(order.client_order_id)]
        assert states in ([whole["status"]], []), whole
        assert whole["status"] == "canceled" or states == ["filled"]


@SQLITE
@pytest.mark.parametrize("broker", ["alpaca", "ibkr"])
def test_a_cancel_while_the_broker_is_down_is_carried_out_after_its_return(world: World, broker: str) -> None:
    world.fleet.start(broker)
    order = world.orders.send("CVX", "buy", 2, order_type="limit", limit_price="1", route=broker)
    world.orders.wait(order, "accepted")
    world.control.add_fault(broker, "down")
    eventually(lambda: world.fleet.state(world.fleet.processes[broker]) == "disconnected", 15)
    world.client.cancel(order.client_order_id)
    never(lambda: world.orders.row(order.client_order_id)["status"] == "canceled", 1)  # type: ignore[index]
    world.control.clear_faults(broker)
    world.orders.wait(order, "canceled", 20)
    assert [o["state"] for o in world.orders.at_doors(order.client_order_id)] == ["canceled"]


@SQLITE
def test_a_cancel_that_is_refused_leaves_the_order_as_its_broker_has_it(world: World) -> None:
    world.fleet.start("ibkr")
    world.control.add_fault("ibkr", "cancel_10148", count=1, symbol="BAC")
    order = world.orders.send("BAC", "buy", 2, order_type="limit", limit_price="1", route="ibkr")
    world.orders.wait(order, "accepted")
    world.client.cancel(order.client_order_id)
    eventually(lambda: {"cancel_refused", "canceled"} & set(events_of(world.orders.whole(order.client_order_id))), 15)
    world.orders.wait(order, ["accepted", "canceled", "pending_cancel"], 5)


@SQLITE
def test_one_id_from_two_processes_at_once_is_one_order(world: World) -> None:
    """Both submit the same forty ids as fast as they can."""
    script = """
import sys
from producers import OrderClient, OrderRequest
with OrderClient() as client:
    sys.stdin.readline()
    for n in range(40):
        client.submit(OrderRequest(client_order_id=f"{sys.argv[1]}-{n}", symbol="VZ", side="buy", quantity=1 + n % 3,
                                   route=["alpaca"]))
"""
    prefix = f"both-{world.database.url.get_backend_name()}"
    both = HeldTwins(script, prefix, variables=world.environment)
    world.fleet.start("alpaca")
    both.run_on()
    for n in range(40):
        whole = world.orders.wait(f"{prefix}-{n}", "filled", 20)
        assert outcomes_of(whole) == [("alpaca", "accepted")]
        assert events_of(whole).count("queued") == 1
    assert len(world.orders.at_doors(symbol="VZ")) == 40
