"""Replacing: either terms may stand, never both, and what stands is known or unknown."""

from __future__ import annotations

from functools import partial

import pytest

from models.errors import NotSent, OutcomeUnknown, Refused, Stale, Unsupported
from models.messages import OrderRequest
from models.reports import BrokerStatus, Found, OrderReport
from tests.contract.suite.desk import Desk, eventually, fresh_id, needs, order, ref, resting, ticket


class Swap:
    """A resting order, and how it is replaced."""

    def __init__(self, desk: Desk, **terms: object) -> None:
        needs(desk.can.replaces != "no", "it replaces nothing")
        self.desk = desk
        self.old = resting(**terms)
        self.placed = desk.place(self.old)
        self.in_place = desk.can.replaces == "in_place"
        #: What a broker that makes a new order is given for it.
        self.our_id = self.old.client_order_id if self.in_place else fresh_id()
        self.new: OrderRequest = self.old

    def to(self, *, still_mine: object = lambda: None, deadline_s: float = 3.0, **terms: object) -> OrderReport:
        """Replace it by an order with these terms."""
        self.new = self.old.model_copy(update=order(**{**_terms(self.old), **terms}).model_dump(include=set(terms)))
        paper = ticket(self.new, deadline_s=deadline_s, our_id=self.our_id, still_mine=still_mine)  # type: ignore[arg-type]
        return self.desk.broker.replace_order(ref(self.old, self.placed.broker_order_id), paper)

    def standing(self) -> list[tuple[object, object]]:
        """Return quantity still wanted and limit price of every order that lives at the broker."""
        live = [seen for seen in self.desk.orders() if seen.state == "live"]
        return [(seen.quantity - seen.filled, seen.limit_price) for seen in live]


def _terms(wanted: OrderRequest) -> dict[str, object]:
    names = ("symbol", "side", "quantity", "order_type", "limit_price", "time_in_force")
    return {name: getattr(wanted, name) for name in names}


def test_c64_a_new_price_stands_and_the_old_one_does_not(desk: Desk) -> None:
    """C64 A new limit price stands, and the old one does not.

    When: replace_order with another limit price.
    Then: the report has the new price, and the old broker's id if it is changed in place, its own if it is a new order;
    one order lives at the broker, at the new price; it is found.
    Skipped: brokers that replace nothing.
    """
    swap = Swap(desk)
    report = swap.to(limit_price="1.50")
    assert (report.status, report.limit_price) == (BrokerStatus.ACCEPTED, swap.new.limit_price)
    assert (report.broker_order_id == swap.placed.broker_order_id) == swap.in_place
    eventually(lambda: swap.standing() == [(10, swap.new.limit_price)])
    found = desk.found(swap.new, broker_order_id=report.broker_order_id, broker_client_order_id=swap.our_id)
    assert (found.broker_order_id, found.limit_price) == (report.broker_order_id, swap.new.limit_price)


def test_c65_a_new_quantity_is_the_new_total(desk: Desk) -> None:
    """C65 A new quantity is the new total: what is filled already is part of it.

    Given: 5 of 10 are filled.
    When: replace_order with quantity 20.
    Then: 15 are still wanted at the broker, 5 are filled, and no share is wanted twice.
    Skipped: brokers that replace nothing.
    """
    desk.fault("partial")
    swap = Swap(desk, limit_price="9999.00")
    eventually(lambda: [seen.filled for seen in desk.orders()] == [5])
    desk.settled(swap.old, BrokerStatus.PARTIALLY_FILLED)
    desk.fault("no_fill")
    report = swap.to(quantity=20)
    assert report.status in (BrokerStatus.ACCEPTED, BrokerStatus.PARTIALLY_FILLED)
    eventually(lambda: swap.standing() == [(15, swap.old.limit_price)])
    assert sum(seen.filled for seen in desk.orders()) == 5


def test_c66_a_filled_order_is_not_replaced(desk: Desk) -> None:
    """C66 A filled order is not replaced.

    Then: Refused; it is FILLED, and nothing else is there.
    Skipped: brokers that replace nothing.
    """
    swap = Swap(desk, limit_price="9999.00")
    desk.settled(swap.old, BrokerStatus.FILLED)
    with pytest.raises(Refused):
        swap.to(limit_price="1.50")
    assert desk.found(swap.old).status is BrokerStatus.FILLED
    assert len(desk.orders()) == 1


def test_c67_a_canceled_order_is_not_replaced(desk: Desk) -> None:
    """C67 A canceled order is not replaced, so it cannot rise again.

    Then: Refused; nothing lives at the broker.
    Skipped: brokers that replace nothing.
    """
    swap = Swap(desk)
    desk.broker.cancel_order(ref(swap.old, swap.placed.broker_order_id))
    desk.settled(swap.old, BrokerStatus.CANCELED)
    with pytest.raises(Refused):
        swap.to(limit_price="1.50")
    assert swap.standing() == []


def test_c68_an_order_that_the_broker_does_not_have_is_not_replaced(desk: Desk) -> None:
    """C68 An order that the broker does not have is not replaced, and not placed instead.

    Then: Refused; nothing is at the broker.
    Skipped: brokers that replace nothing.
    """
    needs(desk.can.replaces != "no", "it replaces nothing")
    never = resting()
    with pytest.raises(Refused):
        desk.broker.replace_order(ref(never), ticket(never.model_copy(update={"quantity": order().quantity * 2})))
    assert desk.orders() == []


def test_c69_a_change_that_the_broker_refuses_leaves_the_old_order(desk: Desk) -> None:
    """C69 A change that the broker refuses leaves the old order as it was.

    Given: the broker refuses the change.
    Then: Refused; the old order lives on with its terms; no update calls it dead.
    Skipped: brokers that replace nothing.
    """
    swap = Swap(desk)
    desk.fault("refuse", operation="replace")
    with pytest.raises(Refused):
        swap.to(limit_price="1.50")
    assert swap.standing() == [(10, swap.old.limit_price)]
    assert desk.found(swap.old).status is BrokerStatus.ACCEPTED
    assert {report.status for report in desk.pushed(swap.placed)} == {BrokerStatus.ACCEPTED}


def test_c70_a_change_to_a_broker_that_is_down_is_not_sent(desk: Desk) -> None:
    """C70 A change to a broker that is down is NotSent.

    Then: NotSent; back again, the old order lives on as it was.
    Skipped: brokers that replace nothing.
    """
    swap = Swap(desk)
    desk.down()
    with pytest.raises(NotSent):
        swap.to(limit_price="1.50")
    desk.back()
    assert swap.standing() == [(10, swap.old.limit_price)]


def test_c71_a_stale_claim_changes_nothing(desk: Desk) -> None:
    """C71 A claim that has aged out changes nothing.

    Given: `ticket.still_mine` raises Stale.
    Then: Stale; the old order lives on as it was.
    Skipped: brokers that replace nothing.
    """

    def still_mine() -> None:
        raise Stale("claimed long ago")

    swap = Swap(desk)
    with pytest.raises(Stale):
        swap.to(limit_price="1.50", still_mine=still_mine)
    assert swap.standing() == [(10, swap.old.limit_price)]


def test_c72_a_change_whose_answer_is_lost_is_unknown_and_one_order_stands(desk: Desk) -> None:
    """C72 A change whose answer is lost is unknown, is not sent again, and one order stands.

    Given: one after another, the ways in which a change can be made and its answer be lost.
    Then: OutcomeUnknown within the deadline; one order lives, at the new price; it is found under the new id.
    Skipped: brokers that replace nothing.
    """
    needs(desk.can.replaces != "no", "it replaces nothing")
    for number, trouble in enumerate(desk.lost_changes, 31):
        swap = Swap(desk, quantity=number)
        desk.trouble(trouble)
        with pytest.raises(OutcomeUnknown):
            swap.to(limit_price="1.50", deadline_s=0.7)
        desk.back()
        eventually(lambda swap=swap, number=number: (number, swap.new.limit_price) in swap.standing())  # type: ignore[misc]
        assert len([one for one in swap.standing() if one[0] == number]) == 1
        find = partial(desk.find, swap.new, broker_client_order_id=swap.our_id)
        eventually(lambda find=find: isinstance(find(), Found))  # type: ignore[misc]
        seen = find()
        assert isinstance(seen, Found), (trouble, seen)
        assert seen.report.limit_price == swap.new.limit_price


def test_c73_the_order_that_stands_can_be_canceled(desk: Desk) -> None:
    """C73 The order that stands after a replace can be canceled.

    Then: nothing lives at the broker.
    Skipped: brokers that replace nothing.
    """
    swap = Swap(desk)
    report = swap.to(limit_price="1.50")
    known = ref(swap.new, report.broker_order_id, broker_client_order_id=swap.our_id)
    desk.broker.cancel_order(known)
    eventually(lambda: swap.standing() == [])


def test_c74_a_broker_that_replaces_nothing_says_so(desk: Desk) -> None:
    """C74 A broker that replaces nothing says Unsupported.

    Then: Unsupported; the order lives on.
    Skipped: brokers that replace.
    """
    needs(desk.can.replaces == "no", "it replaces orders")
    wanted = resting()
    desk.place(wanted)
    with pytest.raises(Unsupported):
        desk.broker.replace_order(ref(wanted), ticket(wanted))
    assert desk.the_one(wanted).state == "live"
