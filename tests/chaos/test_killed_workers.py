"""kill -9 of a worker at every named point, and in the middle of many orders: nothing lost, nothing twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from decimal import Decimal

import pytest
from sqlalchemy import select

from models.record.tables import attempts
from tests.kit import World, events_of, eventually, outcomes_of

pytestmark = pytest.mark.usefixtures("own_workers")

MakeWorld = Callable[..., World]
POINTS = ("after_claim", "before_send", "after_send", "before_commit", "after_commit")
#: Points at which the broker has the order already, and no answer is recorded.
AFTER_SEND = ("after_send", "before_commit")
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def world(make_recorded_world: MakeWorld) -> World:
    # What dies between the mark and the first byte would wait for a person at IB; these tests are about the rest.
    more = {"ibkr": {"absence": "listings"}}
    return make_recorded_world(["alpaca", "ibkr", "tda"], more=more)


@pytest.mark.parametrize(
    ("database_url", "point"),
    [*(("sqlite", point) for point in POINTS), ("postgresql", "before_commit"), ("postgresql", "after_statement")],
    indirect=["database_url"],
)
def test_an_order_whose_worker_is_killed_reaches_its_broker_exactly_once(world: World, point: str) -> None:
    brokers = ("alpaca", "ibkr")
    first = [world.fleet.start(name, label=f"{name}-1", ready=False, CORRO_CRASH=point) for name in brokers]
    for process in first:
        world.fleet.wait_ready(process)
    placed = {name: world.orders.send("AAPL", "buy", 10, route=name) for name in brokers}
    assert [world.fleet.wait_gone(process) for process in first] == [-signal.SIGKILL] * 2
    world.fleet.start(*brokers)

    for broker, order in placed.items():
        whole = world.orders.wait(order, "filled", 40)
        assert [o["state"] for o in world.orders.at_doors(order.client_order_id)] == ["filled"]
        assert outcomes_of(whole)[-1] == (broker, "accepted")
        if point in (*AFTER_SEND, "after_commit"):
            assert outcomes_of(whole) == [(broker, "accepted")]
        if point == "after_commit":
            assert "unknown" not in events_of(whole)


@SQLITE
@pytest.mark.parametrize(
    ("broker", "point", "symbol"),
    [
        ("alpaca", "before_send", "INTC"),
        ("alpaca", "after_send", "AMD"),
        ("alpaca", "before_commit", "CSCO"),
        ("tda", "after_send", "CVX"),  # which keeps no id of ours: found by the terms of all three
        ("ibkr", "between_legs:2", "MSFT"),  # two of three wait in TWS, where nothing shows them
    ],
)
def test_a_group_whose_worker_is_killed_is_whole_at_its_broker_exactly_once(
    world: World, broker: str, point: str, symbol: str
) -> None:
    world.control.set_price(symbol, "100")
    first = world.fleet.start(broker, label="first", CORRO_CRASH=point)
    entry = world.orders.request(symbol, "buy", 10, route=broker)
    group = world.client.submit_bracket(entry, take_profit="150", stop_loss="60")
    assert world.fleet.wait_gone(first) == -signal.SIGKILL
    world.fleet.start(broker, label="second")

    for leg, status in (("entry", "filled"), ("take_profit", "accepted"), ("stop_loss", "accepted")):
        whole = world.orders.wait(group.legs[leg], status, 40)
        assert outcomes_of(whole)[-1] == (broker, "accepted")
    eventually(lambda: world.client.group(group.group_id).status == "live", 10)
    assert len(world.orders.at_doors(symbol=symbol)) == 3
    with world.database.read() as connection:
        numbers = [number for number in connection.execute(select(attempts.c.session_order_id)).scalars() if number]
    assert len(set(numbers)) == (6 if broker == "ibkr" else 0), "an order id is never given twice"
    world.client.group(group.group_id).cancel()
    for leg in ("take_profit", "stop_loss"):
        world.orders.wait(group.legs[leg], "canceled", 20)


@SQLITE
def test_an_order_that_falls_back_is_taken_up_though_the_worker_died_before_it_rang(world: World) -> None:
    first = world.fleet.start("alpaca", CORRO_CRASH="after_commit")
    world.control.add_fault("alpaca", "refuse", count=1, symbol="KO")
    order = world.orders.send("KO", "buy", 2, route=["alpaca", "ibkr"])
    assert world.fleet.wait_gone(first) == -signal.SIGKILL
    assert world.orders.row(order.client_order_id)["broker"] == "ibkr"  # type: ignore[index]
    assert world.fleet.queue.llen("orders.ibkr") == 0
    world.fleet.start("ibkr")
    assert outcomes_of(world.orders.wait(order, "filled")) == [("alpaca", "refused"), ("ibkr", "accepted")]


@SQLITE
def test_an_order_whose_producer_is_killed_before_it_rings_is_executed_once(world: World) -> None:
    said = world.corro("submit", "PEP", "buy", "2", "--id", "died-young", "--route", "ibkr", CORRO_CRASH="before_ring")
    assert said.status == -signal.SIGKILL, said
    assert world.fleet.queue.llen("orders.ibkr") == 0
    world.fleet.start("ibkr")
    assert outcomes_of(world.orders.wait("died-young", "filled")) == [("ibkr", "accepted")]
    again = world.corro("submit", "PEP", "buy", "2", "--id", "died-young", "--route", "ibkr", "--wait", "--json")
    assert again.json["status"] == "filled", "the caller does not know, and may ask again"
    assert len(world.orders.at_doors("died-young")) == 1


@SQLITE
@pytest.mark.parametrize("point", ["after_claim", *AFTER_SEND])
def test_an_order_at_a_broker_without_ids_is_never_sent_twice(world: World, point: str) -> None:
    symbol = {"after_claim": "IBM", "after_send": "CAT", "before_commit": "WMT"}[point]
    first = world.fleet.start("tda", label="tda-1", CORRO_CRASH=point)
    order = world.orders.send(symbol, "buy", 10, route="tda")
    assert world.fleet.wait_gone(first) == -signal.SIGKILL
    world.fleet.start("tda", label="tda-2")
    whole = world.orders.wait(order, "filled", 40)

    assert [o["state"] for o in world.orders.at_doors(symbol=symbol)] == ["filled"]
    if point == "after_claim":  # nothing was sent, and the record proves it
        assert outcomes_of(whole) == [("tda", "not_sent"), ("tda", "accepted")]
    else:  # found again by its terms
        assert outcomes_of(whole) == [("tda", "accepted")]
        assert {"unknown", "found"} <= set(events_of(whole)), events_of(whole)


@SQLITE
def test_an_order_without_proof_at_a_broker_without_ids_waits_for_a_person(world: World) -> None:
    first = world.fleet.start("tda", label="tda-1", CORRO_CRASH="before_send")
    order = world.orders.send("DIS", "buy", 10, route=["tda", "alpaca"])
    assert world.fleet.wait_gone(first) == -signal.SIGKILL
    world.fleet.start("tda", label="tda-2")
    world.fleet.start("alpaca")
    id_ = order.client_order_id
    eventually(lambda: world.orders.whole(id_)["attempts"][0]["missing"] >= 3, 25, lambda: world.orders.whole(id_))
    whole = world.orders.whole(id_)
    assert (whole["status"], outcomes_of(whole)) == ("submitted", [("tda", "unknown")])
    assert [a["client_order_id"] for a in world.corro("unresolved", "--json").json] == [id_]

    said = world.corro("resolve", id_, "--absent", "--by", "ana", "--json")
    assert said.status == 0, said
    whole = world.orders.wait(id_, "filled", 20)
    assert any("ana" in (event["detail"] or "") for event in whole["events"])
    assert len(world.orders.at_doors(symbol="DIS")) == 1


def test_workers_killed_in_the_middle_of_two_hundred_orders_lose_none_and_double_none(world: World) -> None:
    brokers = ("alpaca", "ibkr")
    workers = [
        world.fleet.start(name, label=f"{name}-{point}", ready=False, CORRO_CRASH=f"{point}:{count}")
        for name, point, count in (("alpaca", "after_send", 30), ("ibkr", "after_send", 30))
    ]
    for process in workers:
        world.fleet.wait_ready(process)
    requests = [
        world.orders.request(
            ("SPY", "QQQ", "IWM", "DIA")[n % 4], "buy", 1 + n % 5, route=list(brokers[:: 1 if n % 2 else -1])
        )
        for n in range(200)
    ]
    placed = world.client.submit_many(requests)
    for process in workers:
        assert world.fleet.wait_gone(process, 30) == -signal.SIGKILL
    world.fleet.start(*brokers)
    ended = world.client.wait_all(placed, 60)

    assert {order.status for order in ended} == {"filled"}, [o for o in ended if o.status != "filled"][:3]
    filled: dict[str, Decimal] = {}
    for order in world.control.orders():
        id_ = (order["client_order_id"] or "").partition("~")[0]
        filled[id_] = filled.get(id_, Decimal(0)) + Decimal(order["filled_quantity"])
    assert filled == {**filled, **{o.client_order_id: o.quantity for o in ended}}


@SQLITE
def test_when_every_worker_of_a_broker_is_dead_its_queued_orders_move_on(world: World) -> None:
    first = world.fleet.start("ibkr")
    world.fleet.start("alpaca")
    world.fleet.kill(first)
    order = world.orders.send("BA", "buy", 3, route=["ibkr", "alpaca"])
    whole = world.orders.wait(order, "filled", 15)

    assert outcomes_of(whole) == [("alpaca", "accepted")]
    assert [o["door"] for o in world.orders.at_doors(order.client_order_id)] == ["alpaca"]


@SQLITE
def test_orders_wait_for_a_broker_that_is_their_only_one_and_expire_there(world: World) -> None:
    from datetime import UTC, datetime, timedelta

    soon = datetime.now(UTC) + timedelta(seconds=3)
    stale = world.orders.send("GE", "buy", 3, route="ibkr", expires_at=soon)
    fresh = world.orders.send("GE", "buy", 4, route="ibkr")
    eventually(lambda: datetime.now(UTC) > soon, 5)
    world.fleet.start("ibkr")
    assert world.orders.wait(fresh, "filled")["filled_quantity"] == 4
    whole = world.orders.wait(stale, "expired")
    assert whole["attempts"] == []
    assert [o["quantity"] for o in world.orders.at_doors(symbol="GE")] == ["4"]
