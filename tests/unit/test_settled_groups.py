"""A person has dealt with a group that is broken."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select, update

from models.messages import OrderRequest
from models.record.batch import OrderBatch
from models.record.tables import control_events, order_events, order_groups
from models.reports import BrokerStatus, FillReport
from tests.unit.test_groups import desk as desk
from tests.unit.test_groups import group_of, recorded, row_of_group, told
from tests.unit.words import Run
from worker.orders.desk import BrokerDesk
from worker.runtime.clock import utcnow


def test_a_broken_group_is_closed_by_a_person_once_it_is_over_and_opens_anew_with_another_trouble(
    desk: BrokerDesk, corro: Run
) -> None:
    lead, target, stop = recorded(desk)
    settle = ("settle", "e", "--by", "ana", "--reason", "sold by hand", "--json")
    status, _, said = corro(*settle)
    assert (status, "group e is queued: nothing is wrong with it" in said) == (2, True)
    assert corro("settle", "none", "--by", "ana", "--reason", "x")[0] == 1
    assert corro("settle", "e", "--by", "ana")[0] == 2
    desk.place.work(["e.entry"])
    told(desk, target, BrokerStatus.CANCELED)
    told(desk, stop, BrokerStatus.CANCELED)
    status, _, said = corro(*settle)
    assert (status, "cancel what is left first: entry e.entry is accepted" in said) == (2, True)
    told(desk, lead, BrokerStatus.FILLED, 10)
    wrong = row_of_group(desk).reason
    assert group_of(desk) == "broken"
    assert "nothing closes 10" in wrong
    status, out, _ = corro(*settle)
    assert (status, json.loads(out)["status"]) == (0, "closed")
    found = row_of_group(desk)
    assert (found.status, found.reason) == ("closed", f"{wrong}; dealt with by ana: sold by hand")
    assert corro(*settle)[0] == 2, "once is enough"
    told(desk, target, BrokerStatus.CANCELED)
    assert group_of(desk) == "closed", "nothing new is wrong"
    told(desk, target, BrokerStatus.CANCELED, 4)
    assert group_of(desk) == "broken", "another trouble is another person's matter"
    with desk.database.read() as connection:
        (kept,) = connection.execute(select(control_events)).all()
        query = select(order_events.c.detail).where(order_events.c.kind == "resolved")
        events = connection.execute(query).scalars().all()
    assert (kept.kind, kept.scope_kind, kept.scope, kept.by) == ("resolve", "group", "e", "ana")
    assert kept.reason == "sold by hand"
    assert [("dealt with, says ana" in words) for words in events] == [True]


SETTLE = ("settle", "e", "--by", "ana", "--reason", "sold by hand")


def broken(desk: BrokerDesk) -> OrderRequest:
    """Let a bracket's exits end before its entry is filled; returns the take_profit."""
    lead, target, stop = recorded(desk)
    desk.place.work(["e.entry"])
    told(desk, target, BrokerStatus.CANCELED)
    told(desk, stop, BrokerStatus.CANCELED)
    told(desk, lead, BrokerStatus.FILLED, 10)
    return target


def traded(desk: BrokerDesk, client_order_id: str, **more: Any) -> None:
    """Tell of an execution of ten, or that it was taken back."""
    ids = {"broker_client_order_id": client_order_id, "broker_order_id": f"b-{client_order_id}"}
    size = {"quantity": Decimal(10), "price": Decimal(100), "filled_at": utcnow()}
    with desk.database.write() as connection:
        desk.recorder.updates(connection, [FillReport(execution_id="x-1", **ids, **size, **more)], utcnow())


def touch(desk: BrokerDesk) -> None:
    """Change a leg's row, and nothing about how its group is."""
    with desk.database.write() as connection:
        batch = OrderBatch.open(connection, ["e.stop_loss"], utcnow())
        batch["e.stop_loss"].set(reason="its broker said more")
        batch.write()


def test_a_trouble_that_was_dealt_with_is_closed_again_when_the_other_one_has_gone(
    desk: BrokerDesk, corro: Run
) -> None:
    target = broken(desk)
    assert corro(*SETTLE)[0] == 0
    told(desk, target, BrokerStatus.CANCELED, 4)
    assert (group_of(desk), "nothing closes 6" in row_of_group(desk).reason) == ("broken", True)
    told(desk, target, BrokerStatus.CANCELED, 0)
    found = row_of_group(desk)
    assert (found.status, "nothing closes 10" in found.reason) == ("closed", True)


def test_a_group_that_was_dealt_with_stays_so_whatever_words_were_found_for_it(desk: BrokerDesk, corro: Run) -> None:
    broken(desk)
    with desk.database.write() as connection:
        connection.execute(update(order_groups).values(reason="the words of an earlier version"))
    assert corro(*SETTLE)[0] == 0
    touch(desk)
    assert group_of(desk) == "closed"


def test_a_closed_group_whose_legs_have_left_the_record_is_not_dealt_with(desk: BrokerDesk, corro: Run) -> None:
    now = utcnow()
    closed = {"group_id": "c", "kind": "oto", "status": "closed", "created_at": now, "updated_at": now}
    with desk.database.write() as connection:
        connection.execute(insert(order_groups).values(**closed))
    status, _, said = corro("settle", "c", "--by", "ana", "--reason", "x")
    assert (status, "group c is closed: nothing is wrong with it" in said) == (2, True)
    with desk.database.read() as connection:
        assert connection.execute(select(control_events)).all() == []


def test_a_group_without_a_leg_in_the_record_can_be_closed(desk: BrokerDesk, corro: Run) -> None:
    now = utcnow()
    orphan = {"group_id": "o", "kind": "oto", "status": "queued", "created_at": now, "updated_at": now}
    with desk.database.write() as connection:
        connection.execute(insert(order_groups).values(**orphan))
    assert corro("settle", "o", "--by", "ana", "--reason", "no legs")[0] == 0
    assert row_of_group(desk, "o").status == "closed"


def test_no_words_of_a_person_stay_when_nothing_is_wrong_any_more(desk: BrokerDesk, corro: Run) -> None:
    target = broken(desk)
    assert corro(*SETTLE)[0] == 0
    told(desk, target, BrokerStatus.FILLED, 10)
    found = row_of_group(desk)
    assert (found.status, found.reason) == ("closed", None)


def test_no_words_of_a_person_stay_for_another_trouble(desk: BrokerDesk, corro: Run) -> None:
    _, target, stop = recorded(desk)
    desk.place.work(["e.entry"])
    told(desk, target, BrokerStatus.CANCELED)
    told(desk, stop, BrokerStatus.CANCELED)
    traded(desk, "e.entry")
    assert group_of(desk) == "broken"
    assert corro(*SETTLE)[0] == 0
    traded(desk, "e.entry", busted=True, amends=True, revision=1)
    found = row_of_group(desk)
    assert (found.status, "dealt with" in str(found.reason)) == ("closed", False), found
    told(desk, target, BrokerStatus.CANCELED, 4)
    found = row_of_group(desk)
    assert found.status == "broken"
    assert found.reason == "4 of the take_profit are filled, and 0 of the entry: 4 are held the wrong way"
