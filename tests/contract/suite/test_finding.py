"""Finding an order again: what Found, Missing and Ambiguous may be said of, and what is an error."""

from __future__ import annotations

import pytest

from models.errors import BrokerError
from models.reports import Ambiguous, BrokerStatus, Found, Missing
from tests.contract.suite.desk import Desk, eventually, needs, order, ref, resting


def test_c45_an_order_is_found_after_a_restart_by_what_was_known_before_the_send(desk: Desk) -> None:
    """C45 A live order is found after a restart by what was known before it was sent.

    Given: an order was placed, and the adapter's object is gone: the id that the broker gave it was never stored.
    When: a new adapter looks for it.
    Then: Found, with the broker's id, ACCEPTED and the same terms.
    """
    wanted = resting(time_in_force="gtc")
    placed = desk.place(wanted)
    desk.restart()
    report = desk.found(wanted)
    assert (report.broker_order_id, report.status) == (placed.broker_order_id, BrokerStatus.ACCEPTED)
    assert (report.symbol, report.side, report.quantity, report.limit_price) == ("AAPL", "buy", 10, wanted.limit_price)


def test_c46_a_filled_order_is_found_after_a_restart(desk: Desk) -> None:
    """C46 A filled order is found after a restart.

    Then: Found as FILLED, with the filled quantity and the average price of the fill.
    """
    wanted = order()
    placed = desk.place(wanted)
    (fill,) = eventually(lambda: desk.executions(placed))
    desk.restart()
    report = desk.settled(wanted, BrokerStatus.FILLED)
    assert (report.broker_order_id, report.filled_quantity) == (placed.broker_order_id, 10)
    assert report.avg_fill_price == fill.price


def test_c47_a_canceled_order_is_found_after_a_restart(desk: Desk) -> None:
    """C47 A canceled order is found after a restart, as CANCELED.

    Then: Found as CANCELED with nothing filled.
    """
    wanted = resting()
    placed = desk.place(wanted)
    desk.broker.cancel_order(ref(wanted, placed.broker_order_id))
    desk.settled(wanted, BrokerStatus.CANCELED)
    desk.restart()
    assert not desk.settled(wanted, BrokerStatus.CANCELED).filled_quantity


def test_c48_an_order_that_was_never_sent_is_missing_with_evidence(desk: Desk) -> None:
    """C48 An order that was never sent is Missing, and the evidence says what was read.

    Given: other orders are there, live and filled.
    Then: Missing with words about the places that answered.
    """
    desk.place(resting(symbol="MSFT"))
    placed = desk.place(order("KO"))
    eventually(lambda: desk.executions(placed))
    sighting = desk.find(order())
    assert isinstance(sighting, Missing)
    assert len(sighting.evidence) > 10


def test_c49_several_orders_are_found_at_once_in_the_order_asked(desk: Desk) -> None:
    """C49 Several orders are found at once, in the order in which they were asked for.

    When: find_orders for six that are there and one that is not.
    Then: Found, with the right one in its place, and Missing; the same as one by one.
    """
    wanted = [resting(quantity=number) for number in range(1, 7)]
    placed = [desk.place(one) for one in wanted]
    asked = [*(ref(one) for one in reversed(wanted)), ref(resting(quantity=99))]
    *found, absent = desk.broker.find_orders(asked)
    assert [one.report.broker_order_id for one in found if isinstance(one, Found)] == [
        one.broker_order_id for one in reversed(placed)
    ]
    assert isinstance(absent, Missing)
    assert desk.broker.find_orders([]) == []


def test_c50_what_cannot_be_read_completely_is_an_error_and_never_missing(
    cold_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C50 What cannot be read completely is an error, never Missing.

    Given: one after another, every place where an order could be does not answer, or answers nonsense.
    When: an order is looked for that is there.
    Then: BrokerError each time; Found afterwards, if need be after a reconnect.
    """
    cold_desk.hasten(monkeypatch)
    cold_desk.broker.connect()
    wanted = resting()
    cold_desk.place(wanted)
    for trouble in cold_desk.unreadable["find"]:
        cold_desk.trouble(trouble)
        with pytest.raises(BrokerError):
            cold_desk.find(wanted)
        cold_desk.back()
        assert isinstance(cold_desk.again(lambda: cold_desk.find(wanted)), Found)


def test_c51_a_connection_that_is_down_is_an_error_and_never_missing(desk: Desk) -> None:
    """C51 A broker that is down leaves the question open: an error, never Missing.

    Given: the broker refuses connections.
    Then: BrokerError.
    """
    desk.down()
    with pytest.raises(BrokerError):
        desk.find(order())


def test_c52_orders_with_equal_terms_are_told_apart_by_our_id(desk: Desk) -> None:
    """C52 Orders with equal terms are told apart by our id.

    Given: three orders with the same terms under different ids.
    Then: each is found as its own.
    Skipped: brokers without client order ids.
    """
    needs(desk.can.client_order_id_length, "no client order ids")
    wanted = [resting() for _ in range(3)]
    placed = [desk.place(one).broker_order_id for one in wanted]
    assert len(set(placed)) == 3
    assert [desk.found(one).broker_order_id for one in wanted] == placed


def test_c53_look_alikes_without_ids_are_ambiguous(desk: Desk) -> None:
    """C53 Look-alikes without ids are Ambiguous, and never guessed.

    Given: two orders with the same terms, and a third of ours that was perhaps never taken.
    Then: Ambiguous with both candidates; the capabilities say that absence is never certain.
    Skipped: brokers with client order ids.
    """
    needs(desk.can.client_order_id_length is None, "it has client order ids")
    third = resting()
    both = {desk.place(resting()).broker_order_id for _ in range(2)}
    sighting = desk.find(third)
    assert isinstance(sighting, Ambiguous)
    assert {report.broker_order_id for report in sighting.candidates} == both
    assert not desk.can.absence.possible


@pytest.mark.parametrize("key", ["known", "baseline"])
def test_c54_look_alikes_are_told_apart_by_what_is_known(desk: Desk, key: str) -> None:
    """C54 Look-alikes without ids are told apart by what existed before the send, or belongs to others.

    Given: two orders with the same terms, one of which was there before (`baseline`) or is another's (`known`).
    Then: the other one is Found.
    Skipped: brokers with client order ids.
    """
    needs(desk.can.client_order_id_length is None, "it has client order ids")
    wanted = resting()
    first, second = desk.place(resting()), desk.place(resting())
    report = desk.found(wanted, **{key: frozenset({first.broker_order_id})})
    assert report.broker_order_id == second.broker_order_id


def test_c55_an_order_is_found_by_the_brokers_id(desk: Desk) -> None:
    """C55 An order is found by the broker's id, if that was stored.

    Given: two look-alikes.
    Then: each is found by its own id, ours or the broker's.
    """
    wanted = [resting(), resting()]
    placed = [desk.place(one) for one in wanted]
    desk.restart()
    for one, report in zip(wanted, placed, strict=True):
        assert desk.found(one, broker_order_id=report.broker_order_id).broker_order_id == report.broker_order_id
