"""Brokers that take an order and do not say so, and brokers that never took it: asked again, never sent twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.kit import World, events_of, eventually, never, outcomes_of

BROKERS = ("alpaca", "ibkr", "tda")
#: Door, fault and its options: the broker has the order, and the worker is not told.
TAKEN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "alpaca hangs up": ("alpaca", "accept_drop", {}),
    "alpaca never answers": ("alpaca", "accept_hang", {}),
    "alpaca 503": ("alpaca", "status", {"status": 503, "accepted": True, "operation": "place"}),
    "alpaca 504": ("alpaca", "status", {"status": 504, "accepted": True, "operation": "place"}),
    "alpaca 500 page": ("alpaca", "status", {"status": 500, "accepted": True, "operation": "place", "html": True}),
    "ibkr hangs up": ("ibkr", "accept_drop", {}),
    "ibkr never answers": ("ibkr", "accept_hang", {}),
    "tda hangs up": ("tda", "accept_drop", {}),
    "tda never answers": ("tda", "accept_hang", {}),
    "tda 503": ("tda", "status", {"status": 503, "accepted": True, "operation": "place"}),
    "alpaca answers rubbish": ("alpaca", "garbage", {"accepted": True, "operation": "place"}),
    "alpaca is cut off in its answer": ("alpaca", "half_reply", {"accepted": True, "operation": "place"}),
    "tda answers rubbish": ("tda", "garbage", {"accepted": True, "operation": "place"}),
    "tda is cut off in its answer": ("tda", "half_reply", {"accepted": True, "operation": "place"}),
    "tda 504": ("tda", "status", {"status": 504, "accepted": True, "operation": "place"}),
}
SYMBOLS = ("KO", "PEP", "WMT", "DIS", "XOM", "CVX", "JPM", "BAC", "WFC", "VZ", "PFE", "MRK",
           "QQQ", "IWM", "DIA")  # fmt: skip


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world(BROKERS)
    made.fleet.start_all()
    return made


@pytest.mark.parametrize("case", TAKEN)
def test_an_order_that_was_taken_in_silence_is_found_and_never_sent_again(world: World, case: str) -> None:
    broker, kind, options = TAKEN[case]
    symbol = SYMBOLS[list(TAKEN).index(case)]
    world.control.add_fault(broker, kind, count=1, symbol=symbol, **options)
    order = world.orders.send(symbol, "buy", 10, route=[broker, *(b for b in BROKERS if b != broker)])
    whole = world.orders.wait(order, "filled", 30)

    assert outcomes_of(whole) == [(broker, "accepted")], whole["events"]
    assert [(o["door"], o["state"]) for o in world.orders.at_doors(symbol=symbol)] == [(broker, "filled")]
    assert whole["filled_quantity"] == 10


def test_an_order_that_was_swallowed_is_absent_only_after_the_rules_and_then_goes_on(world: World) -> None:
    """The rules ask for ten seconds."""
    world.control.add_fault("alpaca", "hang", count=1, symbol="MCD")
    order = world.orders.send("MCD", "buy", 10, route=["alpaca", "tda"])
    eventually(lambda: "unknown" in events_of(world.orders.whole(order.client_order_id)), 10)
    assert outcomes_of(world.orders.whole(order.client_order_id)) == [("alpaca", "unknown")]

    whole = world.orders.wait(order, "filled", 40)
    first, *others = whole["attempts"]
    assert (first["broker"], first["outcome"]) == ("alpaca", "absent")
    assert first["missing"] >= 2
    assert (others[0]["started_at"] - first["started_at"]).total_seconds() >= 10
    assert [a["outcome"] for a in others] == ["accepted"]
    assert [o["state"] for o in world.orders.at_doors(symbol="MCD")] == ["filled"]


@pytest.mark.parametrize(("broker", "symbol", "other"), [("tda", "IBM", "alpaca"), ("ibkr", "COST", "alpaca")])
def test_an_order_swallowed_where_no_listing_proves_absence_holds_until_a_person_decides(
    world: World, broker: str, symbol: str, other: str
) -> None:
    world.control.add_fault(broker, "hang", count=1, symbol=symbol)
    order = world.orders.send(symbol, "buy", 10, route=[broker, other])
    id_ = order.client_order_id
    eventually(lambda: (world.orders.whole(id_)["attempts"] or [{"missing": 0}])[0]["missing"] >= 4, 30)
    never(lambda: outcomes_of(world.orders.whole(id_)) != [(broker, "unknown")], 1)
    if broker == "tda":  # a twin could not be told apart: not sent while that is open
        twin = world.orders.send(symbol, "buy", 10, route=[broker])
        never(lambda: world.orders.at_doors(symbol=symbol), 1.5)

    said = world.corro("resolve", id_, "--absent", "--by", "ana")
    assert said.status == 0, said
    assert world.orders.wait(id_, "filled", 20)["broker"] in (broker, other)
    if broker == "tda":
        world.orders.wait(twin, ["filled"], 20)
    assert len(world.orders.at_doors(symbol=symbol)) == 1 + (broker == "tda")


def test_an_order_that_waits_in_a_window_of_tws_is_bought_once_when_somebody_clicks(world: World) -> None:
    """Not a word and in no listing for longer than absence takes elsewhere; then it is placed and filled."""
    world.control.add_fault("ibkr", "confirmation", count=1, symbol="ORCL", seconds=14)
    order = world.orders.send("ORCL", "buy", 10, route=["ibkr", "alpaca"])
    eventually(
        lambda: (world.orders.whole(order.client_order_id)["attempts"] or [{"missing": 0}])[0]["missing"] >= 2, 20
    )
    whole = world.orders.wait(order, "filled", 30)
    assert outcomes_of(whole) == [("ibkr", "accepted")]
    assert [(o["door"], o["state"]) for o in world.orders.at_doors(symbol="ORCL")] == [("ibkr", "filled")]


def test_an_adopted_order_is_followed_from_there(world: World) -> None:
    """Two orders with the same terms are at the broker: a person says which one is ours."""
    world.control.add_fault("tda", "no_fill", symbol="CAT")
    other = world.orders.send("CAT", "buy", 10, route="tda")
    world.orders.wait(other, "accepted")
    world.control.add_fault("tda", "status", count=1, symbol="CAT", status=503, accepted=True, operation="place")
    order = world.orders.send("CAT", "buy", 10, route="tda")
    found = world.orders.wait(order, ["accepted", "submitted"], 20)
    eventually(lambda: len(world.orders.at_doors(symbol="CAT")) == 2, 10)
    if found["status"] == "submitted":
        found = world.orders.wait(order, "accepted", 20)  # the other one is known, so only one can be ours
    ids = {str(o["wire_id"]) for o in world.orders.at_doors(symbol="CAT")}
    assert {world.orders.row(o.client_order_id)["broker_order_id"] for o in (other, order)} == ids  # type: ignore[index]
    world.control.clear_faults()
    world.control.release()
    for o in (other, order):
        world.orders.wait(o, "filled", 20)


@pytest.mark.parametrize("broker", BROKERS)
def test_an_unknown_order_that_is_canceled_meanwhile_ends_canceled_or_filled_but_once(
    world: World, broker: str
) -> None:
    symbol = {"alpaca": "ABBV", "ibkr": "UNH", "tda": "HD"}[broker]
    world.control.add_fault(broker, "accept_hang", count=1, symbol=symbol)
    order = world.orders.send(symbol, "buy", 5, order_type="limit", limit_price="1", route=[broker])
    eventually(lambda: world.orders.at_doors(symbol=symbol), 10)
    world.client.cancel(order.client_order_id)
    whole = world.orders.wait(order, "canceled", 30)
    assert [o["state"] for o in world.orders.at_doors(symbol=symbol)] == ["canceled"]
    assert outcomes_of(whole)[0][0] == broker


def test_a_stream_that_is_silent_costs_time_but_no_fill(world: World) -> None:
    world.control.add_fault("alpaca", "stream_silent", symbol="GM")
    world.control.add_fault("alpaca", "duplicate_update", symbol="ADBE")
    silent = world.orders.send("GM", "buy", 10, route="alpaca")
    double = world.orders.send("ADBE", "buy", 10, route="alpaca")
    assert world.orders.wait(silent, "filled", 15)["filled_quantity"] == 10
    whole = world.orders.wait(double, "filled")
    assert sum(f["quantity"] for f in whole["fills"]) == 10


@pytest.mark.parametrize(("broker", "symbol"), [("alpaca", "SPY"), ("ibkr", "T")])
def test_updates_that_come_late_and_backwards_add_up(world: World, broker: str, symbol: str) -> None:
    kind, more = ("late_update", {"hold": True}) if broker == "alpaca" else ("slow", {})
    world.control.add_fault(broker, kind, count=1, symbol=symbol, seconds=1.0, reverse=True, **more)
    world.control.add_fault(broker, "duplicate_update" if broker == "alpaca" else "duplicate_status", symbol=symbol)
    whole = world.orders.wait(world.orders.send(symbol, "buy", 10, route=broker), "filled", 20)
    eventually(lambda: not world.control.faults() or world.control.faults()[0]["kind"].startswith("duplicate"), 5)
    fills = world.orders.whole(whole["client_order_id"])["fills"]
    # A total that came before its execution was inferred, and gave way to it.
    assert [f["quantity"] for f in fills if f["voided_at"] is None] == [10]
    assert outcomes_of(whole) == [(broker, "accepted")]


@pytest.mark.parametrize("headers", [True, False], ids=["with headers", "without"])
def test_a_throttled_order_is_sent_once_somewhere(world: World, headers: bool) -> None:
    symbol = "MSFT" if headers else "NVDA"
    world.control.add_fault("alpaca", "rate_limit", per_minute=0, headers=headers)
    whole = world.orders.wait(world.orders.send(symbol, "buy", 2, route=["alpaca", "ibkr"]), "filled", 25)
    assert whole["broker"] == "ibkr"
    assert [o["door"] for o in world.orders.at_doors(symbol=symbol)] == ["ibkr"]
    assert {a["outcome"] for a in whole["attempts"]} <= {"refused", "not_sent", "accepted"}, whole["attempts"]


@pytest.mark.parametrize("trouble", ["nightly_reset", "restart"])
def test_a_gateway_that_restarts_under_many_orders_doubles_none(world: World, trouble: str) -> None:
    """A restart may hand out order ids again that were used before (docs/facts/ibkr.md#2.3)."""
    symbols = ("AMZN", "GOOGL") if trouble == "restart" else ("META", "TSLA")
    requests = [world.orders.request(symbols[n % 2], "buy", 1 + n, route="ibkr") for n in range(24)]
    placed = world.client.submit_many(requests)
    eventually(lambda: len([o for s in symbols for o in world.orders.at_doors(symbol=s)]) >= 4, 10)
    if trouble == "restart":
        world.control.add_fault("ibkr", "rollback_next_valid_id", count=1)
        world.control.add_fault("ibkr", "disconnect", count=1)
        eventually(lambda: not world.control.faults(), 10, world.control.faults)  # it is back, and was given old ids
    else:
        world.control.add_fault("ibkr", "nightly_reset", count=1, seconds=1.5, code=1101)
    placed += [world.orders.send(symbols[0], "buy", 30 + n, route="ibkr") for n in range(4)]
    for order in placed:
        world.orders.wait(order, "filled", 45)
    filled = [o for s in symbols for o in world.orders.at_doors(symbol=s) if o["state"] == "filled"]
    assert sorted(int(o["quantity"]) for o in filled) == sorted(int(order.quantity) for order in placed)


def test_an_order_slower_than_its_deadline_is_unknown_first_and_known_in_the_end(world: World) -> None:
    world.control.add_fault("alpaca", "slow", count=1, symbol="CRM", seconds=4.5, operation="place")
    order = world.orders.send("CRM", "buy", 10, route=["alpaca", "ibkr"])
    whole = world.orders.wait(order, "filled", 30)
    assert outcomes_of(whole) == [("alpaca", "accepted")]
    assert len(world.orders.at_doors(symbol="CRM")) == 1
