"""What a strategy does with the client and with the seed's UnifiedBroker, against a running fleet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from models.errors import DataError, IdempotencyConflict, InvalidOrder, NotFound
from models.history import v_orders
from producers import OrderRequest, UnifiedBroker
from tests.kit import World, eventually
from tests.kit.process import HeldTwins


@pytest.fixture(scope="module")
def world(make_recorded_world: Callable[..., World]) -> World:
    made = make_recorded_world(["alpaca", "tda"])
    made.control.set_position("alpaca", "AAPL", 30)
    made.control.set_position("tda", "KO", -4)
    made.fleet.start_all()
    return made


@pytest.fixture
def unified(world: World) -> UnifiedBroker:
    return UnifiedBroker(world.client, timeout=10)


def test_execute_order_tells_what_became_of_it(world: World, unified: UnifiedBroker) -> None:
    done = unified.execute_order(OrderRequest(symbol="SPY", side="buy", quantity=3))
    assert (done["success"], done["status"], done["broker"], done["symbol"]) == (True, "filled", "alpaca", "SPY")
    assert (done["qty"], done["filled_qty"], done["side"]) == (3, 3, "buy")
    assert done["avg_fill_price"] > 0
    assert (done["executed_on_backup"], done["error"]) == (None, None)
    assert world.orders.at_doors(done["order_id"])[0]["state"] == "filled"
    assert done["broker_order_id"]


def test_execute_order_falls_back_and_says_where_to(world: World, unified: UnifiedBroker) -> None:
    world.control.add_fault("alpaca", "refuse", symbol="QQQ")
    done = unified.execute_order(OrderRequest(symbol="QQQ", side="buy", quantity=3))
    assert (done["success"], done["executed_on_backup"]) == (True, "tda")


def test_execute_order_at_one_broker_only_does_not_fall_back(world: World, unified: UnifiedBroker) -> None:
    world.control.add_fault("alpaca", "refuse", symbol="QQQ")
    done = unified.execute_order(OrderRequest(symbol="QQQ", side="buy", quantity=3), "alpaca")
    assert (done["success"], done["status"], done["executed_on_backup"]) == (False, "rejected", None)
    assert "alpaca" in done["error"]
    assert (unified.primary_broker, unified.brokers) == ("alpaca", ("alpaca", "tda"))


def test_positions_are_shown_by_broker_and_who_cannot_answer_is_named(world: World, unified: UnifiedBroker) -> None:
    held = unified.get_consolidated_positions()
    assert held.unreachable == {}  # type: ignore[attr-defined]
    assert {p.symbol: p.quantity for p in held["alpaca"]}["AAPL"] == 30
    assert {p.symbol: p.quantity for p in held["tda"]}["KO"] == -4

    world.control.add_fault("tda", "down")
    try:
        held = world.client.positions(timeout=4)
        assert set(held) == {"alpaca"}
        assert set(held.unreachable) == {"tda"}
    finally:
        world.control.clear_faults()
    eventually(lambda: world.fleet.state(world.fleet.processes["tda"]) == "ready", 15)


def test_the_same_request_again_is_the_same_order_and_another_one_a_conflict(world: World) -> None:
    request = world.orders.request("DIA", "buy", 2, client_order_id=f"again-{world.database.url.get_backend_name()}")
    order = world.client.submit(request)
    world.orders.wait(order, "filled")
    again = world.client.submit(OrderRequest(**{**request.model_dump(), "created_at": None, "expires_at": None}))
    assert (again.status, again.client_order_id) == ("filled", order.client_order_id)
    other = world.orders.request("DIA", "buy", 3, client_order_id=order.client_order_id)
    with pytest.raises(IdempotencyConflict, match=order.client_order_id):
        world.client.submit(other)
    fresh = world.orders.request("DIA", "buy", 1)
    with pytest.raises(IdempotencyConflict):
        world.client.submit_many([fresh, other])  # all are recorded, or none
    with pytest.raises(NotFound):
        world.client.order(fresh.client_order_id)
    assert len(world.orders.at_doors(order.client_order_id)) == 1


def test_a_route_to_nowhere_is_refused_at_the_call(world: World) -> None:
    with pytest.raises(InvalidOrder, match="robinhood"):
        world.client.submit(world.orders.request("DIA", "buy", 3, route=["robinhood"]))


def test_quotes_bars_and_accounts_come_back_typed(world: World) -> None:
    quote = world.client.quote("SPY").result(10)
    assert quote.bid is not None
    assert quote.ask is not None
    assert Decimal(0) < quote.bid < quote.ask
    end = datetime.now(UTC)
    frame = world.client.bars("SPY", "1Day", end - timedelta(days=30), end).result(30)
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert str(frame.index.dtype) == "datetime64[ns, UTC]"
    assert frame.index.is_monotonic_increasing
    assert len(frame) > 10
    assert (frame["high"] >= frame["low"]).all()
    for broker in world.brokers:
        account = world.client.account(broker).result(10)
        assert account.currency == "USD"
        assert account.equity is not None
        assert account.equity > 0
    with pytest.raises(DataError, match="NOSUCH"):
        world.client.quote("NOSUCH").result(10)


def test_a_fetch_moves_on_to_the_next_broker_where_the_first_cannot_answer(world: World) -> None:
    world.control.add_fault("alpaca", "status", status=503)
    fetch = world.client.quote("IWM", route=["alpaca", "tda"])
    quote = fetch.result(20)
    assert quote.ask is not None
    assert fetch.row()["broker"] == "tda"
    world.control.clear_faults()
    eventually(lambda: world.fleet.state(world.fleet.processes["alpaca"]) == "ready", 15)


def test_two_strategies_submit_the_same_hundred_orders_at_the_same_moment(world: World) -> None:
    script = """
import sys
from producers import OrderClient, OrderRequest
with OrderClient() as client:
    sys.stdin.readline()
    client.submit_many([
        OrderRequest(client_order_id=f"{sys.argv[1]}-{n}", symbol="EEM", side="buy", quantity=1) for n in range(100)
    ])
"""
    prefix = f"pair-{world.database.url.get_backend_name()}"
    both = HeldTwins(script, prefix, variables=world.environment)
    both.run_on()
    for n in range(100):
        world.orders.wait(f"{prefix}-{n}", "filled", 30)
    assert len(world.orders.at_doors(symbol="EEM")) == 100
    assert len(world.history.rows(v_orders, symbol="EEM")) == 100
