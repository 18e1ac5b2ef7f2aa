"""What is asked of linked orders and of coins, through whole fleets: an exit that fills while the other is canceled,
and a coin that is bought while every exchange is closed.

The wall clock of every process of the world stands on a Saturday; the test's own does not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.record.tables import position_locks
from tests.kit import World, events_of, eventually, outcomes_of

BROKERS = ("alpaca", "schwab", "ibkr")
CLOCK = Path(__file__).parents[1] / "chaos" / "clock"
SYMBOLS = {"alpaca": "SIM001", "schwab": "SIM002", "ibkr": "SIM003"}


def until_saturday() -> float:
    """Return the seconds until a Saturday at noon in New York, or nearly."""
    now = datetime.now(UTC)
    noon = now.replace(hour=17, minute=0, second=0, microsecond=0)
    return (noon + timedelta(days=(5 - now.weekday()) % 7) - now).total_seconds()


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], tmp_path_factory: pytest.TempPathFactory) -> World:
    clock = tmp_path_factory.mktemp("clock") / "clock"
    clock.write_text(str(until_saturday()))
    made = make_world(BROKERS, variables={"PYTHONPATH": str(CLOCK), "WALL_CLOCK_FILE": str(clock)})
    made.fleet.start_all()
    return made


def ordered(world: World, *arguments: str) -> str:
    """Submit an order by the command line; returns its id."""
    said = world.corro("submit", *arguments, "--json")
    assert said.status == 0, said
    return str(said.json["client_order_id"])


def test_a_stop_that_fills_while_its_target_is_being_canceled_closes_the_position_once(world: World) -> None:
    exits = ("--take-profit", "110", "--stop-loss", "95", "--tif", "gtc")
    for broker, symbol in SYMBOLS.items():
        world.control.set_price(symbol, "100")
        said = world.corro("bracket", symbol, "buy", "10", *exits, "--id", broker, "--route", broker)
        assert said.status == 0, said
    for broker in BROKERS:
        world.orders.wait(broker, "filled")
        for leg in ("tp", "sl"):
            world.orders.wait(f"{broker}.{leg}", "accepted")
        on_its_way = {"before": True} if broker != "ibkr" else {}  # at IB nothing else is slow
        world.control.add_fault(broker, "slow", count=1, operation="cancel", seconds=2.0, **on_its_way)
    world.corro("cancel", *(f"{broker}.tp" for broker in BROKERS))
    eventually(lambda: not world.control.faults(), 10, world.control.faults)
    for symbol in SYMBOLS.values():
        world.control.set_price(symbol, "94")
    for broker, symbol in SYMBOLS.items():
        closed_once(world, broker, symbol)


def closed_once(world: World, broker: str, symbol: str) -> None:
    """See that the stop of a bracket has closed it, and nothing else; at the door, and in the record."""
    stop, target = world.orders.wait(f"{broker}.sl", "filled"), world.orders.wait(f"{broker}.tp", "canceled")
    assert [fill["quantity"] for fill in stop["fills"]] == [10]
    assert (target["filled_quantity"], target["fills"]) == (0, [])
    group = eventually(lambda: (found := world.client.group(broker)).status == "closed" and found, 15)
    assert sum(leg.filled_quantity for leg in group.legs.values()) == 20
    told = {kind for leg in ("", ".tp", ".sl") for kind in events_of(world.orders.whole(f"{broker}{leg}"))}
    assert "cancel_requested" in told
    assert not {"unprotected", "overfilled", "overclosed", "group_partial"} & told
    at_door = [(order["state"], Decimal(order["filled_quantity"])) for order in world.orders.at_doors(symbol=symbol)]
    assert sorted(at_door) == [("canceled", 0), ("filled", 10), ("filled", 10)]
    assert world.control.accounts()[broker]["positions"].get(symbol) is None
    assert locked(world, symbol) == []


def locked(world: World, symbol: str) -> list[Any]:
    with world.database.read() as connection:
        return list(connection.execute(select(position_locks).where(position_locks.c.symbol == symbol)))


def test_a_coin_ordered_at_the_weekend_is_filled_while_shares_wait(world: World) -> None:
    world.control.add_fault("*", "market_closed")
    held = ordered(world, "KO", "buy", "3", "--route", "alpaca", "--session", "regular")
    queued = {broker: ordered(world, "PEP", "buy", "2", "--route", broker, "--tif", "gtc") for broker in BROKERS}
    coin = ordered(world, "BTC/USD", "buy", "0.01", "--asset-class", "crypto", "--route", "alpaca", "--wait")

    bought = world.orders.whole(coin)
    assert (bought["status"], bought["filled_quantity"]) == ("filled", Decimal("0.01"))
    assert Decimal(world.control.accounts()["alpaca"]["positions"]["BTC/USD"]["quantity"]) == Decimal("0.01")
    row = world.orders.wait(held, "held")
    assert "the regular session opens at" in str(row["reason"])
    assert world.orders.at_doors(symbol="KO") == []
    for broker, id_ in queued.items():
        assert outcomes_of(world.orders.wait(id_, "accepted")) == [(broker, "accepted")]
    world.control.clear_faults(kind="market_closed")
    for id_ in queued.values():
        world.orders.wait(id_, "filled")
    world.corro("cancel", held)
    world.orders.wait(held, "canceled")
