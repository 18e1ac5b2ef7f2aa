"""Cancels and replaces that people want: as parallel, patient and isolated as orders."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from producers.handles import Order
from tests.kit import World, events_of, eventually, outcomes_of

#: Below the market: it rests.
LOW = "1.00"
MANY = 60
#: Seconds that the door takes for each answer.
SLOW = 0.25


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world(["alpaca"])
    made.fleet.start_all()
    return made


def rest(world: World, count: int, symbol: str) -> list[Order]:
    requests = [world.orders.request(symbol, "buy", 1, order_type="limit", limit_price=LOW) for _ in range(count)]
    return world.client.submit_many(requests)


def wait_all(world: World, orders: Sequence[Order], status: str) -> None:
    waiting = {order.client_order_id for order in orders}

    def done() -> bool:
        waiting.difference_update([id_ for id_ in waiting if (world.orders.row(id_) or {})["status"] == status])
        return not waiting

    eventually(done, 60, lambda: {id_: world.orders.row(id_) for id_ in sorted(waiting)[:3]})


def cancel_all(world: World, orders: Sequence[Order], *more: str) -> None:
    """As a bare message does it: all of them in one."""
    ids = [order.client_order_id for order in orders]
    world.client._bell.ring([("orders.cancel", "control.alpaca", {"client_order_ids": [*more, *ids]})])


def test_cancels_go_out_as_quickly_as_orders(world: World) -> None:
    world.control.add_fault("alpaca", "slow", symbol="KO", seconds=SLOW)
    begun = time.monotonic()
    orders = rest(world, MANY, "KO")
    wait_all(world, orders, "accepted")
    sent_in = time.monotonic() - begun
    world.control.clear_faults()
    world.control.add_fault("alpaca", "slow", operation="cancel", seconds=SLOW)
    begun = time.monotonic()
    cancel_all(world, orders, "nul\0", "x" * 500)
    wait_all(world, orders, "canceled")
    canceled_in = time.monotonic() - begun
    assert canceled_in < max(2.5 * sent_in, MANY * SLOW / 3), f"{MANY} orders: {sent_in:.1f} s"
    events = [kind for order in orders for kind in events_of(world.orders.whole(order.client_order_id))]
    assert events.count("cancel_sent") == MANY
    assert "cancel_refused" not in events, "asked for twice"


def test_a_replace_that_meets_a_full_budget_is_done_later(new_world: Callable[..., World]) -> None:
    # Every second and two, as the healers of the tests read, their readings alone would fill what orders may use of it.
    world = new_world(
        ["alpaca"],
        timing={"open_orders_every": 5.0, "positions_every": 10.0},
        more={"alpaca": {"requests_per_minute": 240, "budget_window": 4}},
    )
    world.fleet.start_all()
    (order,) = rest(world, 1, "KO")
    wait_all(world, [order], "accepted")
    others = rest(world, 25, "PEP")
    eventually(lambda: any("budget" in str((world.orders.row(o.client_order_id) or {})["reason"]) for o in others), 20)
    order.replace(limit_price="2.00")

    def kinds() -> list[str]:
        return events_of(world.orders.whole(order.client_order_id))

    eventually(lambda: "replaced" in kinds(), 60, kinds)
    assert "replace_not_sent" in kinds(), "the budget was not full"
    whole = world.orders.whole(order.client_order_id)
    assert (whole["limit_price"], whole["replace_request"], outcomes_of(whole)[-1]) == (2, None, ("alpaca", "accepted"))
