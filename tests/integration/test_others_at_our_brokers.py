"""What others do at our brokers: their orders are recorded and left alone, positions nobody explains lock a symbol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from models.history import v_external_fills, v_external_orders
from models.tables import position_events, position_locks
from tests.kit import World, eventually, never, outcomes_of
from tests.stranger import Stranger

BROKERS = ("alpaca", "ibkr", "tda")


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], database_url: str | None) -> World:
    made = make_world(BROKERS, database_url=database_url)
    for broker in BROKERS:
        made.control.set_position(broker, "MSFT", 40)  # there before corro came: the baseline
    made.start_all()
    return made


@pytest.fixture
def stranger(world: World, request: pytest.FixtureRequest) -> Iterator[Stranger]:
    made = Stranger(world, request.param)
    yield made
    made.close()


def external(world: World, symbol: str) -> list[dict[str, Any]]:
    return world.history.rows(v_external_orders, symbol=symbol)


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
@pytest.mark.parametrize("stranger", BROKERS, indirect=True)
def test_a_live_order_of_somebody_else_is_recorded_and_left_alone(world: World, stranger: Stranger) -> None:
    symbol = {"alpaca": "KO", "ibkr": "PEP", "tda": "WMT"}[stranger.name]
    theirs = stranger.place(symbol, "buy", 7, order_type="limit", limit_price="1.00")
    (row,) = eventually(lambda: external(world, symbol), 15)
    assert (row["broker"], row["broker_order_id"]) == (stranger.name, theirs.broker_order_id)
    assert (row["side"], row["quantity"], row["limit_price"], row["status"]) == ("buy", 7, 1, "accepted")

    ours = world.send(symbol, "buy", 3, order_type="limit", limit_price="1.00", route=stranger.name)
    world.wait(ours, "accepted")
    world.client.cancel(ours.client_order_id)
    world.wait(ours, "canceled")
    at_door = {o["quantity"]: o["state"] for o in world.at_doors(symbol=symbol)}
    assert at_door == {"7": "new", "3": "canceled"}
    assert [r["broker_order_id"] for r in external(world, symbol)] == [theirs.broker_order_id]

    said = world.corro("external", "--symbol", symbol, "--json")
    assert [r["broker_order_id"] for r in said.json] == [theirs.broker_order_id]
    # Its owner cancels it: that is seen, too.
    stranger.cancel(world.request(symbol, "buy", 7, order_type="limit", limit_price="1.00"), theirs)
    eventually(lambda: external(world, symbol)[0]["status"] == "canceled", 15, lambda: external(world, symbol))


@pytest.mark.parametrize("stranger", BROKERS, indirect=True)
def test_fills_of_somebody_else_explain_the_position_they_make(world: World, stranger: Stranger) -> None:
    symbol = {"alpaca": "DIS", "ibkr": "XOM", "tda": "CVX"}[stranger.name]
    stranger.place(symbol, "buy", 9)
    (fill,) = eventually(lambda: world.history.rows(v_external_fills, symbol=symbol), 15)
    assert (fill["broker"], fill["side"], fill["quantity"]) == (stranger.name, "buy", 9)
    eventually(lambda: [r["filled_quantity"] for r in external(world, symbol)] == [9], 15)
    never(lambda: locked(world, symbol), 5)
    assert world.wait(world.send(symbol, "buy", 1, route=stranger.name), "filled")["filled_quantity"] == 1
    assert len(world.history.rows(v_external_orders, symbol=symbol)) == 1  # ours is not among them


# -- LOCKS ---
def test_a_position_out_of_thin_air_locks_the_symbol_there_and_a_person_unlocks_it(world: World) -> None:
    world.wait(world.send("IBM", "buy", 5, route="alpaca"), "filled")
    world.control.set_position("alpaca", "IBM", 10)  # a split, two for one
    eventually(lambda: locked(world, "IBM") == ["alpaca"], 20)

    moved = world.wait(world.send("IBM", "buy", 2, route=["alpaca", "tda"]), "filled")
    assert outcomes_of(moved) == [("alpaca", "not_sent"), ("tda", "accepted")]
    refused = moved["attempts"][0]
    assert refused["code"] == "position_locked"
    assert "the broker shows 10, our books explain 5" in refused["message"]
    waiting = world.send("IBM", "buy", 1, route="alpaca")
    eventually(lambda: "locked" in (world.row(waiting.client_order_id)["reason"] or ""), 10)  # type: ignore[index]
    assert world.whole(waiting.client_order_id)["attempts"] == []
    assert world.wait(world.send("PFE", "buy", 1, route="alpaca"), "filled")  # other symbols are free

    (lock,) = world.corro("locks", "--json").json
    assert (lock["broker"], lock["symbol"], lock["expected"], lock["found"]) == ("alpaca", "IBM", "5", "10")
    assert world.corro("unlock", "alpaca", "IBM", "--by", "ana").status == 2
    said = world.corro("unlock", "alpaca", "ibm", "--by", "ana", "--reason", "split 2:1", "--json")
    assert (said.status, said.json["found"]) == (0, "10"), said
    assert world.wait(waiting, "filled", 20)["broker"] == "alpaca"
    assert journal(world, "IBM") == [("locked", None, None), ("unlocked", "ana", "split 2:1")]
    never(lambda: locked(world, "IBM"), 4)
    assert world.corro("unlock", "alpaca", "IBM", "--by", "ana", "--reason", "again").status == 1


@pytest.mark.parametrize("broker", ["ibkr", "tda"])
def test_a_lock_ends_by_itself_when_the_position_is_explained(world: World, broker: str) -> None:
    symbol = {"ibkr": "CAT", "tda": "BA"}[broker]
    world.control.set_position(broker, symbol, 8)
    eventually(lambda: locked(world, symbol) == [broker], 20)
    world.control.set_position(broker, symbol, 0)
    eventually(lambda: not locked(world, symbol), 20)
    assert journal(world, symbol) == [("locked", None, None), ("explained", None, None)]
    assert world.wait(world.send(symbol, "buy", 1, route=broker), "filled")


def test_what_only_makes_a_locked_position_smaller_passes(world: World) -> None:
    world.control.set_position("tda", "MSFT", 30)  # ten shares less than there were
    eventually(lambda: locked(world, "MSFT") == ["tda"], 20)
    assert world.wait(world.send("MSFT", "sell", 20, route="tda"), "filled")["broker"] == "tda"
    too_much = world.send("MSFT", "sell", 11, route="tda")
    eventually(lambda: "locked" in (world.row(too_much.client_order_id)["reason"] or ""), 10)  # type: ignore[index]
    world.client.cancel(too_much.client_order_id)
    eventually(lambda: world.corro("locks", "--json").json[0]["found"] == "10", 15)
    assert world.corro("unlock", "tda", "MSFT", "--by", "ana", "--reason", "withdrawn").status == 0
    never(lambda: locked(world, "MSFT"), 4)


def test_a_locked_order_keeps_its_terms_or_gets_smaller(world: World) -> None:
    order = world.send("GE", "buy", 5, order_type="limit", limit_price="1.00", route="ibkr")
    world.wait(order, "accepted")
    world.control.set_position("ibkr", "GE", 3)
    eventually(lambda: locked(world, "GE") == ["ibkr"], 20)
    world.client.replace(order.client_order_id, quantity=9)
    eventually(lambda: "replace_not_sent" in [e["kind"] for e in world.whole(order.client_order_id)["events"]], 10)
    world.client.replace(order.client_order_id, quantity=4)
    eventually(lambda: world.row(order.client_order_id)["quantity"] == 4, 10)  # type: ignore[index]
    world.client.cancel(order.client_order_id)
    world.wait(order, "canceled")
    world.control.set_position("ibkr", "GE", 0)
    eventually(lambda: not locked(world, "GE"), 20)
