"""A group whose exits were canceled, and whose position was closed since, is not broken any more."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from models.messages import OrderRequest
from models.record.order import cancel
from models.record.tables import order_events, position_locks
from models.reports import BrokerStatus, FillReport
from tests.unit.test_groups import desk as desk
from tests.unit.test_groups import recorded, row_of_group, told
from tests.unit.words import Run
from worker.orders.desk import BrokerDesk
from worker.runtime.clock import utcnow


def traded(desk: BrokerDesk, client_order_id: str, quantity: int, execution: str, **more: Any) -> None:
    """Tell of an execution of an order at its broker, or that it was taken back."""
    ids = {"broker_client_order_id": client_order_id, "broker_order_id": f"b-{client_order_id}"}
    size = {"quantity": Decimal(quantity), "price": Decimal(100), "filled_at": utcnow()}
    with desk.database.write() as connection:
        fill = FillReport(execution_id=execution, **ids, **size, **more)
        desk.recorder.updates(connection, [fill], utcnow())


def left_open(desk: BrokerDesk, id_: str = "e", *, wished: bool = True) -> None:
    """Let a bracket's entry be filled, and its exits end: by a wish, or by their broker alone."""
    lead, target, stop = recorded(desk, id_)
    desk.place.work([lead.client_order_id])
    traded(desk, lead.client_order_id, 10, f"x-{id_}")
    told(desk, lead, BrokerStatus.FILLED, 10)
    for leg in (target, stop):
        if wished:
            desk.batches.change([leg.client_order_id], lambda batch, leg=leg: cancel(batch[leg.client_order_id]))  # type: ignore[misc]
        told(desk, leg, BrokerStatus.CANCELED)
    assert row_of_group(desk, id_).status == "broken"


def closing(desk: BrokerDesk, quantity: int, id_: str = "c", **more: Any) -> OrderRequest:
    """Send an order that sells, of which nothing is filled yet; one that asks for no reading of positions first."""
    terms = {"symbol": "AAPL", "side": "sell_short", "quantity": quantity, "client_order_id": id_, "route": ["one"]}
    request = OrderRequest(**terms | more)
    desk.batches.intake.record([request])
    assert desk.place.work([id_]) == [id_]
    return request


def sold(desk: BrokerDesk, quantity: int, id_: str = "c", **more: Any) -> None:
    request = closing(desk, quantity, id_, **more)
    traded(desk, id_, quantity, f"x-{id_}")
    told(desk, request, BrokerStatus.FILLED, quantity)


@pytest.mark.parametrize("wished", [True, False])
def test_a_group_whose_position_was_closed_since_its_exits_ended_is_closed_and_says_by_which_order(
    desk: BrokerDesk, corro: Run, *, wished: bool
) -> None:
    left_open(desk, wished=wished)
    desk.closed_since.look()
    assert row_of_group(desk).status == "broken", "nobody has closed it yet"
    sold(desk, 10)
    desk.closed_since.look()
    found, asked = row_of_group(desk), ", as somebody asked" if wished else ""
    assert found.status == "closed"
    ends = f"stop_loss canceled{asked}, take_profit canceled{asked}"
    assert found.reason == f"{ends}; what was left open has been closed since, by c"
    with desk.database.read() as connection:
        query = select(order_events.c.client_order_id).where(order_events.c.kind == "closed_since")
        assert connection.execute(query).scalars().all() == ["e.entry"]
    desk.closed_since.look()
    assert row_of_group(desk) == found, "once"
    assert corro("settle", "e", "--by", "ana", "--reason", "x")[0] == 2, "nothing is left for a person"


def test_one_order_that_closes_the_positions_of_two_groups_closes_both(desk: BrokerDesk) -> None:
    left_open(desk)
    left_open(desk, "f")
    sold(desk, 10)
    desk.closed_since.look()
    assert [row_of_group(desk, id_).status for id_ in "ef"] == ["broken", "broken"], "10 of 20 are held yet"
    sold(desk, 10, "d")
    desk.closed_since.look()
    assert [row_of_group(desk, id_).status for id_ in "ef"] == ["closed", "closed"]


def test_where_nothing_was_left_open_nobody_is_said_to_have_closed_it_since(desk: BrokerDesk) -> None:
    sold(desk, 10)  # short before, so the entry has only bought that back
    left_open(desk)
    desk.closed_since.look()
    found = row_of_group(desk)
    ends = "stop_loss canceled, as somebody asked, take_profit canceled, as somebody asked"
    assert (found.status, found.reason) == ("closed", f"{ends}; its strategy holds none of what it opened")


def test_what_another_strategy_has_sold_closes_no_group_of_this_one(desk: BrokerDesk) -> None:
    left_open(desk)
    sold(desk, 10, strategy="other")
    desk.closed_since.look()
    assert row_of_group(desk).status == "broken"


def test_a_group_waits_while_an_order_may_still_change_what_is_held(desk: BrokerDesk) -> None:
    left_open(desk)
    sold(desk, 10)
    resting = closing(desk, 5, "r", order_type="limit", limit_price="200")
    desk.closed_since.look()
    assert row_of_group(desk).status == "broken"
    told(desk, resting, BrokerStatus.CANCELED)
    desk.closed_since.look()
    assert row_of_group(desk).status == "closed"


def test_a_group_waits_while_its_symbol_is_locked(desk: BrokerDesk) -> None:
    left_open(desk)
    sold(desk, 10)
    with desk.database.write() as connection:
        lock = {"broker": "one", "symbol": "AAPL", "expected": 0, "found": 5, "since": utcnow(), "read_at": utcnow()}
        connection.execute(insert(position_locks).values(**lock, note="x"))
    desk.closed_since.look()
    assert row_of_group(desk).status == "broken"


def test_a_late_fill_of_an_exit_makes_a_group_broken_again_that_was_closed_since(desk: BrokerDesk) -> None:
    left_open(desk)
    sold(desk, 10)
    desk.closed_since.look()
    traded(desk, "e.take_profit", 4, "x-late")
    found = row_of_group(desk)
    assert (found.status, "nothing closes 6" in found.reason) == ("broken", True)
    traded(desk, "e.take_profit", 4, "x-late", busted=True, amends=True, revision=1)
    found = row_of_group(desk)
    assert (found.status, found.reason.endswith("; that has been dealt with")) == ("closed", True)


def test_a_group_that_filled_too_much_is_closed_by_a_person_alone(desk: BrokerDesk) -> None:
    lead, target, stop = recorded(desk)
    desk.place.work([lead.client_order_id])
    traded(desk, lead.client_order_id, 10, "x-e")
    for number, leg in enumerate((target, stop)):
        traded(desk, leg.client_order_id, 10, f"x-{number}")
        told(desk, leg, BrokerStatus.FILLED, 10)
    told(desk, lead, BrokerStatus.FILLED, 10)
    with desk.database.write() as connection:
        connection.execute(delete(position_locks))
    desk.closed_since.look()
    assert row_of_group(desk).status == "broken"
