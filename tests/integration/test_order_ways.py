"""One order at a time through a whole fleet: every way it can end, at every broker, on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from models.errors import NotFound
from models.history import v_attempts, v_fills, v_latency, v_orders
from tests.kit import World, events_of, eventually, outcomes_of

BROKERS = ("ibkr", "alpaca", "tda")


@pytest.fixture(scope="module")
def world(make_recorded_world: Callable[..., World]) -> World:
    made = make_recorded_world(BROKERS)
    for broker, symbol, shares in (("ibkr", "MSFT", 20), ("tda", "MSFT", 50), ("ibkr", "WMT", 20)):
        made.control.set_position(broker, symbol, shares)  # for the closing orders
    made.fleet.start_all()
    return made


@pytest.mark.parametrize("broker", BROKERS)
def test_an_order_is_filled_at_the_broker_it_names(world: World, broker: str) -> None:
    order = world.orders.send("AAPL", "buy", 10, route=broker, strategy="ways", tags={"leg": "1"})
    whole = world.orders.wait(order, "filled")

    assert (whole["broker"], whole["filled_quantity"], whole["reason"]) == (broker, Decimal(10), None)
    assert whole["created_at"] <= whole["submitted_at"] <= whole["accepted_at"] <= whole["closed_at"]
    assert outcomes_of(whole) == [(broker, "accepted")]
    assert sum(fill["quantity"] for fill in whole["fills"]) == Decimal(10)
    assert {fill["late"] for fill in whole["fills"]} == {False}
    assert [kind for kind in events_of(whole) if kind in ("queued", "claimed", "accepted", "filled")] in (
        ["queued", "claimed", "accepted", "filled"],
        ["queued", "claimed", "filled"],  # the execution came before the answer to the send
    )
    (at_door,) = world.orders.at_doors(order.client_order_id)
    assert (at_door["door"], at_door["state"], at_door["filled_quantity"]) == (broker, "filled", "10")
    assert str(whole["attempts"][0]["broker_order_id"]) == str(whole["broker_order_id"])


def test_the_views_show_the_order_and_how_long_it_took(world: World) -> None:
    order = world.orders.send("KO", "buy", 3, route="alpaca", strategy="views")
    world.orders.wait(order, "filled")
    id_ = order.client_order_id

    (row,) = world.history.rows(v_orders, client_order_id=id_)
    assert (row["status"], row["strategy"], row["attempt_count"]) == ("filled", "views", 1)
    assert row["remaining_quantity"] == 0
    (fill,) = world.history.rows(v_fills, client_order_id=id_)
    assert fill["notional"] == fill["quantity"] * fill["price"]
    assert row["filled_notional"] == pytest.approx(fill["notional"])
    (attempt,) = world.history.rows(v_attempts, client_order_id=id_)
    assert attempt["outcome"] == "accepted"
    (latency,) = world.history.rows(v_latency, client_order_id=id_)
    assert all(latency[name] is not None and latency[name] >= 0 for name in ("queue_ms", "send_ms", "fill_ms")), latency
    frame = world.history.frame(v_orders, client_order_id=id_, floats=True)
    assert str(frame["created_at"].dtype) == "datetime64[ns, UTC]"
    assert frame["filled_quantity"].tolist() == [3.0]


@pytest.mark.parametrize("broker", BROKERS)
def test_a_resting_limit_order_is_canceled(world: World, broker: str) -> None:
    order = world.orders.send("MSFT", "buy", 5, order_type="limit", limit_price="1.00", route=broker)
    live = world.orders.wait(order, "accepted")
    assert live["broker_order_id"]
    world.client.cancel(order.client_order_id)
    whole = world.orders.wait(order, "canceled")

    assert (whole["filled_quantity"], whole["fills"]) == (0, [])
    assert whole["closed_at"] is not None
    assert "cancel_requested" in events_of(whole)
    (at_door,) = world.orders.at_doors(order.client_order_id)
    assert at_door["state"] == "canceled"


def test_a_refused_order_goes_to_the_next_broker(world: World) -> None:
    world.control.add_fault("ibkr", "refuse", symbol="PEP", code=201, text="Order rejected - reason:not today")
    order = world.orders.send("PEP", "buy", 4, route=["ibkr", "alpaca"])
    whole = world.orders.wait(order, "filled")

    assert outcomes_of(whole) == [("ibkr", "refused"), ("alpaca", "accepted")]
    assert whole["attempts"][0]["code"] == "201"
    assert "not today" in whole["attempts"][0]["message"]
    assert "requeued" in events_of(whole)
    assert [o["door"] for o in world.orders.at_doors(order.client_order_id)] == ["alpaca"]


def test_an_order_that_every_broker_refuses_is_rejected_with_each_brokers_code(world: World) -> None:
    world.control.add_fault("ibkr", "refuse", symbol="PG", code=201, text="Order rejected - reason:one")
    world.control.add_fault("alpaca", "refuse", symbol="PG")
    world.control.add_fault("tda", "refuse", symbol="PG")
    order = world.orders.send("PG", "buy", 4)
    whole = world.orders.wait(order, "rejected")

    assert outcomes_of(whole) == [(broker, "refused") for broker in BROKERS]
    assert all(attempt["code"] and attempt["message"] for attempt in whole["attempts"]), whole["attempts"]
    assert "tda" in whole["reason"]
    assert world.orders.at_doors(order.client_order_id) == []


def test_a_symbol_that_no_broker_knows_is_rejected_with_the_reason(world: World) -> None:
    order = world.orders.send("NOSUCH", "buy", 1)
    whole = world.orders.wait(order, "rejected", 25)

    assert outcomes_of(whole) == [(broker, "refused") for broker in BROKERS]
    assert whole["attempts"][0]["code"] == "200"
    assert "NOSUCH" in whole["reason"] or "symbol" in whole["reason"].lower(), whole["reason"]


def test_a_sell_falls_back_only_to_the_broker_that_holds_the_position(world: World) -> None:
    world.control.add_fault("ibkr", "refuse", symbol="MSFT")
    order = world.orders.send("MSFT", "sell", 20)
    whole = world.orders.wait(order, "filled")

    assert outcomes_of(whole) == [("ibkr", "refused"), ("tda", "accepted")]
    assert [o["door"] for o in world.orders.at_doors(order.client_order_id)] == ["tda"]
    assert Decimal(world.control.accounts()["tda"]["positions"]["MSFT"]["quantity"]) == Decimal(30)


def test_what_was_bought_on_the_way_is_sold_where_it_is_and_no_further(world: World) -> None:
    world.control.add_fault("ibkr", "refuse", symbol="COST", count=1)
    bought = world.orders.wait(world.orders.send("COST", "buy", 7, route=["ibkr", "alpaca"]), "filled")
    assert outcomes_of(bought) == [("ibkr", "refused"), ("alpaca", "accepted")]
    sold = world.orders.wait(world.orders.send("COST", "sell", 7, route=["ibkr", "alpaca"]), "filled")
    assert outcomes_of(sold) == [("alpaca", "accepted")]
    accounts = world.control.accounts()
    assert [accounts[name]["positions"].get("COST") for name in BROKERS] == [None] * 3

    more = world.orders.send("COST", "sell", 7, route=["ibkr", "alpaca"])
    denied = world.orders.wait(more, "denied")
    assert denied["reason_code"] == "no_position"
    assert world.orders.at_doors(more.client_order_id) == []


def test_a_sell_of_more_than_any_broker_holds_is_not_split(world: World) -> None:
    world.orders.wait(world.orders.send("CVX", "buy", 3, route="ibkr"), "filled")
    world.orders.wait(world.orders.send("CVX", "buy", 7, route="alpaca"), "filled")
    order = world.orders.send("CVX", "sell", 10, route=["ibkr", "alpaca"])
    denied = world.orders.wait(order, "denied")
    assert denied["reason_code"] == "no_position"
    assert "holds 3 CVX" in denied["attempts"][0]["message"]
    assert world.orders.at_doors(order.client_order_id) == []


def refusal_to_close(world: World, symbol: str, **more: Any) -> str:
    with pytest.raises(NotFound) as refused:
        world.client.close_position(symbol, **more)
    return str(refused.value)


def test_closing_a_position_closes_it_at_every_broker_in_the_name_of_who_holds_it(world: World) -> None:
    world.orders.wait(world.orders.send("PFE", "buy", 3, route="ibkr", strategy="dip"), "filled")
    world.orders.wait(world.orders.send("PFE", "sell_short", 7, route="alpaca"), "filled")
    nobodys = "no position in PFE is held by flat at any broker; 3 at ibkr, 7 at alpaca"
    # On a busy machine a worker's heartbeat may be late, and what it holds is not known then.
    eventually(lambda: nobodys in refusal_to_close(world, "PFE", strategy="flat"), 20)
    closed = world.client.close_position("pfe")
    assert [(o.broker, o.side, o.quantity, o.row["route"], o.row["strategy"]) for o in closed] == [
        ("ibkr", "sell", 3, ["ibkr"], "dip"), ("alpaca", "buy_to_cover", 7, ["alpaca"], None),
    ]  # fmt: skip
    assert closed.unreachable == {}
    for order in closed:
        world.orders.wait(order, "filled")
    with pytest.raises(NotFound, match="no position in PFE is held at any broker"):
        world.client.close_position("PFE")


def test_the_command_close_tells_every_order_and_waits_for_all(world: World) -> None:
    world.orders.wait(world.orders.send("GM", "buy", 2, route="alpaca"), "filled")
    said = world.corro("close", "GM", "--wait", "--json")
    assert said.status == 0, said
    assert [(o["broker"], o["side"], o["status"]) for o in said.json] == [("alpaca", "sell", "filled")]
    again = world.corro("close", "GM", "--broker", "alpaca")
    assert (again.status, "no position in GM is held at alpaca" in again.err) == (1, True), again


#: Texts that do not say their class, with what an order in them says, and where they are traded.
OTHERS = [
    ("EUR/USD", 20000, {"asset_class": "forex", "route": "ibkr"}),
    ("SHOP@TSE", 3, {"asset_class": "equity", "route": "ibkr"}),
    ("ESZ29@CME", 1, {"asset_class": "future", "route": "ibkr"}),
    ("BTC/USD", "0.02", {"asset_class": "crypto", "time_in_force": "gtc", "route": "alpaca"}),
]


@pytest.mark.parametrize(("symbol", "quantity", "terms"), OTHERS, ids=[text for text, *_ in OTHERS])
def test_closing_what_does_not_say_its_class_takes_that_of_the_order_that_brought_it(
    world: World, symbol: str, quantity: object, terms: dict[str, str]
) -> None:
    world.orders.wait(world.orders.send(symbol, "buy", quantity, **terms), "filled")
    said = world.corro("close", symbol, "--wait", "--json")
    assert said.status == 0, said
    assert [(o["broker"], o["side"], o["quantity"], o["status"], o["asset_class"]) for o in said.json] == [
        (terms["route"], "sell", str(quantity), "filled", terms["asset_class"])
    ]


def test_a_sell_that_nobody_else_can_cover_ends_instead_of_opening_a_short(world: World) -> None:
    world.control.add_fault("ibkr", "refuse", symbol="WMT")
    order = world.orders.send("WMT", "sell", 20)
    whole = world.orders.wait(order, "rejected")

    assert outcomes_of(whole) == [("ibkr", "refused")]
    assert world.orders.at_doors(order.client_order_id) == []


@pytest.mark.parametrize("broker", BROKERS)
def test_an_order_that_is_filled_in_parts_adds_up(world: World, broker: str) -> None:
    world.control.add_fault(broker, "partial", count=1, symbol="VZ")
    order = world.orders.send("VZ", "buy", 10, route=broker)
    half = world.orders.wait(order, "partially_filled")
    assert half["filled_quantity"] == 5
    world.control.release(broker)
    whole = world.orders.wait(order, "filled")

    assert [fill["quantity"] for fill in whole["fills"]] == [5, 5]
    worth = sum(fill["quantity"] * fill["price"] for fill in whole["fills"])
    assert whole["avg_fill_price"] == pytest.approx(worth / 10)


def test_an_order_rejected_after_it_was_accepted_goes_on_along_its_route(world: World) -> None:
    world.control.add_fault("alpaca", "reject_after_accept", count=1, symbol="XOM")
    order = world.orders.send("XOM", "buy", 2, route=["alpaca", "ibkr"])
    whole = world.orders.wait(order, "filled")
    assert outcomes_of(whole) == [("alpaca", "refused"), ("ibkr", "accepted")]


def test_a_broker_that_cannot_do_it_is_skipped_before_anything_is_sent(world: World) -> None:
    order = world.orders.send("AAPL", "buy", "0.5", route=["ibkr", "alpaca"])
    whole = world.orders.wait(order, "filled")
    assert outcomes_of(whole) == [("ibkr", "not_sent"), ("alpaca", "accepted")]
    assert whole["filled_quantity"] == Decimal("0.5")


def sizes_at_doors(world: World) -> Counter[tuple[str, str, str]]:
    return Counter((order["symbol"], order["quantity"], order["door"]) for order in world.control.orders())


def test_two_hundred_orders_are_recorded_in_one_commit_and_filled_once_each(world: World) -> None:
    from sqlalchemy import event

    commits: list[int] = []
    engine = world.client.database.engine
    event.listen(engine, "commit", lambda _: commits.append(1))
    requests = [
        world.orders.request(("SPY", "QQQ", "IWM", "DIA")[n % 4], "buy", 1 + n % 7, route=[("ibkr", "alpaca")[n % 2]])
        for n in range(200)
    ]
    others = sizes_at_doors(world)
    placed = world.client.submit_many(requests)
    assert (len(placed), len(commits)) == (200, 1)

    ended = world.client.wait_all(placed, 60)
    assert {order.status for order in ended} == {"filled"}
    # Whatever the number of the attempt: on a busy machine a claim may have grown old before its send.
    assert sizes_at_doors(world) - others == Counter((o.symbol, str(o.quantity), o.broker) for o in ended)
    eventually(lambda: not world.money.problems(), what=world.money.problems)
