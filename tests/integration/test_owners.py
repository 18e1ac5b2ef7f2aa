"""At IB an order belongs to the client id that placed it: its own worker cancels and changes it, whoever leads."""

from __future__ import annotations

import signal
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from models.record.tables import attempts, leases, workers
from models.vocabulary import Outcome
from tests.kit import World, events_of, eventually, never
from worker.local.processes import Process
from worker.orders.succession import LATE_REFUSAL

NewWorld = Callable[..., World]


def start(world: World, client_id: int) -> Process:
    return world.fleet.start("ibkr", label=f"client-{client_id}", CORRO_BROKERS__IBKR__CLIENT_ID=str(client_id))


def rest(world: World, count: int = 1) -> list[str]:
    """Place orders far below the market; returns their ids once they are accepted."""
    terms = {"order_type": "limit", "limit_price": "1", "time_in_force": "gtc"}
    placed = [world.orders.send("AAPL", "buy", 1 + number, **terms) for number in range(count)]
    return [world.orders.wait(order, "accepted", 20)["client_order_id"] for order in placed]


def leads(world: World, process: Process) -> bool:
    with world.database.read() as connection:
        name = select(workers.c.worker).where(workers.c.pid == process.popen.pid).scalar_subquery()
        return bool(connection.execute(select(leases.c.name).where(leases.c.holder == name)).first())


def owner_and_leader(world: World, count: int) -> tuple[Process, Process, list[str]]:
    """Have one worker own orders and another one lead; both live."""
    owner = start(world, 7)
    ids = rest(world, count)
    world.fleet.suspend(owner)
    leader = start(world, 8)
    eventually(lambda: leads(world, leader), 20)
    owner.popen.send_signal(signal.SIGCONT)
    eventually(lambda: world.fleet.state(owner) == "ready" and not leads(world, owner), 20)
    assert {attempt["session"] for id_ in ids for attempt in world.orders.whole(id_)["attempts"]} == {"7"}
    return owner, leader, ids


def replaced(world: World, id_: str) -> dict[str, Any]:
    eventually(lambda: "replaced" in events_of(world.orders.whole(id_)), 30, lambda: world.orders.whole(id_))
    return world.orders.whole(id_)


def test_every_worker_cancels_what_its_own_client_id_placed(new_world: NewWorld) -> None:
    world = new_world(["ibkr"])
    _, _, ids = owner_and_leader(world, 5)
    ids += rest(world, 5)  # by either of them
    for id_ in ids:
        world.client.cancel(id_)
    for id_ in ids:
        world.orders.wait(id_, "canceled", 20)
    assert {order["state"] for order in world.orders.at_doors(symbol="AAPL")} == {"canceled"}
    assert not any("cancel_waits" in events_of(world.orders.whole(id_)) for id_ in ids)


def test_the_living_owner_changes_its_orders_and_the_leader_keeps_out(new_world: NewWorld) -> None:
    world = new_world(["ibkr"])
    _, _, ids = owner_and_leader(world, 5)
    for id_ in ids:
        world.client.replace(id_, limit_price="2")
    for id_ in ids:
        whole = replaced(world, id_)
        assert [(a["outcome"], a["session"]) for a in whole["attempts"]] == [("accepted", "7")] * 2, whole
        assert whole["limit_price"] == Decimal(2)


def test_what_a_killed_owner_placed_is_changed_and_canceled_under_its_client_id(new_world: NewWorld) -> None:
    world = new_world(["ibkr"])
    owner, _, (first, second) = owner_and_leader(world, 2)
    world.fleet.kill(owner)
    world.client.cancel(first)
    world.client.replace(second, limit_price="2")
    world.orders.wait(first, "canceled", 30)
    whole = replaced(world, second)
    assert [(a["outcome"], a["session"]) for a in whole["attempts"]] == [("accepted", "7")] * 2, whole
    world.client.cancel(second)
    world.orders.wait(second, "canceled", 30)


def test_the_living_owner_cancels_what_was_refused_after_acceptance(new_world: NewWorld) -> None:
    world = new_world(["ibkr"])
    _, _, (id_,) = owner_and_leader(world, 1)
    with world.database.write() as connection:  # as a refusal after acceptance is recorded; the order still works
        values = {"outcome": str(Outcome.UNKNOWN), "code": LATE_REFUSAL, "message": "201 rejected"}
        connection.execute(update(attempts).where(attempts.c.client_order_id == id_).values(**values))
    eventually(
        lambda: {order["state"] for order in world.orders.at_doors(id_)} == {"canceled"},
        20,
        lambda: world.orders.whole(id_),
    )
    world.orders.wait(id_, ["rejected", "canceled"], 20)


@pytest.mark.parametrize("wish", ["cancel", "replace"])
def test_a_wish_that_nobody_can_carry_out_says_who_has_to_be_alive(new_world: NewWorld, wish: str) -> None:
    world = new_world(["ibkr"])
    owner, _, (id_,) = owner_and_leader(world, 1)
    world.fleet.suspend(owner)  # silent, and its socket stands: TWS gives its client id to nobody else
    if wish == "cancel":
        world.client.cancel(id_)
    else:
        world.client.replace(id_, limit_price="2")
    kind = f"{wish}_waits"
    eventually(lambda: kind in events_of(world.orders.whole(id_)), 20, lambda: world.orders.whole(id_))

    def more(whole: dict[str, Any]) -> dict[str, Any] | None:
        return whole if events_of(whole).count(kind) > 1 or len(whole["attempts"]) > 1 else None

    never(lambda: more(world.orders.whole(id_)), 3)
    whole = world.orders.whole(id_)
    words = "waits for a worker of ibkr with client id 7"
    assert words in whole["reason"]
    for command in (("order", id_), ("unresolved",)):
        assert words in world.corro(*command, timeout=300).out
    owner.popen.send_signal(signal.SIGCONT)
    if wish == "cancel":
        world.orders.wait(id_, "canceled", 30)
    else:
        assert len(replaced(world, id_)["attempts"]) == 2
    assert words not in (world.orders.whole(id_)["reason"] or "")
