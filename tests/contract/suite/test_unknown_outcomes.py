"""Orders whose answer never comes: unknown, within the deadline, and never sent again."""

from __future__ import annotations

import time

import pytest

from models.errors import OutcomeUnknown
from models.reports import BrokerStatus, Found, Missing
from tests.contract.suite.desk import SLACK, Desk, eventually, is_of, order, resting


def test_c40_an_order_that_is_swallowed_is_unknown_in_time(desk: Desk) -> None:
    """C40 An order that the broker swallows is unknown, within its deadline.

    Given: the order arrives, is not taken and never answered.
    When: placed with a deadline of 0.6 s.
    Then: OutcomeUnknown before 1.6 s have passed; nothing is at the broker; the next order is accepted.
    """
    desk.fault("hang")
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        desk.place(order(), deadline_s=0.6)
    assert time.monotonic() - began < 1.6
    assert (desk.arrivals(), desk.orders()) == (1, [])
    desk.back()
    desk.place(order())


def test_c41_an_order_whose_answer_is_lost_exists_once_and_is_found(desk: Desk) -> None:
    """C41 An order whose answer is lost is unknown, exists exactly once, and is found.

    Given: one after another, every way in which this broker can have an order and its answer be lost: the connection is
    cut, the answer never comes, a server on the way fails ...
    When: placed with a deadline of 0.6 s.
    Then: OutcomeUnknown within 1.6 s; one order at the broker, one arrival; find_order shows it, with its terms.
    """
    for number, trouble in enumerate(desk.lost_answers, 21):
        wanted, began = resting(quantity=number), time.monotonic()
        desk.trouble(trouble)
        with pytest.raises(OutcomeUnknown):
            desk.place(wanted, deadline_s=0.6)
        assert time.monotonic() - began < 1.6, trouble
        desk.back()
        report = desk.found(wanted)
        assert (report.status, report.symbol, report.quantity) == (BrokerStatus.ACCEPTED, "AAPL", number), trouble
        assert len(desk.at_broker(wanted)) == 1, trouble
    assert desk.arrivals() == len(desk.lost_answers)


def test_c42_an_order_that_is_lost_on_the_way_is_unknown_and_missing(desk: Desk) -> None:
    """C42 An order that is lost on the way there is unknown too, and missing.

    Given: one after another, every way in which bytes can leave and nothing be taken.
    Then: OutcomeUnknown, because from here it looks the same as C41; find_order says Missing, and what it read.
    """
    for number, trouble in enumerate(desk.lost_sends, 41):
        wanted = resting(quantity=number)
        desk.trouble(trouble)
        with pytest.raises(OutcomeUnknown):
            desk.place(wanted, deadline_s=0.6)
        desk.back()
        sighting = desk.find(wanted)
        assert isinstance(sighting, Missing), (trouble, sighting)
        assert sighting.evidence
    assert desk.orders() == []


def test_c43_an_unknown_order_that_was_filled_is_found_with_its_fills(desk: Desk) -> None:
    """C43 An order whose answer is lost and that is filled meanwhile is found FILLED, and its fills are listed.

    Given: a market order whose answer is lost with the connection.
    Then: found as FILLED with 10; get_fills has 10 for it.
    """
    wanted = order()
    desk.fault("accept_drop")
    with pytest.raises(OutcomeUnknown):
        desk.place(wanted)
    desk.back()
    report = desk.settled(wanted, BrokerStatus.FILLED)
    assert report.filled_quantity == 10
    fills = [fill for fill in desk.broker.get_fills(wanted.created_at - SLACK) if is_of(fill, report)]
    assert sum(fill.quantity for fill in fills) == 10


def test_c44_an_unknown_order_does_not_stop_the_ones_after_it(desk: Desk) -> None:
    """C44 One unknown order stops none of those after it.

    Given: the first order's answer never comes; the connection stays.
    When: three more orders.
    Then: each is accepted, and each is there once.
    """
    desk.fault("accept_hang")
    first, after = resting(quantity=71), [resting(quantity=number) for number in (72, 73, 74)]
    with pytest.raises(OutcomeUnknown):
        desk.place(first, deadline_s=0.6)
    desk.back()
    for wanted in after:
        assert desk.place(wanted).status is BrokerStatus.ACCEPTED
    for wanted in (first, *after):
        eventually(lambda wanted=wanted: isinstance(desk.find(wanted), Found))  # type: ignore[misc]
        desk.the_one(wanted)
