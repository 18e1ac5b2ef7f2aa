"""What others do at our brokers: their orders are recorded and left alone, positions nobody explains lock a symbol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from models.history import v_external_fills, v_external_orders
from models.record.tables import position_events, position_locks
from tests.kit import PostgresServer, World, eventually, never, outcomes_of
from tests.stranger import Stranger
from worker.positions.ledger import unlock

BROKERS = ("alpaca", "ibkr", "tda")
LIMIT: dict[str, Any] = {"order_type": "limit", "limit_price": "1.00"}


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], postgres: PostgresServer) -> World:
    """On PostgreSQL; the unit tests of positions and of external orders run on SQLite."""
    made = make_world(BROKERS, database_url=postgres.fresh(), timing={"lock_after": 1.5, "positions_every": 1.0})
    made.control.set_position("tda", "MSFT", 40)  # there before corro came: the baseline
    made.fleet.start_all()
    return made


@pytest.fixture
def strangers(world: World) -> Iterator[dict[str, Stranger]]:
    made = {name: Stranger(world, name) for name in BROKERS}
    yield made
    for stranger in made.values():
        stranger.close()


def locked(world: World, symbol: str) -> list[str]:
    with world.database.read() as connection:
        query = select(position_locks.c.broker).where(position_locks.c.symbol == symbol)
        return sorted(connection.execute(query).scalars())


def journal(world: World, symbol: str) -> list[tuple[str, str | None, str | None]]:
    with world.database.read() as connection:
        e = position_events.c
        query = select(e.kind, e.by, e.reason).where(e.symbol == symbol).order_by(e.id)
        return [(row.kind, row.by, row.reason) for row in connection.execute(query)]


# -- EXTERNAL ORDERS ---
def test_live_orders_of_somebody_else_are_recorded_and_left_alone(world: World, strangers: dict[str, Stranger]) -> None:
    def seen() -> dict[str, Any]:
        return {row["broker"]: row for row in world.history.rows(v_external_orders, symbol="KO")}

    theirs = {name: stranger.place("KO", "buy", 7, **LIMIT) for name, stranger in strangers.items()}
    ours = [world.orders.send("KO", "buy", 3, route=name, **LIMIT) for name in BROKERS]
    rows = eventually(lambda: len(found := seen()) == 3 and found, 15)
    assert {name: row["broker_order_id"] for name, row in rows.items()} == {
        name: report.broker_order_id for name, report in theirs.items()
    }
    for row in rows.values():
        assert (row["side"], row["quantity"], row["limit_price"], row["status"]) == ("buy", 7, 1, "accepted")
    for order in ours:
        world.orders.wait(order, "accepted")
        world.client.cancel(order.client_order_id)
    for order in ours:
        world.orders.wait(order, "canceled")
    states = {(o["door"], o["quantity"]): o["state"] for o in world.orders.at_doors(symbol="KO")}
    assert states == {(name, size): how for name in BROKERS for size, how in (("7", "new"), ("3", "canceled"))}

    said = world.corro("external", "--symbol", "ko", "--broker", "tda", "--json")
    assert [row["broker_order_id"] for row in said.json] == [theirs["tda"].broker_order_id]
    for name, stranger in strangers.items():  # their owner cancels them: that is seen, too
        stranger.cancel(world.orders.request("KO", "buy", 7, **LIMIT), theirs[name])
    eventually(lambda: {row["status"] for row in seen().values()} == {"canceled"}, 15, seen)
    assert len(world.history.rows(v_external_orders, symbol="KO")) == 3  # ours were never among them


def test_fills_of_somebody_else_explain_the_position_they_make(world: World, strangers: dict[str, Stranger]) -> None:
    for stranger in strangers.values():
        stranger.place("DIS", "buy", 9)

    def filled() -> dict[str, Any]:
        return {row["broker"]: row["filled_quantity"] for row in world.history.rows(v_external_orders, symbol="DIS")}

    eventually(lambda: filled() == dict.fromkeys(BROKERS, 9), 15, filled)
    fills = world.history.rows(v_external_fills, symbol="DIS")
    assert {(f["broker"], f["side"], f["quantity"]) for f in fills} == {(name, "buy", 9) for name in BROKERS}
    for order in [world.orders.send("DIS", "buy", 1, route=name) for name in BROKERS]:
        world.orders.wait(order, "filled")
    never(lambda: locked(world, "DIS"), 4)
    assert len(world.history.rows(v_external_orders, symbol="DIS")) == 3


# -- LOCKS ---
def test_a_position_out_of_thin_air_locks_the_symbol_there_and_a_person_unlocks_it(world: World) -> None:
    world.orders.wait(world.orders.send("IBM", "buy", 5, route="alpaca"), "filled")
    world.control.set_position("alpaca", "IBM", 10)  # a split, two for one
    eventually(lambda: locked(world, "IBM") == ["alpaca"], 20)

    moved = world.orders.wait(world.orders.send("IBM", "buy", 2, route=["alpaca", "tda"]), "filled")
    assert outcomes_of(moved) == [("alpaca", "not_sent"), ("tda", "accepted")]
    refused = moved["attempts"][0]
    assert refused["code"] == "position_locked"
    assert "the broker shows 10, our books explain 5" in refused["message"]
    waiting = world.orders.send("IBM", "buy", 1, route="alpaca")
    eventually(lambda: "locked" in (world.orders.row(waiting.client_order_id)["reason"] or ""), 10)  # type: ignore[index]
    assert world.orders.whole(waiting.client_order_id)["attempts"] == []
    assert world.orders.wait(world.orders.send("PFE", "buy", 1, route="alpaca"), "filled")  # other symbols are free

    (lock,) = world.corro("locks", "--json").json
    assert (lock["broker"], lock["symbol"], lock["expected"], lock["found"]) == ("alpaca", "IBM", "5", "10")
    said = world.corro("unlock", "alpaca", "ibm", "--by", "ana", "--reason", "split 2:1", "--json")
    assert (said.status, said.json["found"]) == (0, "10"), said
    assert world.orders.wait(waiting, "filled", 20)["broker"] == "alpaca"
    assert journal(world, "IBM") == [("locked", None, None), ("unlocked", "ana", "split 2:1")]
    never(lambda: locked(world, "IBM"), 3)


def test_a_lock_ends_by_itself_when_the_position_is_explained(world: World) -> None:
    both = ["ibkr", "tda"]
    for broker in both:
        world.control.set_position(broker, "CAT", 8)
    eventually(lambda: locked(world, "CAT") == both, 20)
    for broker in both:
        world.control.set_position(broker, "CAT", 0)
    eventually(lambda: not locked(world, "CAT"), 20)
    assert [kind for kind, _, _ in journal(world, "CAT")].count("explained") == 2
    for order in [world.orders.send("CAT", "buy", 1, route=broker) for broker in both]:
        world.orders.wait(order, "filled")


def test_what_only_makes_a_locked_position_smaller_passes(world: World) -> None:
    world.control.set_position("tda", "MSFT", 30)  # ten shares less than there were
    eventually(lambda: locked(world, "MSFT") == ["tda"], 20)
    assert world.orders.wait(world.orders.send("MSFT", "sell", 20, route="tda"), "filled")["broker"] == "tda"
    too_much = world.orders.send("MSFT", "sell", 11, route="tda")
    eventually(lambda: "locked" in (world.orders.row(too_much.client_order_id)["reason"] or ""), 10)  # type: ignore[index]
    world.client.cancel(too_much.client_order_id)
    world.orders.wait(too_much, "canceled")

    def found() -> list[Any]:
        with world.database.read() as connection:
            return list(connection.execute(select(position_locks.c.found)).scalars())

    eventually(lambda: found() == [10], 15, found)
    unlock(world.database, "tda", "MSFT", by="ana", reason="withdrawn")
    never(lambda: locked(world, "MSFT"), 3)


def test_in_a_locked_symbol_a_live_order_may_get_smaller_but_not_bigger(world: World) -> None:
    order = world.orders.send("GE", "buy", 5, route="ibkr", **LIMIT)
    world.orders.wait(order, "accepted")
    world.control.set_position("ibkr", "GE", 3)
    eventually(lambda: locked(world, "GE") == ["ibkr"], 20)
    world.client.replace(order.client_order_id, quantity=9)
    eventually(
        lambda: "replace_not_sent" in [e["kind"] for e in world.orders.whole(order.client_order_id)["events"]], 10
    )
    world.client.replace(order.client_order_id, quantity=4)
    eventually(lambda: world.orders.row(order.client_order_id)["quantity"] == 4, 10)  # type: ignore[index]
    world.client.cancel(order.client_order_id)
    world.orders.wait(order, "canceled")
    world.control.set_position("ibkr", "GE", 0)
    eventually(lambda: not locked(world, "GE"), 20)


# -- THE GATE ---
def test_positions_that_cannot_be_read_keep_the_gate_closed_after_a_connect(world: World) -> None:
    worker = world.fleet.processes["alpaca"]
    world.control.add_fault("alpaca", "status", operation="positions", status=503)
    world.control.add_fault("alpaca", "down")
    eventually(lambda: world.fleet.state(worker) == "disconnected", 20)
    world.control.clear_faults("alpaca")
    world.control.add_fault("alpaca", "status", operation="positions", status=503)
    order = world.orders.send("PFE", "buy", 1, route="alpaca")
    never(lambda: world.fleet.state(worker) == "ready" or world.orders.whole(order.client_order_id)["attempts"], 3)
    world.control.clear_faults("alpaca")
    assert world.orders.wait(order, "filled", 20)["broker"] == "alpaca"
