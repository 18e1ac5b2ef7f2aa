"""Legs of a group whose others have gone: none rests, or waits, alone in silence."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import update

from models.messages import utcnow
from models.record.tables import orders
from models.reports import BrokerStatus
from tests.unit.test_groups import desk as desk
from tests.unit.test_groups import group_of, recorded, row_of, row_of_group, told
from worker.orders.desk import BrokerDesk


def test_legs_whose_lead_has_left_their_group_do_not_wait_for_ever(desk: BrokerDesk) -> None:
    recorded(desk)
    with desk.database.write() as connection:
        alone = update(orders).where(orders.c.leg == "entry").values(group_id=None, group_kind=None, leg=None)
        connection.execute(alone)
        connection.execute(update(orders).values(available_at=utcnow() - timedelta(minutes=5)))
    desk.place.sweep()
    for leg in ("take_profit", "stop_loss"):
        left = row_of(desk, f"e.{leg}")
        assert (left.status, "has the legs entry" in str(left.reason)) == ("denied", True)


def test_an_entry_whose_exits_have_ended_does_not_rest_alone_in_silence(desk: BrokerDesk) -> None:
    entry, target, stop = recorded(desk)
    desk.place.work(["e.entry"])
    told(desk, target, BrokerStatus.CANCELED)
    assert group_of(desk) == "live", "the other exit still waits"
    told(desk, stop, BrokerStatus.CANCELED)
    found = row_of_group(desk)
    assert (found.status, "nothing is open that would close it" in str(found.reason)) == ("broken", True)
    assert row_of(desk, "e.entry").cancel_requested_at is not None
    told(desk, entry, BrokerStatus.CANCELED)
    assert row_of_group(desk)[2:4] == ("closed", None)
