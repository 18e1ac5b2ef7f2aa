"""Unknown outcomes with their evidence: what a person is shown, what the record keeps of the decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from models.history import v_external_orders
from models.record.evidence import unresolved
from tests.kit import World, eventually, never, outcomes_of
from tests.stranger import Stranger


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world(["alpaca", "tda"])
    made.fleet.start_all()
    return made


def shown(world: World, client_order_id: str) -> dict[str, Any]:
    found = [row for row in unresolved(world.database, 3) if row["client_order_id"] == client_order_id]
    return found[0] if found else {"answers": {}}


def test_look_alikes_at_a_broker_without_ids_are_shown_until_a_person_says_which_is_ours(world: World) -> None:
    """Somebody else places the same order twice while ours is unknown: none of the three is called external."""
    world.control.add_fault("tda", "hang", count=1, symbol="T")
    terms: dict[str, Any] = {"order_type": "limit", "limit_price": "1.00"}
    order = world.orders.send("T", "buy", 3, route=["tda", "alpaca"], **terms)
    id_ = order.client_order_id
    eventually(lambda: "missing" in shown(world, id_)["answers"], 15, lambda: world.orders.whole(id_))
    stranger = Stranger(world, "tda")
    theirs = [str(stranger.place("T", "buy", 3, **terms).broker_order_id) for _ in range(2)]
    stranger.close()
    eventually(lambda: "ambiguous" in shown(world, id_)["answers"], 15, lambda: shown(world, id_))
    never(lambda: world.history.rows(v_external_orders, symbol="T"), 2.5)

    (row,) = world.corro("unresolved", "--json").json
    sent, asked, answers = row["sent"], row["asked"], row["answers"]
    assert (sent["side"], sent["quantity"], sent["symbol"], sent["limit_price"]) == ("buy", "3", "T", "1")
    assert sent["at"]
    assert "tda@" in sent["worker"]
    assert asked["times"] >= 2
    assert asked["last_at"] <= asked["next_at"]
    assert "by its terms" in asked["query"]
    assert "none has these terms" in answers["missing"]["words"]
    assert sorted(c["broker_order_id"] for c in answers["ambiguous"]["candidates"]) == sorted(theirs)
    assert {c["limit_price"] for c in answers["ambiguous"]["candidates"]} == {"1"}

    world.money.foreign.discard(theirs[0])
    said = world.corro("resolve", id_, "--adopt", theirs[0], "--by", "ana", "--reason", "entered at our second")
    assert said.status == 0, said
    whole = world.orders.wait(id_, "accepted", 15)
    assert [e["detail"] for e in whole["events"] if e["kind"] == "resolved"] == [
        f"attempt 1 at tda: is order {theirs[0]}, says ana: entered at our second"
    ]
    assert whole["attempts"][0]["evidence"]["answers"]["ambiguous"]["times"] >= 1  # it stays with the attempt
    # The other one is somebody else's now: seen, and left alone.
    eventually(
        lambda: [r["broker_order_id"] for r in world.history.rows(v_external_orders, symbol="T")] == theirs[1:], 15
    )
    world.client.cancel(id_)
    world.orders.wait(id_, "canceled", 15)
    states = {str(o["wire_id"]): o["state"] for o in world.orders.at_doors(symbol="T")}
    assert states == {theirs[0]: "canceled", theirs[1]: "new"}


def test_an_equal_order_entered_seconds_before_ours_is_somebody_elses(world: World) -> None:
    """Ours is listed last, and its answer names no order: the twin alone is not taken for it, and is external then.

    What was entered in the very second of the send cannot be told from ours: a person decides.
    """
    for kind, options in (("twin", {"seconds": 2.5}), ("list_lag", {"seconds": 4}), ("location_missing", {})):
        world.control.add_fault("tda", kind, count=1, symbol="GE", **options)
    order = world.orders.send("GE", "buy", 3, route=["tda", "alpaca"], order_type="limit", limit_price="1.00")
    whole = world.orders.wait(order, "accepted", 30)
    theirs, ours = sorted(str(o["wire_id"]) for o in world.orders.at_doors(symbol="GE"))
    world.money.foreign.add(theirs)
    assert (outcomes_of(whole), whole["broker_order_id"]) == ([("tda", "accepted")], ours)
    listed = lambda: [row["broker_order_id"] for row in world.history.rows(v_external_orders, symbol="GE")]  # noqa: E731
    eventually(lambda: listed() == [theirs], 15, listed)


def test_at_a_broker_with_ids_every_answer_is_counted_and_an_error_is_one(world: World) -> None:
    world.control.add_fault("alpaca", "hang", count=1, symbol="VZ")
    order = world.orders.send("VZ", "buy", 3, route="alpaca")
    id_ = order.client_order_id
    eventually(lambda: "missing" in shown(world, id_)["answers"], 15, lambda: world.orders.whole(id_))
    world.control.add_fault("alpaca", "status", operation="find", status=503)
    eventually(lambda: "error" in shown(world, id_)["answers"], 15, lambda: shown(world, id_))
    row = shown(world, id_)
    assert row["asked"]["query"] == "by the id we gave it"
    assert f"by_client_order_id {id_}: 404" in row["answers"]["missing"]["words"]
    assert "503" in row["answers"]["error"]["words"]
    events = len(world.orders.whole(id_)["events"])
    times = row["asked"]["times"]
    eventually(lambda: shown(world, id_)["asked"]["times"] >= times + 2, 20)
    assert len(world.orders.whole(id_)["events"]) == events  # looking leaves no trail of events

    world.client.cancel(id_)
    said = world.corro("resolve", id_, "--absent", "--by", "ana", "--json")
    assert (said.status, said.json["status"]) == (0, "canceled"), said
    whole = world.orders.whole(id_)
    assert outcomes_of(whole) == [("alpaca", "absent")]
    assert any(e["detail"] == "attempt 1 at alpaca: absent, says ana" for e in whole["events"])
