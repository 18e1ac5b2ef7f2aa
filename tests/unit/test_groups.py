"""Linked orders go as one: recorded, claimed, refused, passed on and ended together, and never without their link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from sqlalchemy import delete, select

from models.errors import ConnectionLost, IdempotencyConflict, InvalidOrder, OrderRejected
from models.groups import EXCLUSIVE, LEGS, WAITING, GroupKind, LegState, objection, split_group, status_of, troubles
from models.messages import OrderRequest, utcnow
from models.record.database import Database
from models.record.order import cancel
from models.record.tables import attempts, order_events, order_groups, orders, position_locks
from models.reports import BrokerStatus, FillReport, OrderReport
from models.settings import BrokerSettings, Settings
from models.vocabulary import OPEN, TERMINAL, Outcome, Status
from producers.client import OrderClient
from tests.open_desk import open_desk
from tests.unit.linked_desk import LinkingBroker, entry, legs_of_message, shown
from worker.brokers.fake import FakeBroker
from worker.orders.desk import BrokerDesk
from worker.orders.selection import named
from worker.rehearsal import rehearsal

ACCEPTED = BrokerStatus.ACCEPTED
#: Groups of a property have names of their own.
_NUMBERS = count()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[OrderClient]:
    """Two brokers that link no orders."""
    with rehearsal(tmp_path, FakeBroker("one"), FakeBroker("two")) as client:
        yield client


# -- WHAT A GROUP IS ---
def test_a_complete_group_is_no_objection_and_a_split_one_is() -> None:
    bodies = legs_of_message()
    assert objection([OrderRequest(**body) for body in bodies]) is None
    assert split_group(bodies) is None
    assert "had ['entry', 'take_profit']" in str(objection([OrderRequest(**body) for body in bodies[:2]]))
    assert "had ['entry', 'take_profit']" in str(split_group(bodies[:2]))


@pytest.mark.parametrize(
    ("leg", "change", "words"),
    [
        (1, {"quantity": "9"}, "the quantity of its entry"),
        (1, {"symbol": "KO"}, "the symbol"),
        (2, {"side": "buy"}, "its exits sell"),
        (2, {"side": "sell_short"}, "its exits sell"),
        (0, {"side": "sell"}, "the entry of a bracket is a buy"),
        (0, {"side": "buy_to_cover"}, "the entry of a bracket is a buy"),
        (1, {"limit_price": "95"}, "above the stop_loss"),
        (1, {"order_type": "market", "limit_price": None}, "a take_profit is a limit order"),
        (0, {"route": ["one"]}, "differ in route"),
        (0, {"strategy": "dip"}, "differ in strategy"),
    ],
)
def test_a_bracket_that_makes_no_sense_is_refused_with_the_rule(leg: int, change: dict[str, Any], words: str) -> None:
    bodies = legs_of_message()
    bodies[leg] |= change
    assert words in str(objection([OrderRequest(**body) for body in bodies]))


@pytest.mark.parametrize("side", ["sell", "buy_to_cover"])
def test_an_entry_that_closes_gets_no_exits_which_would_open(side: str, client: OrderClient) -> None:
    with pytest.raises(InvalidOrder, match="the entry of a bracket is a buy"):
        client.submit_bracket(entry(side=side), *(("90", "110") if side == "sell" else ("110", "90")))


@pytest.mark.parametrize("group", [{"id": "g", "kind": "bracket"}, {"id": "g", "kind": "oco", "leg": "entry"}, "g", 7])
def test_a_field_group_that_cannot_be_read_is_refused(group: object) -> None:
    with pytest.raises(InvalidOrder, match="group"):
        entry(group=group)


# -- WHAT ITS LEGS MAKE OF IT ---
def states(kind: GroupKind, **legs: Any) -> list[LegState]:
    return [LegState(leg, *legs[leg]) for leg in LEGS[kind] if leg in legs]


LIVED, TEN = Outcome.ACCEPTED, Decimal(10)
BRACKET = GroupKind.BRACKET


@pytest.mark.parametrize(
    ("status", "kinds", "legs"),
    [
        ("queued", [], dict.fromkeys(LEGS[BRACKET], (Status.QUEUED, TEN))),
        ("submitted", [], dict.fromkeys(LEGS[BRACKET], (Status.SUBMITTED, TEN, 0, Outcome.SENDING))),
        ("unresolved", [], dict.fromkeys(LEGS[BRACKET], (Status.SUBMITTED, TEN, 0, Outcome.UNKNOWN))),
        ("live", [], dict.fromkeys(LEGS[BRACKET], (Status.ACCEPTED, TEN, 0, LIVED))),
        (
            "submitted", [],
            {"entry": (Status.FILLED, TEN, TEN, LIVED), "take_profit": (Status.SUBMITTED, TEN, 0, Outcome.SENDING),
             "stop_loss": (Status.SUBMITTED, TEN, 0, Outcome.SENDING)},
        ),
        (
            "broken", ["group_partial"],
            {"entry": (Status.ACCEPTED, TEN, 0, LIVED), "take_profit": (Status.CANCELED, TEN, 0, LIVED),
             "stop_loss": (Status.REJECTED, TEN, 0, LIVED)},
        ),
        (
            "live", [],
            {"entry": (Status.ACCEPTED, TEN, 0, LIVED), "take_profit": (Status.EXPIRED, TEN, 0, LIVED),
             "stop_loss": (Status.EXPIRED, TEN, 0, LIVED)},
        ),
        ("closed", [], dict.fromkeys(LEGS[BRACKET], (Status.CANCELED, TEN, 0, LIVED))),
        ("closed", [], dict.fromkeys(LEGS[BRACKET], (Status.DENIED, TEN))),
        (
            "closed", [],
            {"entry": (Status.FILLED, TEN, TEN, LIVED), "take_profit": (Status.FILLED, TEN, TEN, LIVED),
             "stop_loss": (Status.CANCELED, TEN, 0, LIVED)},
        ),
        (
            "broken", ["unprotected"],
            {"entry": (Status.CANCELED, TEN, Decimal(4), LIVED), "take_profit": (Status.CANCELED, TEN, 0, LIVED),
             "stop_loss": (Status.CANCELED, TEN, 0, LIVED)},
        ),
        (
            "broken", ["overclosed"],
            {"entry": (Status.FILLED, TEN, 0, LIVED), "take_profit": (Status.CANCELED, TEN, 0, LIVED),
             "stop_loss": (Status.CANCELED, TEN, Decimal(4), LIVED)},
        ),
        (
            "live", [],
            {"entry": (Status.PARTIALLY_FILLED, TEN, 2, LIVED), "take_profit": (Status.CANCELED, TEN, 0, LIVED),
             "stop_loss": (Status.CANCELED, TEN, 4, LIVED)},
        ),
        (
            "broken", ["overfilled"],
            {"entry": (Status.FILLED, TEN, TEN, LIVED), "take_profit": (Status.FILLED, TEN, TEN, LIVED),
             "stop_loss": (Status.FILLED, TEN, Decimal(3), LIVED)},
        ),
        (
            "broken", ["group_partial"],
            {"entry": (Status.ACCEPTED, TEN, 0, LIVED), "take_profit": (Status.ACCEPTED, TEN, 0, LIVED),
             "stop_loss": (Status.CANCELED, TEN, 0, Outcome.ABSENT)},
        ),
    ],
)  # fmt: skip
def test_where_a_group_stands_follows_from_its_legs(status: str, kinds: list[str], legs: Mapping[str, Any]) -> None:
    found = states(BRACKET, **legs)
    assert (status_of(BRACKET, found), [trouble.kind for trouble in troubles(BRACKET, found)]) == (status, kinds)


def test_nothing_stands_open_in_silence_and_nothing_is_called_too_much_that_is_not() -> None:
    """Over every state of three legs: a filled entry without an open or filled exit is said; so is the surplus."""
    amounts = (Decimal(0), Decimal(4), TEN)
    ways = [(s, TEN, f, LIVED) for s, f in product((Status.ACCEPTED, Status.CANCELED), amounts)]
    kind = GroupKind.BRACKET
    for legs in product(ways, repeat=3):
        found = [LegState(name, *way) for name, way in zip(LEGS[kind], legs, strict=True)]
        kinds = {trouble.kind for trouble in troubles(kind, found)}
        lead, exits = found[0], [leg for leg in found if leg.leg in WAITING[kind]]
        closed = sum(leg.filled for leg in exits)
        naked = lead.filled > closed and not any(leg.status in OPEN for leg in exits)
        surplus = all(leg.filled for leg in exits) and sum(leg.filled / leg.quantity for leg in exits) > 1
        ended = all(leg.status in TERMINAL for leg in found)
        assert ("unprotected" in kinds, "overfilled" in kinds) == (naked, surplus), found
        assert ("overclosed" in kinds) == (ended and closed > lead.filled and not surplus), found
        assert (status_of(kind, found) == "broken") == bool(kinds)
    assert EXCLUSIVE[kind] == WAITING[kind]
    assert TERMINAL.isdisjoint(OPEN)


# -- AS ONE ---
def test_a_group_that_no_broker_links_is_denied_whole_with_the_rule_in_the_words(client: OrderClient) -> None:
    group = client.submit_bracket(entry(), take_profit="110", stop_loss=("95", "94.5"))
    ids = {name: order.client_order_id for name, order in group.legs.items()}
    assert ids == {"entry": "e", "take_profit": "e.tp", "stop_loss": "e.sl"}
    group = group.wait(10)
    assert [str(order.status) for order in group.legs.values()] == ["denied"] * 3
    assert (group.status, str(group.reason).startswith("denied: ")) == ("closed", True)
    assert "links no orders as bracket" in str(group.legs["entry"].reason)
    assert "links no orders as bracket" in str(group.legs["stop_loss"].reason)
    assert {order.row["reason_code"] for order in group.legs.values()} == {"unsupported"}
    assert {order.broker for order in group.legs.values()} == {"two"}


def test_the_same_group_again_is_the_same_and_another_under_its_name_is_refused(client: OrderClient) -> None:
    given = (entry(), "110", "95")
    first, again = client.submit_bracket(*given), client.submit_bracket(*given)
    assert [order.client_order_id for order in first.legs.values()] == [
        order.client_order_id for order in again.legs.values()
    ]
    with pytest.raises(IdempotencyConflict):
        client.submit_bracket(entry(), "111", "95")
    stranger = [OrderRequest(**body) for body in legs_of_message("oco", "e", order_type="limit", limit_price="9")]
    with pytest.raises(IdempotencyConflict, match="has other orders"):
        client.submit_many(stranger)


@pytest.mark.parametrize("leg", ["entry", "stop_loss"])
def test_who_cancels_a_leg_that_has_not_left_ends_the_group(tmp_path: Path, leg: str) -> None:
    with rehearsal(tmp_path, FakeBroker()) as client:
        later = entry().created_at + timedelta(hours=1)
        group = client.submit_bracket(entry(not_before=later), take_profit="110", stop_loss="95")
        assert [str(order.status) for order in group.legs.values()] == ["held"] * 3
        group.legs[leg].cancel()
        group = group.refresh()
        assert [str(order.status) for order in group.legs.values()] == ["canceled"] * 3
        assert group.status == "closed"


def test_a_leg_is_not_changed_singly(client: OrderClient) -> None:
    later = entry().created_at + timedelta(hours=1)
    group = client.submit_bracket(entry(not_before=later), take_profit="110", stop_loss="95")
    with pytest.raises(InvalidOrder, match="stop_loss of group e"):
        group.legs["stop_loss"].replace(stop_price="96")


# -- AT A DESK ---
@pytest.fixture
def desk(database: Database) -> Iterator[BrokerDesk]:
    made = Settings.model_construct(brokers={"one": BrokerSettings(adapter="fake")})
    desk = open_desk(made, database, LinkingBroker())
    yield desk
    desk.close()


def recorded(desk: BrokerDesk, id_: str = "e") -> list[OrderRequest]:
    bodies = legs_of_message(id_=id_, route=["one"])
    requests = [OrderRequest(**body) for body in bodies]
    desk.batches.intake.record(requests)
    return requests


def statuses(desk: BrokerDesk) -> dict[str, str]:
    with desk.database.read() as connection:
        rows = connection.execute(select(orders.c.leg, orders.c.status).order_by(orders.c.client_order_id))
        return {row.leg: row.status for row in rows}


def group_of(desk: BrokerDesk, id_: str = "e") -> str:
    with desk.database.read() as connection:
        return str(connection.execute(select(order_groups.c.status).where(order_groups.c.group_id == id_)).scalar())


def test_a_leg_is_claimed_with_its_lead_alone(desk: BrokerDesk) -> None:
    desk.batches.intake.record([OrderRequest(**body) for body in legs_of_message("oto", "o", route=["one"])])
    assert desk.place.work(["o.then"]) == [], "it opens a position, so that nothing else holds it back"
    recorded(desk)
    assert desk.place.work(["e.stop_loss"]) == []
    assert desk.place.work(["e.entry"]) == ["e.entry"]
    assert statuses(desk) == dict.fromkeys(("entry", "stop_loss", "take_profit"), "accepted") | {
        "first": "queued", "then": "queued",
    }  # fmt: skip
    assert [leg.order.client_order_id for leg in desk.broker.sent[0].legs] == ["e.stop_loss", "e.take_profit"]
    assert group_of(desk) == "live"


def test_a_group_of_which_a_leg_is_not_there_is_not_sent(desk: BrokerDesk) -> None:
    recorded(desk)
    with desk.database.write() as connection:
        gone = orders.c.client_order_id == "e.stop_loss"
        connection.execute(delete(order_events).where(order_events.c.client_order_id == "e.stop_loss"))
        connection.execute(delete(orders).where(gone))
    desk.place.work(["e.entry"])
    assert desk.broker.sent == []
    assert statuses(desk) == {"entry": "denied", "take_profit": "denied"}


def test_legs_that_a_lost_answer_leaves_open_are_asked_for_at_once(desk: BrokerDesk) -> None:
    """An update tells of the lead; the answer, which would have told of its legs, is lost."""
    entry, *_ = recorded(desk)
    (item,) = desk.place.claim(named(["e.entry"]))
    with desk.database.write() as connection:
        desk.recorder.updates(connection, [shown(entry, "e.entry")], utcnow())
    lost = ConnectionLost("the answer was lost", broker="one")
    desk.batches.change(["e.entry"], lambda batch: desk.place.settle(batch["e.entry"], item, lost))
    with desk.database.read() as connection:
        asked = connection.execute(select(attempts.c.outcome, attempts.c.next_check_at).order_by("client_order_id"))
        found = [(row.outcome, row.next_check_at is not None) for row in asked]
    assert found == [("accepted", False), ("unknown", True), ("unknown", True)]
    assert group_of(desk) == "unresolved"


def test_a_leg_whose_id_cannot_be_read_is_told_from_the_others_by_its_terms(desk: BrokerDesk) -> None:
    lead, target, _ = recorded(desk)
    desk.place.claim(named(["e.entry"]))
    nameless = replace(shown(target, "", BrokerStatus.FILLED, 10), broker_order_id=None, broker_client_order_id=None)
    with desk.database.write() as connection:
        report = replace(shown(lead, "e.entry", BrokerStatus.FILLED, 10), legs=(nameless,))
        desk.recorder.updates(connection, [report], utcnow(), infer=True)
    assert statuses(desk)["stop_loss"] == "submitted"


def told(desk: BrokerDesk, order: OrderRequest, status: BrokerStatus, filled: int = 0) -> None:
    with desk.database.write() as connection:
        desk.recorder.updates(connection, [shown(order, order.client_order_id, status, filled)], utcnow())


def row_of_group(desk: BrokerDesk, id_: str = "e") -> Any:
    with desk.database.read() as connection:
        return connection.execute(select(order_groups).where(order_groups.c.group_id == id_)).one()


def row_of(desk: BrokerDesk, id_: str) -> Any:
    with desk.database.read() as connection:
        return connection.execute(select(orders).where(orders.c.client_order_id == id_)).one()


def test_exits_that_end_with_an_entry_that_somebody_cancels_are_no_trouble(desk: BrokerDesk) -> None:
    _, target, stop = recorded(desk)
    desk.place.work(["e.entry"])
    desk.batches.change(["e.entry"], lambda batch: cancel(batch["e.entry"]))
    told(desk, target, BrokerStatus.CANCELED)
    told(desk, stop, BrokerStatus.CANCELED)
    assert row_of_group(desk).reason is None


def test_a_lead_that_is_rejected_after_it_lived_ends_and_goes_nowhere_alone(database: Database) -> None:
    made = Settings.model_construct(brokers={name: BrokerSettings(adapter="fake") for name in ("one", "two")})
    desk = open_desk(made, database, LinkingBroker())
    _, target, stop = bodies = [OrderRequest(**body) for body in legs_of_message(id_="e", route=["one", "two"])]
    desk.batches.intake.record(bodies)
    desk.place.work(["e.entry"])
    told(desk, stop, BrokerStatus.CANCELED)
    refused = OrderRejected("no shares to borrow", broker="one")
    desk.batches.change(["e.entry"], lambda batch: desk.recorder.end(batch["e.entry"], 1, refused))
    lead = row_of(desk, "e.entry")
    assert (lead.status, lead.broker, lead.reason) == ("rejected", "one", "no shares to borrow")
    assert row_of(desk, "e.take_profit").cancel_requested_at is not None, "what lives does not stand alone"
    told(desk, target, BrokerStatus.CANCELED)
    assert row_of_group(desk)[2:4] == ("closed", "rejected: no shares to borrow")
    desk.close()


def test_a_second_leg_that_closes_nothing_leaves_nothing_unprotected(desk: BrokerDesk) -> None:
    bodies = legs_of_message("oto", "o", route=["one"])
    bodies[1] |= {"symbol": "KO", "quantity": "5"}
    first, then = [OrderRequest(**body) for body in bodies]
    desk.batches.intake.record([first, then])
    desk.place.work(["o.first"])
    for order, size in ((first, 10), (then, 5)):
        with desk.database.write() as connection:
            report = shown(order, order.client_order_id, BrokerStatus.FILLED, size)
            desk.recorder.updates(connection, [replace(report, avg_fill_price=TEN)], utcnow(), infer=True)
    assert row_of_group(desk, "o")[2:4] == ("closed", None)


@given(st.data())
@hypothesis(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_broker_tells_of_legs_is_recorded_once_and_its_own_surplus_is_said(
    desk: BrokerDesk, data: st.DataObject
) -> None:
    """Fills, ends and copies of them, in any order: the record has what the broker filled, and says what is wrong."""
    id_ = f"g{next(_NUMBERS)}"
    requests = recorded(desk, id_)
    desk.place.work([f"{id_}.entry"])
    filled = {order.client_order_id: data.draw(st.sampled_from([0, 4, 10])) for order in requests}
    told: list[OrderReport | FillReport] = []
    for order in requests:
        size, ours = filled[order.client_order_id], order.client_order_id
        if size:
            fill = FillReport(execution_id=f"x-{ours}", quantity=Decimal(size), price=Decimal(100), filled_at=utcnow(),
                              broker_client_order_id=ours, broker_order_id=f"b-{ours}")  # fmt: skip
            told += [fill, fill]
        end = BrokerStatus.FILLED if size == 10 else BrokerStatus.CANCELED
        told.append(shown(order, ours, end, size))
    for report in data.draw(st.permutations(told)):
        with desk.database.write() as connection:
            desk.recorder.updates(connection, [report], utcnow())
    with desk.database.read() as connection:
        mine = orders.c.group_id == id_
        rows = {row.leg: row for row in connection.execute(select(orders).where(mine))}
        kinds = set(connection.execute(select(order_events.c.kind).where(
            order_events.c.client_order_id == f"{id_}.entry")).scalars())  # fmt: skip
    sizes = {leg: row.filled_quantity for leg, row in rows.items()}
    assert sizes == {order.group.leg: filled[order.client_order_id] for order in requests if order.group}
    exits = sizes["take_profit"] + sizes["stop_loss"]
    surplus = bool(sizes["take_profit"] and sizes["stop_loss"] and exits > 10)
    assert ("overfilled" in kinds) == surplus
    assert (group_of(desk, id_) == "broken") == (surplus or exits != sizes["entry"])
    with desk.database.write() as connection:
        locked = connection.execute(delete(position_locks)).rowcount
    assert bool(locked) == surplus
