"""Canceling: requested is not canceled, and a fill may win."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from models.errors import NotSent, Refused
from models.reports import BrokerStatus
from tests.contract.suite.desk import Desk, eventually, order, ref, resting


def test_c56_a_cancel_is_requested_and_ends_the_order(desk: Desk) -> None:
    """C56 A cancel is requested, and ends the order.

    When: cancel_order on a resting order.
    Then: it returns; an update says CANCELED; it is found as CANCELED, nothing filled; it is not among the open ones.
    """
    wanted = resting()
    placed = desk.place(wanted)
    desk.broker.cancel_order(ref(wanted, placed.broker_order_id))
    assert desk.settled(wanted, BrokerStatus.CANCELED).filled_quantity in (0, None)
    eventually(lambda: desk.pushed(placed)[-1].status is BrokerStatus.CANCELED)
    assert BrokerStatus.REJECTED not in {report.status for report in desk.pushed(placed)}
    assert desk.broker.get_orders() == []
    assert desk.the_one(wanted).state == "canceled"


def test_c57_a_cancel_after_a_restart_needs_only_what_was_known_before_the_send(desk: Desk) -> None:
    """C57 A cancel after a restart needs only what was known before the send.

    Given: a new adapter, and a reference without the broker's id.
    Then: the order is canceled.
    """
    wanted = resting()
    desk.place(wanted)
    desk.restart()
    desk.broker.cancel_order(ref(wanted))
    desk.settled(wanted, BrokerStatus.CANCELED)


def test_c58_a_filled_order_cannot_be_canceled(desk: Desk) -> None:
    """C58 A filled order cannot be canceled, and stays filled.

    Then: Refused; found as FILLED; no update says anything else.
    """
    wanted = order()
    placed = desk.place(wanted)
    desk.settled(wanted, BrokerStatus.FILLED)
    with pytest.raises(Refused):
        desk.broker.cancel_order(ref(wanted, placed.broker_order_id))
    assert desk.found(wanted).status is BrokerStatus.FILLED
    ended = {report.status for report in desk.pushed(placed)}
    assert not ended & {BrokerStatus.CANCELED, BrokerStatus.REJECTED}


def test_c59_a_canceled_order_cannot_be_canceled_again(desk: Desk) -> None:
    """C59 A canceled order cannot be canceled again.

    Then: Refused, and it stays CANCELED.
    """
    wanted = resting()
    known = ref(wanted, desk.place(wanted).broker_order_id)
    desk.broker.cancel_order(known)
    desk.settled(wanted, BrokerStatus.CANCELED)
    with pytest.raises(Refused):
        desk.broker.cancel_order(known)
    assert desk.found(wanted).status is BrokerStatus.CANCELED


def test_c60_an_order_that_the_broker_does_not_have_cannot_be_canceled(desk: Desk) -> None:
    """C60 An order that the broker does not have cannot be canceled.

    Then: Refused, and other orders stay as they were.
    """
    other = resting(symbol="MSFT")
    desk.place(other)
    with pytest.raises(Refused):
        desk.broker.cancel_order(ref(resting()))
    assert desk.found(other).status is BrokerStatus.ACCEPTED


def test_c61_a_cancel_and_a_fill_race_and_one_of_them_wins(desk: Desk) -> None:
    """C61 A cancel and a fill race: one of them wins, and the adapter says which.

    Given: five resting orders; for each, the price moves to its limit while the cancel is on its way.
    Then: each ends as FILLED or CANCELED, as the broker has it, and the fills that were told are those it made.
    """
    for number in range(1, 6):
        desk.price("F", "11.00")
        wanted = resting(symbol="F", quantity=number)
        placed = desk.place(wanted)
        mover = threading.Thread(target=desk.price, args=("F", "0.90"))
        mover.start()
        with suppress(Refused):
            desk.broker.cancel_order(ref(wanted, placed.broker_order_id))
        mover.join()
        report = desk.settled(wanted, BrokerStatus.FILLED, BrokerStatus.CANCELED)
        seen = desk.the_one(wanted)
        assert (report.status, report.filled_quantity or 0) == (seen.state, seen.filled)
        eventually(lambda seen=seen, placed=placed: sum(f.quantity for f in desk.executions(placed)) == seen.filled)  # type: ignore[misc]


def test_c62_a_cancel_keeps_what_was_filled_before(desk: Desk) -> None:
    """C62 A cancel keeps what was filled before.

    Given: 5 of 10 are filled.
    When: cancel.
    Then: CANCELED with 5 filled; the fill is still listed.
    """
    desk.fault("partial")
    wanted = order()
    placed = desk.place(wanted)
    desk.settled(wanted, BrokerStatus.PARTIALLY_FILLED)
    desk.broker.cancel_order(ref(wanted, placed.broker_order_id))
    assert desk.settled(wanted, BrokerStatus.CANCELED).filled_quantity == 5
    eventually(lambda: [fill.quantity for fill in desk.executions(placed)] == [5])


def test_c63_a_cancel_to_a_broker_that_is_down_is_not_sent(desk: Desk) -> None:
    """C63 A cancel to a broker that is down is NotSent, and the order lives on.

    Then: NotSent; back again, the order is ACCEPTED, and a second cancel works.
    """
    wanted = resting()
    known = ref(wanted, desk.place(wanted).broker_order_id)
    desk.down()
    with pytest.raises(NotSent):
        desk.broker.cancel_order(known)
    desk.back()
    assert desk.found(wanted).status is BrokerStatus.ACCEPTED
    desk.broker.cancel_order(known)
    desk.settled(wanted, BrokerStatus.CANCELED)
