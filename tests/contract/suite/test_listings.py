"""Listing orders and fills: complete, in order, or an error."""

from __future__ import annotations

from datetime import timedelta

import pytest

from models.errors import BrokerError
from models.reports import BrokerStatus
from tests.contract.suite.desk import SLACK, Desk, distinct, eventually, is_of, now, order, ref, resting


def test_c75_open_orders_are_exactly_those_that_live(desk: Desk) -> None:
    """C75 Open orders are exactly those that live, newest last, each with its terms.

    Given: three resting orders, one canceled, one filled.
    Then: the three, in the order in which they were placed.
    """
    alive = [resting(quantity=number, time_in_force="gtc") for number in (1, 2, 3)]
    canceled, filled = resting(quantity=4), order(quantity=5)
    for wanted in (*alive[:1], canceled, filled, *alive[1:]):
        desk.place(wanted)
    desk.broker.cancel_order(ref(canceled))
    desk.settled(canceled, BrokerStatus.CANCELED)
    desk.settled(filled, BrokerStatus.FILLED)
    listed = desk.broker.get_orders()
    assert [(o.quantity, o.limit_price, o.status) for o in listed] == [
        (wanted.quantity, wanted.limit_price, BrokerStatus.ACCEPTED) for wanted in alive
    ]
    assert {(o.symbol, o.side, o.order_type, o.time_in_force) for o in listed} == {("AAPL", "buy", "limit", "gtc")}


def test_c76_closed_orders_are_listed_since_a_time(desk: Desk) -> None:
    """C76 Closed orders are listed since a time, together with the open ones.

    Given: one live, one filled and one canceled order.
    When: get_orders(open_only=False, since=...), from before them and from an hour after them.
    Then: all three with their states; then the live one at most.
    """
    began = now() - SLACK
    wanted = {"live": resting(quantity=1), "filled": order(quantity=2), "canceled": resting(quantity=3)}
    placed = {name: desk.place(one) for name, one in wanted.items()}
    desk.broker.cancel_order(ref(wanted["canceled"], placed["canceled"].broker_order_id))
    desk.settled(wanted["canceled"], BrokerStatus.CANCELED)
    desk.settled(wanted["filled"], BrokerStatus.FILLED)
    listed = desk.broker.get_orders(open_only=False, since=began)
    assert {o.broker_order_id: o.status for o in listed} == {
        placed["live"].broker_order_id: BrokerStatus.ACCEPTED,
        placed["filled"].broker_order_id: BrokerStatus.FILLED,
        placed["canceled"].broker_order_id: BrokerStatus.CANCELED,
    }
    later = desk.broker.get_orders(open_only=False, since=now() + timedelta(hours=1))
    assert {o.broker_order_id for o in later} <= {placed["live"].broker_order_id}


def test_c77_fills_are_complete_in_order_and_the_same_as_those_pushed(desk: Desk) -> None:
    """C77 Listed fills are complete, oldest first, and the same as those that were pushed.

    Given: two orders filled at once and one in two parts; and a new adapter that has seen none of it.
    When: get_fills since before them.
    Then: four fills; by execution id, or by the running total of the order, each is one of those pushed.
    """
    began = now() - SLACK
    whole = [desk.place(order(quantity=number)) for number in (1, 2)]
    desk.fault("partial")
    parts = desk.place(order(quantity=4))
    eventually(lambda: desk.executions(parts))
    desk.release()
    eventually(lambda: len(desk.executions(parts)) == 2 and all(desk.executions(one) for one in whole))
    pushed = [fill for one in (*whole, parts) for fill in desk.executions(one)]
    desk.restart()
    listed = eventually(lambda: len(found := desk.broker.get_fills(began)) >= 4 and found)
    assert sorted(fill.quantity for fill in listed) == [1, 2, 2, 2]
    assert [fill.filled_at for fill in listed] == sorted(fill.filled_at for fill in listed)
    assert len(distinct([*listed, *pushed])) == 4
    assert [f.cumulative_quantity for f in listed if is_of(f, parts)] == [2, 4]
    assert {(fill.symbol, fill.side) for fill in listed} == {("AAPL", "buy")}


def test_c78_fills_before_the_time_asked_for_are_left_out(desk: Desk) -> None:
    """C78 Fills before the time that was asked for are left out.

    When: get_fills since an hour from now.
    Then: none.
    """
    placed = desk.place(order())
    eventually(lambda: desk.executions(placed))
    assert list(desk.broker.get_fills(now() + timedelta(hours=1))) == []


@pytest.mark.parametrize("reading", ["open", "orders", "fills"])
def test_c79_a_listing_that_fails_is_an_error_and_never_a_short_list(
    cold_desk: Desk, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C79 A listing that fails is an error, never a short or an empty list.

    Given: one after another, every part of the listing does not answer, answers nonsense, or breaks off in the middle.
    Then: BrokerError each time.
    """
    cold_desk.hasten(monkeypatch)
    broker = cold_desk.broker
    broker.connect()
    cold_desk.place(resting())
    since = now() - SLACK
    read = {
        "open": broker.get_orders,
        "orders": lambda: broker.get_orders(open_only=False, since=since),
        "fills": lambda: broker.get_fills(since),
    }[reading]
    for trouble in cold_desk.unreadable.get(reading, cold_desk.unreadable["orders"]):
        cold_desk.trouble(trouble)
        with pytest.raises(BrokerError):
            read()
        cold_desk.back()
        cold_desk.again(read)
    assert len(broker.get_orders()) == 1


def test_c80_nothing_there_is_an_empty_list(desk: Desk) -> None:
    """C80 Where there is nothing, lists are empty.

    Given: an account without orders, fills and positions.
    Then: empty lists, not errors.
    """
    broker = desk.broker
    assert list(broker.get_orders()) == []
    assert list(broker.get_orders(open_only=False, since=now() - SLACK)) == []
    assert list(broker.get_fills(now() - SLACK)) == []
    assert list(broker.get_positions()) == []
