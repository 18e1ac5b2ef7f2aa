"""The brake: a halt holds for what is claimed and has not left, for replaces, and for nobody else's scope."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from models.history import History
from models.record.controls import in_force
from models.record.tables import control_events
from tests.kit import World, events_of, eventually, outcomes_of
from worker.control.controls import stop
from worker.control.scopes import Scope

#: Below the market: it rests.
LOW = "1.00"
WHO = ("--by", "ana", "--reason", "drill")
ORDERS = 60


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world(["alpaca", "tda"])
    made.fleet.start_all()
    return made


@pytest.fixture(autouse=True)
def _nothing_is_halted(world: World) -> Iterator[None]:
    yield
    world.corro("resume", "--all", *WHO)


def sent_at(world: World, symbol: str) -> list[float]:
    """When the doors got the orders in a symbol, seconds since 1970."""
    lines = [line for line in world.control.ledger() if line.get("symbol") == symbol and line["event"] == "arrived"]
    return sorted(datetime.fromisoformat(line["at"]).timestamp() for line in lines)


def stopped(world: World) -> list[tuple[str, str]]:
    with world.database.read() as connection:
        return [(row["state"], row["scope"]) for row in in_force(connection)]


def test_a_kill_closes_coins_too(world: World) -> None:
    coins = {"asset_class": "crypto", "time_in_force": "gtc", "route": "alpaca", "strategy": "coins"}
    world.orders.wait(world.orders.send("BTC/USD", "buy", "0.02", **coins), "filled")
    said = world.corro("kill", "--strategy", "coins", "--flatten", *WHO)
    assert (said.status, "1 positions closed" in said.out + said.err) == (0, True), said
    assert world.corro("positions", "--json").json == []


def test_no_send_begins_after_a_halt_and_what_it_stopped_never_trades(world: World) -> None:
    world.control.add_fault("alpaca", "slow", symbol="KO", seconds=1.0)
    orders = world.client.submit_many([world.orders.request("KO", quantity=1, route="alpaca") for _ in range(ORDERS)])
    eventually(lambda: len(sent_at(world, "KO")) >= 4, 10)
    stop(world.database, Scope(), "halt", "drill", "ana")  # a command takes its time on a busy machine
    with world.database.read() as connection:
        halted_at = in_force(connection)[0]["at"].timestamp()
    ended = [order.wait(20) for order in orders]
    world.control.clear_faults()
    late = [at - halted_at for at in sent_at(world, "KO") if at > halted_at + 0.3]
    assert late == []
    denied = [order for order in ended if order.status == "denied"]
    assert denied, "all of them had left before the halt"
    whole = [world.orders.whole(order.client_order_id) for order in denied]
    assert {(one["reason_code"], *outcomes_of(one)[-1:]) for one in whole} <= {
        ("halted", ("alpaca", "not_sent")), ("halted",)
    }  # fmt: skip
    assert any(outcomes_of(one) for one in whole), "none had been claimed"
    before = len(sent_at(world, "KO"))
    assert world.corro("resume", *WHO).status == 0
    assert world.orders.send("VZ", route="alpaca").wait(10).status == "filled"
    assert len(sent_at(world, "KO")) == before


def test_a_halted_broker_passes_its_orders_on(world: World) -> None:
    assert world.corro("halt", "--broker", "alpaca", *WHO).status == 0
    whole = world.orders.wait(world.orders.send("PEP", route=["alpaca", "tda"]), "filled")
    assert outcomes_of(whole) == [("alpaca", "not_sent"), ("tda", "accepted")]
    assert whole["attempts"][0]["code"] == "halted"
    alone = world.orders.wait(world.orders.send("PEP", route="alpaca"), "denied")
    assert alone["reason_code"] == "halted"


def test_under_a_halt_a_replace_only_lessens(world: World) -> None:
    order = world.orders.send("WMT", "buy", 10, order_type="limit", limit_price=LOW, route="alpaca")
    world.orders.wait(order, "accepted")
    assert world.corro("halt", *WHO).status == 0
    order.replace(quantity=500)
    eventually(lambda: "replace_refused" in events_of(world.orders.whole(order.client_order_id)), 10)
    order.replace(limit_price="50.00")
    eventually(lambda: events_of(world.orders.whole(order.client_order_id)).count("replace_refused") == 2, 10)
    order.replace(quantity=4)
    eventually(lambda: "replaced" in events_of(world.orders.whole(order.client_order_id)), 10)
    (live,) = [o for o in world.orders.at_doors(order.client_order_id) if o["state"] == "new"]
    assert (Decimal(live["quantity"]), Decimal(live["limit_price"])) == (4, 1)
    world.client.cancel(order.client_order_id)
    world.orders.wait(order, "canceled")


def test_resume_ends_what_it_names_and_nobody_elses(world: World) -> None:
    for command in (["halt", *WHO], ["halt", "--broker", "alpaca", *WHO], ["drain", "tda"]):
        assert world.corro(*command).status == 0
    assert stopped(world) == [("draining", "tda"), ("halted", "*"), ("halted", "alpaca")]
    said = world.corro("resume", *WHO)
    assert "still in force: halt of alpaca" in said.err
    assert stopped(world) == [("draining", "tda"), ("halted", "alpaca")]
    world.corro("resume", "--broker", "tda", "--by", "ben", "--reason", "fed")
    assert stopped(world) == [("halted", "alpaca")]
    assert "nothing was stopped" in world.corro("resume", *WHO).out
    world.corro("resume", "--all", *WHO)
    assert stopped(world) == []


def test_every_control_is_kept_with_who_and_why(world: World) -> None:
    began = time.time()
    world.corro("halt", "--broker", "tda", "--by", "ana", "--reason", "lunch")
    world.corro("resume", "tda", "--by", "ben", "--reason", "fed")
    world.corro("drain", "tda", USER="carla", LOGNAME="carla")
    journal: list[dict[str, Any]] = world.corro("controls", "--log", "--json").json
    newest = [row for row in journal if datetime.fromisoformat(row["at"]).timestamp() >= began - 1][:3]
    assert [(row["kind"], row["scope_kind"], row["scope"], row["by"], row["reason"]) for row in newest] == [
        ("drain", "broker", "tda", "carla", "draining"),
        ("resume", "broker", "tda", "ben", "fed"),
        ("halt", "broker", "tda", "ana", "lunch"),
    ]
    assert "ana" in newest[1]["detail"]
    assert len(History(world.database).rows(control_events)) == len(journal)
    assert [row["state"] for row in world.corro("controls", "--json").json] == ["draining"]


# -- KILL ---
def resting(world: World, broker: str, count: int, symbol: str = "KO", strategy: str = "dip") -> list[str]:
    """Orders that rest at a broker."""
    terms = {"quantity": 1, "order_type": "limit", "limit_price": LOW, "route": broker, "strategy": strategy}
    placed = world.client.submit_many([world.orders.request(symbol, **terms) for _ in range(count)])
    ids = [order.client_order_id for order in placed]
    eventually(lambda: all(world.client.order(id_).status == "accepted" for id_ in ids), 20)
    return ids


def canceled_at(world: World) -> list[float]:
    """When the doors canceled orders, seconds since 1970."""
    lines = [line for line in world.control.ledger() if line["event"] == "canceled"]
    return sorted(datetime.fromisoformat(line["at"]).timestamp() for line in lines)


def test_a_kill_cancels_everything_within_a_moment_and_closes_what_strategies_hold(world: World) -> None:
    for strategy, quantity in (("dip", 3), ("trend", 4)):
        bought = world.orders.send("PEP", "buy", quantity, route="alpaca", strategy=strategy)
        world.orders.wait(bought, "filled")
    ids = [*resting(world, "alpaca", 12), *resting(world, "tda", 4)]
    said = world.corro("kill", "--flatten", "--json", *WHO)
    told = said.json
    assert (said.status, told["ok"], told["left"], told["wished"]) == (0, True, [], 16), said.err
    assert {world.client.order(id_).status for id_ in ids} == {"canceled"}
    closed = {row["strategy"]: (row["side"], Decimal(row["quantity"])) for row in told["closing"] if row["strategy"]}
    assert closed == {"dip": ("sell", 3), "trend": ("sell", 4)}
    assert "left: " in said.err
    with world.database.read() as connection:
        (control,) = in_force(connection)
    assert (control["state"], control["by"]) == ("reducing", "ana")
    at = [at - control["at"].timestamp() for at in canceled_at(world)]
    late = [seconds for seconds in at if seconds > 0]
    assert len(late) == 16
    assert late[0] < 0.5, "0.25 s on a machine that does nothing else"
    assert world.orders.wait(world.orders.send("KO", "buy", 1, route="alpaca"), "denied")["reason_code"] == "reducing"


def test_a_kill_whose_command_is_gone_is_carried_out_without_the_queue_and_says_what_is_left(world: World) -> None:
    here, there = resting(world, "alpaca", 3), resting(world, "tda", 1)
    world.fleet.kill(world.fleet.processes["tda"])
    dead = {"CORRO_REDIS_URL": "redis://127.0.0.1:1/0"}
    said = world.corro("kill", "--patience", "0", *WHO, **dead)
    assert said.status == 1
    assert there[0] in said.out
    eventually(lambda: {world.client.order(id_).status for id_ in here} == {"canceled"}, 10)
    assert world.client.order(there[0]).status == "accepted"
    world.fleet.start("tda")
    eventually(lambda: world.client.order(there[0]).status == "canceled", 20)
