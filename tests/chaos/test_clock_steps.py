"""The wall clock of a running worker is set ahead and back: nothing is sent twice, and nothing waits for the old time.

The clock is set in the worker's process alone, as time-machine does it; queue, sandbox and producer keep the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from models.record.tables import leases
from tests.kit import World, events_of, eventually, never, outcomes_of
from worker.local.processes import Process

HOUR = 3600.0
HERE = Path(__file__).parent / "clock"


class Skewed:
    """A world whose workers' wall clock is set by the test."""

    def __init__(self, world: World) -> None:
        self.world, self.file = world, world.home / "clock"
        self.set(0)

    def set(self, seconds: float) -> None:
        """Set the workers' clock so far ahead of the real one."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.file)

    def start(self, name: str, **more: str) -> Process:
        return self.world.fleet.start(name, PYTHONPATH=str(HERE), WALL_CLOCK_FILE=str(self.file), **more)

    def seen(self, seconds: float) -> None:
        """Wait until a worker's heartbeat shows the clock as it was set."""
        from models.record.tables import workers

        def shows() -> bool:
            with self.world.database.read() as connection:
                beats = connection.execute(select(workers.c.heartbeat_at).where(workers.c.state == "ready")).scalars()
                return any(abs((b - datetime.now(UTC)).total_seconds() - seconds) < 30 for b in beats)

        eventually(shows, 15)


@pytest.fixture(scope="module")
def skewed(make_world: Callable[..., World]) -> Skewed:
    return Skewed(make_world(["alpaca", "ibkr"]))


@pytest.fixture(autouse=True)
def _workers_of_its_own(skewed: Skewed) -> Iterator[None]:
    yield
    try:
        skewed.world.money.check(10)
    finally:
        skewed.world.fleet.kill_all()
        skewed.set(0)


@pytest.mark.parametrize("step", [HOUR, pytest.param(-HOUR, marks=pytest.mark.soak)], ids=["ahead", "back"])
def test_a_step_while_an_order_is_on_its_way_does_not_make_it_absent(skewed: Skewed, step: float) -> None:
    """The broker takes the order long after the worker gave up waiting, and looking for it finds nothing until then."""
    world, symbol = skewed.world, "KO" if step > 0 else "PEP"
    skewed.start("alpaca")
    world.control.add_fault("alpaca", "slow", count=1, symbol=symbol, operation="place", seconds=8.0, before=True)
    lasting = datetime.now(UTC) + timedelta(hours=3)  # the step alone does not make it too old to be sent again
    order = world.orders.send(symbol, "buy", 3, route=["alpaca", "ibkr"], expires_at=lasting)
    eventually(lambda: not world.control.faults(), 15, lambda: world.orders.whole(order.client_order_id))  # it has left
    assert outcomes_of(world.orders.whole(order.client_order_id)) == [("alpaca", "sending")]
    skewed.set(step)
    whole = world.orders.wait(order, "filled", 30)

    assert outcomes_of(whole) == [("alpaca", "accepted")], whole["events"]
    assert "absent" not in events_of(whole)
    assert [o["door"] for o in world.orders.at_doors(symbol=symbol)] == ["alpaca"]
    # And the worker goes on by the new clock, and by the old one when it is set right.
    skewed.seen(step)
    skewed.set(0)
    skewed.seen(0)
    world.orders.wait(world.orders.send(symbol, "buy", 1, route="alpaca"), "filled", 15)


@pytest.mark.soak
def test_a_clock_that_is_ahead_lets_orders_expire_instead_of_sending_them_late(skewed: Skewed) -> None:
    world = skewed.world
    skewed.start("alpaca")
    resting = world.orders.send("WMT", "buy", 1, order_type="limit", limit_price="1", route="alpaca")
    world.orders.wait(resting, "accepted")
    skewed.set(HOUR)
    skewed.seen(HOUR)
    stale = world.orders.send("WMT", "buy", 2, route="alpaca")
    assert world.orders.wait(stale, "expired")["attempts"] == []
    lasting = world.orders.send("WMT", "buy", 3, route="alpaca", expires_at=datetime.now(UTC) + timedelta(hours=3))
    world.orders.wait(lasting, "filled")
    world.client.cancel(resting.client_order_id)
    world.orders.wait(resting, "canceled")
    skewed.set(0)
    skewed.seen(0)
    world.orders.wait(world.orders.send("WMT", "buy", 4, route="alpaca"), "filled")


def test_a_clock_that_is_behind_sends_nothing_old_and_catches_up_when_it_is_set_right(skewed: Skewed) -> None:
    world = skewed.world
    skewed.start("alpaca")
    skewed.set(-HOUR)
    skewed.seen(-HOUR)
    order = world.orders.send("DIS", "buy", 2, route="alpaca")
    short = world.orders.send("DIS", "buy", 3, route="alpaca", expires_at=datetime.now(UTC) + timedelta(seconds=2))
    never(lambda: world.orders.at_doors(symbol="DIS"), 2.5)
    skewed.set(0)
    world.orders.wait(order, "filled", 15)
    assert world.orders.wait(short, "expired", 15)["attempts"] == []


def test_nobody_waits_for_the_lease_of_a_dead_worker_whose_clock_was_ahead(skewed: Skewed) -> None:
    world = skewed.world
    first = skewed.start("alpaca")
    skewed.set(HOUR)
    skewed.seen(HOUR)

    def until() -> datetime:
        with world.database.read() as connection:
            return connection.execute(select(leases.c.until).where(leases.c.name == "leader.alpaca")).scalar_one()

    eventually(lambda: until() > datetime.now(UTC) + timedelta(minutes=30), 10)
    world.fleet.kill(first)
    world.fleet.queue.delete("orders.alpaca")
    order = world.orders.send("XOM", "buy", 2, route="alpaca")
    world.fleet.queue.delete("orders.alpaca")  # only a leader's sweep can find it now
    world.fleet.start("alpaca", label="next")
    world.orders.wait(order, "filled", 15)
    assert until() < datetime.now(UTC) + timedelta(minutes=1)
