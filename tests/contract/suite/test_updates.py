"""Updates: what is told without being asked, and what happens when it was not."""

from __future__ import annotations

from models.reports import DONE, BrokerStatus, FillReport, Report
from tests.contract.suite.desk import SLACK, Desk, distinct, eventually, is_of, order, resting


def test_c94_a_cancel_from_outside_is_told(desk: Desk) -> None:
    """C94 A cancel that did not come from us is told.

    When: the broker, or a person, cancels a resting order.
    Then: an update says CANCELED.
    """
    wanted = resting()
    placed = desk.place(wanted)
    desk.cancel_outside(desk.the_one(wanted))
    eventually(lambda: desk.pushed(placed)[-1].status is BrokerStatus.CANCELED)


def test_c95_the_last_state_told_is_the_true_one(desk: Desk) -> None:
    """C95 The last state told is the true one.

    Given: an order filled in two parts.
    Then: whatever was told on the way, in the end FILLED with 10 is, and no cancel or rejection ever was.
    """
    desk.fault("partial")
    placed = desk.place(order())
    eventually(lambda: desk.executions(placed))
    desk.release()
    eventually(lambda: desk.pushed(placed)[-1].status is BrokerStatus.FILLED)
    assert desk.pushed(placed)[-1].filled_quantity == 10
    assert {report.status for report in desk.pushed(placed)} & DONE == {BrokerStatus.FILLED}


def test_c96_a_callback_that_fails_does_not_end_the_updates(desk: Desk) -> None:
    """C96 A callback that raises ends neither the updates nor the order.

    Given: the callback raises for a while.
    Then: orders are placed all the same, and when it has recovered it is called again.
    """

    def fail(_: Report) -> None:
        raise RuntimeError("the worker's fault")

    desk.broker.updates(fail)
    desk.place(order(quantity=3))
    eventually(lambda: desk.the_one(order(quantity=3)).state == "filled")
    desk.broker.updates(desk.reports.append)
    placed = desk.place(resting())
    desk.cancel_outside(desk.the_one(resting()))
    eventually(lambda: desk.pushed(placed)[-1].status is BrokerStatus.CANCELED)


def test_c97_what_happened_while_cut_off_is_caught_up(desk: Desk) -> None:
    """C97 What happened while the connection was cut is caught up.

    Given: an order rests; the broker is out of reach; it is filled there; the broker is back.
    When: connect if it is needed.
    Then: get_fills has the fill and find_order says FILLED; the fills told by any way, taken once each, are the 10
    shares; and a new order's fill is pushed as usual.
    """
    desk.fault("no_fill")
    wanted = order()
    placed = desk.place(wanted)
    desk.down()
    desk.release()
    eventually(lambda: desk.the_one(wanted).state == "filled")
    desk.back()
    assert desk.settled(wanted, BrokerStatus.FILLED).filled_quantity == 10
    listed = eventually(lambda: [f for f in desk.broker.get_fills(wanted.created_at - SLACK) if is_of(f, placed)])
    assert sum(fill.quantity for fill in distinct([*listed, *desk.executions(placed)])) == 10
    after = desk.place(order(quantity=4))
    eventually(lambda: sum(fill.quantity for fill in desk.executions(after)) == 4)


def test_c98_an_order_from_before_the_cut_is_told_about_after_it(desk: Desk) -> None:
    """C98 An order from before the cut is told about after it.

    Given: an order rests, and the connection is cut and made again.
    When: it is filled.
    Then: its fill is told, without anybody asking.
    """
    desk.fault("no_fill")
    placed = desk.place(order())
    desk.down()
    desk.back()
    desk.ready()
    desk.release()
    eventually(lambda: sum(fill.quantity for fill in desk.executions(placed)) == 10)


def test_c99_nothing_is_told_twice_as_something_new(desk: Desk) -> None:
    """C99 Nothing is told twice as something new.

    Given: a broker that says everything twice, where its wire can do that; and a reconnect, which replays the day.
    Then: the fills told, taken once by execution id or running total, are the order's quantity; none is for another.
    """
    for kind in desk.repeats:
        desk.fault(kind, count=10)
    placed = desk.place(order())
    eventually(lambda: desk.pushed(placed)[-1].status is BrokerStatus.FILLED and desk.executions(placed))
    desk.cut()
    desk.back()
    desk.ready()
    after = desk.place(order(quantity=4))
    eventually(lambda: desk.executions(after))
    assert [fill.quantity for fill in desk.executions(placed)] == [10]
    told = [report for report in desk.reports if isinstance(report, FillReport)]
    assert all(is_of(fill, placed) or is_of(fill, after) for fill in told)
