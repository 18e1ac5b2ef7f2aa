"""A leader that is suspended loses its lease; when it wakes up, nothing of what it had read is written."""

from __future__ import annotations

import signal
from collections.abc import Callable
from decimal import Decimal

from sqlalchemy import select

from models.record.tables import leases, position_locks, position_snapshots
from tests.kit import World, eventually, never
from worker.fleet.identity import process_state
from worker.local.processes import Process


def paused(world: World) -> Process:
    """Start a leader that stops with positions in hand, while no other thread of it is in a transaction."""
    for number in range(9):
        # The first reading is that of the connect; it stops in the one after.
        first = world.fleet.start("alpaca", label=f"first-{number}", CORRO_PAUSE="before_positions:2")
        eventually(lambda pid=first.popen.pid: process_state(pid) == "T", 20)
        if world.fleet.is_free():
            return first
        world.fleet.kill(first)
    raise AssertionError("it always stopped in the middle of a transaction")


def test_a_leader_that_wakes_up_after_its_lease_writes_nothing_it_read_before(
    new_world: Callable[..., World],
) -> None:
    world = new_world(["alpaca"])
    world.control.set_position("alpaca", "KO", 50)
    first = paused(world)
    second = world.fleet.start("alpaca", label="second", ready=False)

    def leader() -> str:
        with world.database.read() as connection:
            return str(connection.execute(select(leases.c.holder).where(leases.c.name == "leader.alpaca")).scalar())

    def held() -> dict[str, Decimal]:
        with world.database.read() as connection:
            p = position_snapshots.c
            return {row.symbol: row.quantity for row in connection.execute(select(p.symbol, p.quantity))}

    assert str(first.popen.pid) in leader()
    world.fleet.wait_ready(second)
    eventually(lambda: f":{second.popen.pid}." in leader(), 15, leader)
    world.orders.wait(world.orders.send("KO", "sell", 50, route="alpaca"), "filled")
    world.orders.wait(world.orders.send("PEP", "buy", 5, route="alpaca"), "filled")
    eventually(lambda: held() == {"PEP": 5}, 15, held)

    first.popen.send_signal(signal.SIGCONT)

    def awake() -> bool:
        return world.fleet.state(first) == "ready" and process_state(first.popen.pid) in ("S", "R")

    eventually(awake, 15)
    never(lambda: held() != {"PEP": 5}, 3)
    with world.database.read() as connection:
        assert connection.execute(select(position_locks)).all() == []
    assert f":{second.popen.pid}." in leader()
    # It is of use again: it takes orders, and would lead if it had to.
    world.fleet.kill(second)
    eventually(lambda: f":{first.popen.pid}." in leader(), 15, leader)
    world.orders.wait(world.orders.send("PEP", "buy", 1, route="alpaca"), "filled")
    eventually(lambda: held() == {"PEP": 6}, 15, held)
