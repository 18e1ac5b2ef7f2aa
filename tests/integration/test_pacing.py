"""A burst of orders and fetches over three workers: the doors enforce the brokers' limits, and never have to.

Two of the workers share an Alpaca account. The doors count what arrives and write a line for every call that they turn
away (429, error 100); there must be none. Limits are real in the long run (`make soak`); in the default run Alpaca's
minute is a few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from models.messages import utcnow
from models.record.tables import attempts, fetches, orders
from producers.handles import Order
from tests.kit import World, eventually

MakeWorld = Callable[..., World]
#: The doors' limits are the brokers'; ours are what corro has as its defaults, 95 % and 90 % of them.
ALPACA, OURS, TWS = 200, 190, 50


@dataclass(frozen=True)
class BurstScale:
    """How large a burst is, and over how many seconds Alpaca's limit is counted.

    `faster` multiplies the limit per minute, so that a short window still holds a number of requests worth counting.
    `ours` is the budget per minute: a machine that stalls for a moment bunches requests, which weighs more in a window
    of seconds.
    """

    orders: int
    fetches: int
    window_s: float
    faster: float
    within_s: float
    ours: int = OURS


def paced(make_world: MakeWorld, scale: BurstScale) -> World:
    """Three workers at doors that enforce their limits."""
    table = {"requests_per_minute": scale.ours * scale.faster, "budget_window": scale.window_s}
    world = make_world(
        ["ibkr", "alpaca"],
        more={"alpaca": {**table, "data_requests_per_minute": scale.ours * scale.faster}},
        timing={
            "open_orders_every": 5.0,
            "positions_every": 10.0,
            "deadline": 6.0,
            "fresh": 8.0,
            "lease": 30.0,
            "dead_after": 20.0,
        },
    )
    world.control.add_fault("alpaca", "rate_limit", per_minute=ALPACA * scale.faster, window_s=scale.window_s)
    world.control.add_fault("ibkr", "rate_limit", per_second=TWS)
    world.fleet.start("ibkr", "alpaca")
    world.fleet.start("alpaca", label="alpaca2")
    return world


def turned_away(world: World) -> list[dict[str, Any]]:
    """The doors' own record of calls above their limits."""
    return [line for line in world.control.ledger() if line["event"] == "limited"]


def statuses(world: World, placed: Sequence[Order]) -> dict[str, int]:
    with world.database.read() as connection:
        query = select(orders.c.status, func.count()).group_by(orders.c.status)
        ours = orders.c.client_order_id.in_([order.client_order_id for order in placed])
        return {str(status): count for status, count in connection.execute(query.where(ours))}


def done_fetches(world: World) -> dict[str, int]:
    with world.database.read() as connection:
        query = select(fetches.c.status, func.count()).group_by(fetches.c.status)
        return {str(status): count for status, count in connection.execute(query)}


def ask_for_data(world: World, count: int) -> None:
    """Fetches of every kind, to either broker."""
    now = utcnow()
    for number in range(count):
        route = [("ibkr", "alpaca")[number % 2]]
        symbol = ("AAPL", "MSFT", "KO", "SPY")[number // 2 % 4]
        if number % 5 < 4:
            world.client.quote(symbol, route=route)
        else:
            world.client.bars(symbol, "1Day", now - timedelta(days=20 + number), now, route=route)


def burst(world: World, scale: BurstScale) -> dict[str, Any]:
    """Submit it all at once, cancel something in the middle of it, and wait for the end."""
    resting = {"order_type": "limit", "limit_price": "1.00", "expires_at": utcnow() + timedelta(minutes=30)}
    waiting = [world.orders.send("MSFT", "buy", 1, route=name, **resting) for name in ("ibkr", "alpaca") * 3]
    for order in waiting:
        world.orders.wait(order, "accepted", 30)
    started = time.monotonic()
    ask_for_data(world, scale.fetches)
    lasting = utcnow() + timedelta(seconds=scale.within_s + 60)
    wishes = [
        world.orders.request("AAPL", "buy", 1 + number % 7, expires_at=lasting, route=route)
        for number, route in enumerate([["ibkr", "alpaca"], ["alpaca", "ibkr"]] * (scale.orders // 2))
    ]
    placed = world.client.submit_many(wishes)
    eventually(lambda: statuses(world, placed).get("filled", 0) > scale.orders // 20, scale.within_s)

    asked = time.monotonic()
    for order in waiting:
        world.client.cancel(order.client_order_id)
    for order in waiting:
        world.orders.wait(order, "canceled", 30)
    canceled_s = time.monotonic() - asked
    during = statuses(world, placed)

    eventually(
        lambda: statuses(world, placed).get("filled") == scale.orders, scale.within_s, lambda: statuses(world, placed)
    )
    orders_s = time.monotonic() - started
    fetched = done_fetches(world).get("done", 0)
    eventually(lambda: done_fetches(world) == {"done": scale.fetches}, scale.within_s, lambda: done_fetches(world))
    with world.database.read() as connection:
        tries = connection.execute(select(func.count()).select_from(attempts)).scalar_one()
    return {
        "orders_s": round(orders_s, 1), "fetches_s": round(time.monotonic() - started, 1), "fetched_first": fetched,
        "canceled_s": round(canceled_s, 2), "filled_when_canceled": during.get("filled", 0),
        "attempts": tries, "turned_away": len(turned_away(world)),
    }  # fmt: skip


def check(world: World, scale: BurstScale) -> None:
    told = burst(world, scale)
    print(told)
    assert turned_away(world) == []
    assert told["filled_when_canceled"] < scale.orders, "the cancels came in the middle of the burst"
    assert told["canceled_s"] < 10.0
    with world.database.read() as connection:
        unknown = select(func.count()).where(attempts.c.outcome.in_(["unknown", "absent"]))
        assert connection.execute(unknown).scalar_one() == 0, "pacing leaves no order unknown"


@pytest.mark.timeout(500)
def test_a_burst_over_three_workers_is_never_too_much(new_world: MakeWorld) -> None:
    """The time that a burst may take is a slow machine's: the doors' limits are judged, not the speed."""
    scale = BurstScale(orders=600, fetches=120, window_s=4.0, faster=24, within_s=300.0, ours=160)
    check(paced(new_world, scale), scale)


@pytest.mark.soak
def test_a_burst_at_the_real_limits(new_world: MakeWorld) -> None:
    scale = BurstScale(orders=1000, fetches=200, window_s=60.0, faster=1, within_s=900.0)
    check(paced(new_world, scale), scale)
