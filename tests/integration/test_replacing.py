"""Changing orders that are under way: it counts when the broker has confirmed it, and never doubles a share."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidOrder
from models.settings import Settings
from producers import OrderClient, OrderRequest
from tests.kit import World, events_of, eventually

MakeWorld = Callable[..., World]
BROKERS = ("ibkr", "alpaca", "tda")
#: A price far below the market, and one far above: the first rests, the second is filled at once.
LOW, HIGH = "1.00", "5000.00"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, make_world: MakeWorld) -> World:
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    made = make_world(list(BROKERS), database_url=postgres.fresh() if postgres else None)
    made.fleet.start_all()
    return made


def resting(world: World, broker: str, symbol: str, quantity: int = 10) -> str:
    order = world.orders.send(symbol, "buy", quantity, order_type="limit", limit_price=LOW, route=broker)
    world.orders.wait(order, "accepted")
    return order.client_order_id


def replaced(world: World, id_: str, times: int = 1) -> dict[str, Any]:
    eventually(
        lambda: events_of(world.orders.whole(id_)).count("replaced") == times, 20, lambda: world.orders.whole(id_)
    )
    return world.orders.whole(id_)  # the order is read before its events, so once more


@pytest.mark.parametrize("broker", BROKERS)
def test_a_new_price_is_confirmed_and_the_order_is_filled_once(world: World, broker: str) -> None:
    id_ = resting(world, broker, "KO")
    world.client.replace(id_, limit_price="2.00")
    whole = replaced(world, id_)
    assert (whole["limit_price"], whole["quantity"], whole["status"]) == (Decimal(2), Decimal(10), "accepted")

    world.client.replace(id_, limit_price=HIGH)
    whole = world.orders.wait(id_, "filled", 20)
    assert whole["filled_quantity"] == 10
    assert sum(Decimal(o["filled_quantity"]) for o in world.orders.at_doors(id_)) == 10


@pytest.mark.parametrize("broker", BROKERS)
def test_a_new_quantity_is_the_new_total(world: World, broker: str) -> None:
    world.control.add_fault(broker, "partial", count=1, symbol="PEP")
    order = world.orders.send("PEP", "buy", 10, order_type="limit", limit_price=HIGH, route=broker)
    world.orders.wait(order, "partially_filled", 20)
    order.replace(quantity=8)
    replaced(world, order.client_order_id)
    world.control.release(broker)
    whole = world.orders.wait(order, "filled", 20)
    assert (whole["quantity"], whole["filled_quantity"]) == (8, 8)
    assert not [fill for fill in whole["fills"] if fill["late"]], whole["fills"]


@pytest.mark.parametrize("broker", BROKERS)
def test_a_replace_whose_answer_is_lost_is_found_and_not_sent_again(world: World, broker: str) -> None:
    id_ = resting(world, broker, "WMT")
    world.control.add_fault(broker, "accept_drop", count=1, symbol="WMT", operation="replace")
    world.client.replace(id_, limit_price="3.00")
    whole = replaced(world, id_)
    assert (whole["limit_price"], whole["status"]) == (Decimal(3), "accepted")
    eventually(lambda: len([o for o in world.orders.at_doors(id_) if o["state"] == "new"]) == 1, 10)
    world.client.cancel(id_)
    world.orders.wait(id_, "canceled", 25)


def test_a_queued_order_changes_at_once(tmp_path: Path) -> None:
    with OrderClient(Settings(home=tmp_path)) as client:
        order = client.submit(OrderRequest(symbol="KO", side="buy", quantity=5, order_type="limit", limit_price=LOW))
        assert order.replace(quantity=7, limit_price="2").quantity == 7
        with pytest.raises(InvalidOrder, match="new terms are those it has"):
            order.replace(limit_price="2.00")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"quantity": 0}, "quantity"), ({"limit_price": "NaN"}, "limit_price"), ({"symbol": "KO"}, "symbol"),
     ({"stop_price": 5}, "stop_price"), ({}, "new terms")],
)  # fmt: skip
def test_a_change_that_makes_no_sense_is_refused_at_the_call(world: World, changes: dict[str, Any], words: str) -> None:
    id_ = resting(world, "alpaca", "VZ")
    with pytest.raises(InvalidOrder, match=words):
        world.client.replace(id_, **changes)
    world.client.cancel(id_)
    world.orders.wait(id_, "canceled")


def test_an_order_that_has_ended_is_not_replaced(world: World) -> None:
    order = world.orders.send("AAPL", "buy", 1, route="alpaca")
    world.orders.wait(order, "filled")
    with pytest.raises(InvalidOrder, match="filled"):
        order.replace(quantity=2)


def test_the_command_line_replaces(world: World) -> None:
    id_ = resting(world, "alpaca", "DIS")
    assert world.corro("replace", id_, "--limit", "4.00", "--json").json["client_order_id"] == id_
    assert replaced(world, id_)["limit_price"] == 4
    assert world.corro("replace", id_, "--qty", "minus").status == 2
    world.client.cancel(id_)
    world.orders.wait(id_, "canceled")
