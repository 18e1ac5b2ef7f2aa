"""A thousand cancels in one message take no longer than a thousand orders do: `make slow`."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from models.record.tables import orders
from tests.kit import World, eventually

MANY = 1000
#: Seconds that the door takes for each answer.
SLOW = 0.25
#: Below the market: it rests.
LOW = "1.00"
#: No budget of the account is what is measured here.
GENEROUS = {"requests_per_minute": 100_000}


def seconds_until(world: World, status: str, begun: float) -> float:
    """Wait until that many orders have a status; returns how long that took since `begun`."""
    query = select(func.count()).where(orders.c.status == status)

    def count() -> int:
        with world.client.database.read() as connection:
            return connection.execute(query).scalar_one()

    eventually(lambda: count() == MANY, 150, count)
    return time.monotonic() - begun


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", ["alpaca", "ibkr"])  # TDA takes orders of one symbol one after the other
def test_a_thousand_cancels_take_no_longer_than_a_thousand_orders(
    new_world: Callable[..., World], broker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = new_world([broker], more={broker: GENEROUS})
    world.fleet.start_all()
    request = world.orders.request
    requests = [request("KO", "buy", 1 + n, order_type="limit", limit_price=LOW) for n in range(MANY)]
    world.control.add_fault(broker, "slow", symbol="KO", seconds=SLOW)
    begun = time.monotonic()
    placed = world.client.submit_many(requests)
    ordered_in = seconds_until(world, "accepted", begun)
    world.control.clear_faults()
    world.control.add_fault(broker, "slow", operation="cancel", seconds=SLOW)
    begun = time.monotonic()
    ids = [order.client_order_id for order in placed]
    world.client._bell.ring([("orders.cancel", f"control.{broker}", {"client_order_ids": ids})])
    canceled_in = seconds_until(world, "canceled", begun)
    with capsys.disabled():
        print(f"\n{broker}: {MANY} orders in {ordered_in:.1f} s, {MANY} cancels in {canceled_in:.1f} s")
    assert canceled_in <= ordered_in * 1.2  # two runs of the same differ by a tenth on a busy machine
