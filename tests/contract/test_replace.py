"""Replacing live orders at every broker, against its door: what stands afterwards, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    ConnectionLost,
    NotConnected,
    NotSent,
    OutcomeUnknown,
    Refused,
    Stale,
    SubmitTimeout,
    UnreadableReply,
    Unsupported,
)
from models.messages import utcnow
from models.reports import Ambiguous, BrokerStatus, Missing, OrderReport
from tests.contract.brokers import EVERY, NEW_ORDER, SDKS, AdapterBench, a_ref, bench, order, resting
from tests.kit.waiting import eventually
from worker.brokers.ibkr import replace as ibkr_replace
from worker.brokers.ibkr import verdicts as ibkr_verdicts
from worker.brokers.ibkr.pending import PendingChange
from worker.brokers.ibkr.reports import OrderLine
from worker.brokers.ibkr.verdicts import WireVerdict


@pytest.fixture(params=EVERY)
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdapterBench]:
    monkeypatch.setattr(ibkr_verdicts, "SETTLE_S", 0.1)
    monkeypatch.setattr(ibkr_replace, "ASK_S", 0.3)
    with bench(request.param, tmp_path) as found:
        yield found


def only(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("desk", kinds, indirect=True)


# -- IT WORKS ---
def test_price_and_quantity_change_and_one_order_stands(desk: AdapterBench) -> None:
    old = desk.place(resting())
    new, report = desk.replace(old, quantity="12", limit_price="1.50", time_in_force="gtc")
    assert report.status is BrokerStatus.ACCEPTED
    assert (report.quantity, report.limit_price, report.time_in_force) == (12, Decimal("1.50"), "gtc")
    assert (report.broker_order_id == old.broker_order_id) is desk.in_place
    (standing,) = desk.live()
    assert (standing.quantity, standing.limit_price, standing.time_in_force) == (12, Decimal("1.50"), "gtc")
    seen = desk.found(new)
    assert seen is not None
    assert (seen.broker_order_id, seen.status, seen.quantity) == (report.broker_order_id, BrokerStatus.ACCEPTED, 12)
    desk.broker.cancel_order(new)
    eventually(lambda: not desk.live())


@only(*NEW_ORDER)
def test_the_old_order_ends_replaced_and_both_are_found(desk: AdapterBench) -> None:
    old = desk.place(resting())
    new, report = desk.replace(old, limit_price="1.25")
    before, after = desk.found(old), desk.found(new)
    assert before is not None
    assert after is not None
    assert (before.broker_order_id, before.status) == (old.broker_order_id, BrokerStatus.REPLACED)
    assert (after.broker_order_id, after.limit_price) == (report.broker_order_id, Decimal("1.25"))
    by_ours = [replace(ref, broker_order_id=None) for ref in (old, new)]
    found = [desk.found(ref) for ref in by_ours]
    assert [one and one.broker_order_id for one in found] == [old.broker_order_id, report.broker_order_id]


@pytest.mark.parametrize(
    ("terms", "change"),
    [
        ({"order_type": "stop", "stop_price": "900"}, {"stop_price": "901.5"}),
        (
            {"order_type": "stop_limit", "stop_price": "900", "limit_price": "901"},
            {"limit_price": "902", "quantity": 8},
        ),
        ({"order_type": "trailing_stop", "trail_amount": "5", "side": "sell"}, {"trail_amount": "6.5"}),
        ({"order_type": "trailing_stop", "trail_percent": "5", "side": "sell"}, {"trail_percent": "7"}),
    ],
)
def test_every_price_can_change(desk: AdapterBench, terms: dict[str, Any], change: dict[str, Any]) -> None:
    desk.house.hold(desk.name, "AAPL", 100)
    desk.replace(desk.place(order(**terms)), **change)
    (standing,) = desk.live()
    for name, value in change.items():
        assert getattr(standing, name) == Decimal(str(value))


def test_what_is_filled_counts_towards_the_new_total_also_twice(desk: AdapterBench) -> None:
    desk.house.price("AAPL", "2.00")
    desk.house.fault(desk.name, "partial", symbol="AAPL")
    old = desk.place(resting(limit_price="3.00"))
    eventually(lambda: desk.filled() == 5)
    second, report = desk.replace(old, quantity="12", limit_price="1.00")
    assert report.quantity == (12 if desk.in_place else 7)
    found = desk.found(old)
    assert found is not None
    assert found.filled_quantity == 5
    third, report = desk.replace(second, quantity="15")
    assert report.quantity == (15 if desk.in_place else 10)
    found = desk.found(replace(third, broker_order_id=None, known=frozenset(filter(None, [old.broker_order_id]))))
    assert desk.in_place or (found and found.broker_order_id == third.broker_order_id)
    desk.house.call(lambda: desk.house.market.release(desk.name))
    desk.house.price("AAPL", "0.90")
    eventually(lambda: not desk.live())
    assert desk.filled() == 15


# -- A FILL WINS ---
def test_a_fill_just_before_the_bytes_leave_wins(desk: AdapterBench) -> None:
    desk.house.price("AAPL", "2.00")
    old = desk.place(resting())
    with pytest.raises(Refused):
        desk.replace(old, quantity="12", still_mine=lambda: desk.house.price("AAPL", "0.90"))
    assert (desk.filled(), desk.live()) == (10, [])
    eventually(lambda: (seen := desk.found(old)) and seen.status is BrokerStatus.FILLED)


@only(*NEW_ORDER)
def test_a_partial_fill_in_between_never_makes_it_more_than_ordered(desk: AdapterBench) -> None:
    desk.house.price("AAPL", "2.00")
    old = desk.place(resting())
    (live,) = desk.live()

    def fill_four() -> None:
        live.fill_cap = Decimal(4)
        desk.house.price("AAPL", "0.90")

    _, report = desk.replace(old, limit_price="0.50", still_mine=fill_four)
    assert report.status in (BrokerStatus.PENDING_CANCEL, BrokerStatus.CANCELED)
    eventually(lambda: not desk.live())
    assert desk.filled() == 4


@only("alpaca")
def test_a_200_may_still_come_to_nothing(desk: AdapterBench) -> None:
    old = desk.place(resting())
    desk.fault("replace_rejected", None)
    with pytest.raises(Refused, match="replace was rejected"):
        desk.replace(old, limit_price="1.50")
    (standing,) = desk.live()
    assert standing.limit_price == 1
    seen = desk.found(old)
    assert seen is not None
    assert seen.status is BrokerStatus.ACCEPTED


# -- IT IS REFUSED, OR NOT SENT ---
def test_what_is_done_or_unknown_is_refused(desk: AdapterBench) -> None:
    old = desk.place(resting())
    desk.broker.cancel_order(old)
    eventually(lambda: not desk.live())
    with pytest.raises(Refused):
        desk.replace(old, limit_price="1.50")
    stranger = resting(symbol="MSFT")
    nobody = {"alpaca": "11111111-1111-4111-8111-111111111111"}.get(desk.kind, "1000000000001")
    for broker_order_id in (None, nobody):
        with pytest.raises(Refused):
            desk.replace(a_ref(stranger, stranger.client_order_id, broker_order_id), limit_price="1.50")
    assert len(desk.orders()) == 1


def test_a_refusal_leaves_the_order_as_it_was(desk: AdapterBench) -> None:
    old = desk.place(resting())
    desk.fault("refuse")
    with pytest.raises(Refused):
        desk.replace(old, limit_price="1.50")
    (standing,) = desk.live()
    assert standing.limit_price == 1
    seen = desk.found(old)
    assert seen is not None
    assert (seen.status, seen.limit_price) == (BrokerStatus.ACCEPTED, 1)
    desk.replace(old, limit_price="1.75")
    assert [one.limit_price for one in desk.live()] == [Decimal("1.75")]


def test_less_than_what_is_filled_is_refused_and_not_sent(desk: AdapterBench) -> None:
    desk.house.price("AAPL", "2.00")
    desk.house.fault(desk.name, "partial", symbol="AAPL")
    old = desk.place(resting(limit_price="3.00"))
    eventually(lambda: desk.filled() == 5)
    with pytest.raises(Refused, match="filled already"):
        desk.replace(old, quantity="5")
    assert len(desk.orders()) == 1


def test_only_quantity_prices_and_time_may_differ(desk: AdapterBench) -> None:
    old = desk.place(resting())
    others: tuple[dict[str, Any], ...] = (
        {"symbol": "MSFT"},
        {"side": "sell"},
        {"order_type": "market", "limit_price": None},
        {"extended_hours": True},
        {"limit_price": "1.00"},
    )
    for change in others:
        with pytest.raises(Unsupported):
            desk.replace(old, **change)
    assert [one.limit_price for one in desk.orders()] == [1]


def test_a_stale_claim_is_not_sent(desk: AdapterBench) -> None:
    def aged() -> None:
        raise Stale("too old")

    old = desk.place(resting())
    with pytest.raises(Stale):
        desk.replace(old, limit_price="1.50", still_mine=aged)
    assert [one.limit_price for one in desk.orders()] == [1]


def test_without_a_connection_nothing_is_sent(desk: AdapterBench) -> None:
    old = desk.place(resting())
    desk.broker.disconnect()
    with pytest.raises(NotConnected):
        desk.replace(old, limit_price="1.50")
    assert [one.limit_price for one in desk.orders()] == [1]


# -- NOBODY KNOWS ---
@pytest.mark.parametrize("fault", ["accept_drop", "accept_hang", "hang"])
def test_no_answer_is_unknown_and_what_stands_can_be_found(desk: AdapterBench, fault: str) -> None:
    old = desk.place(resting())
    ticket = desk.ticket(old, deadline_s=1.0, quantity="12", limit_price="1.50")
    desk.fault(fault)
    sent_at = utcnow()
    # A change that IB lists with its new terms is confirmed, whether or not it was announced.
    sees_it = desk.in_place and fault == "accept_hang"
    if sees_it:
        assert desk.broker.replace_order(old, ticket).limit_price == Decimal("1.50")
    else:
        with pytest.raises(OutcomeUnknown):
            desk.broker.replace_order(old, ticket)
    if not desk.broker.is_connected():
        desk.broker.connect()
    taken = fault != "hang"
    known = frozenset([str(old.broker_order_id)]) if not desk.in_place else frozenset()
    new = a_ref(ticket.order, ticket.broker_client_order_id, sent_at=sent_at, known=known)
    assert [one.limit_price for one in desk.live()] == [Decimal("1.50") if taken else Decimal("1.00")]
    sighting = desk.broker.find_order(new)
    before = desk.found(old)
    assert before is not None
    if desk.in_place:
        assert before.limit_price == (Decimal("1.50") if taken else Decimal("1.00"))
    else:
        assert before.status is (BrokerStatus.REPLACED if taken else BrokerStatus.ACCEPTED)
        assert isinstance(sighting, Missing) is not taken
    assert len(desk.orders()) == (1 if desk.in_place or not taken else 2)


@only("tda", "schwab")
@pytest.mark.parametrize("fault", ["location_missing", "location_foreign"])
def test_a_location_that_does_not_lead_there_is_unknown(desk: AdapterBench, fault: str) -> None:
    old = desk.place(resting())
    desk.house.fault(desk.name, fault)
    ticket = desk.ticket(old, limit_price="1.50")
    with pytest.raises(UnreadableReply):
        desk.broker.replace_order(old, ticket)
    new = a_ref(ticket.order, "", sent_at=utcnow(), known=frozenset([str(old.broker_order_id)]))
    found = desk.found(new)
    assert found is not None
    assert found.limit_price == Decimal("1.50")


@only("tda", "schwab")
def test_a_lost_replacement_for_what_was_left_is_found(desk: AdapterBench) -> None:
    desk.house.price("AAPL", "2.00")
    desk.house.fault(desk.name, "partial", symbol="AAPL")
    old = desk.place(resting(limit_price="3.00"))
    eventually(lambda: desk.filled() == 5)
    ticket = desk.ticket(old, deadline_s=1.5, quantity="12", limit_price="1.00")
    desk.fault("accept_drop")
    sent_at = utcnow()
    with pytest.raises(ConnectionLost):
        desk.broker.replace_order(old, ticket)
    new = a_ref(ticket.order, "", sent_at=sent_at, known=frozenset([str(old.broker_order_id)]))
    for sighting in (desk.broker.find_order(new), desk.broker.find_orders([new, new])[1]):
        assert not isinstance(sighting, (Missing, Ambiguous))
        assert (sighting.report.quantity, sighting.report.limit_price) == (7, 1)


@only("alpaca")
def test_a_503_to_a_replace_is_unknown_and_the_new_id_tells(desk: AdapterBench) -> None:
    old = desk.place(resting())
    desk.fault("status", status=503, accepted=True)
    ticket = desk.ticket(old, limit_price="1.50")
    with pytest.raises(OutcomeUnknown):
        desk.broker.replace_order(old, ticket)
    found = desk.found(a_ref(ticket.order, ticket.broker_client_order_id))
    assert found is not None
    assert found.limit_price == Decimal("1.50")


# -- IB ---
@only(*SDKS)
@pytest.mark.parametrize("code", [104, 105, 110, 201, 321, 10268])
def test_a_code_leaves_the_original_order_live(desk: AdapterBench, code: int) -> None:
    old = desk.place(resting())
    desk.fault("error_code", code=code, text="no", accepted=False)
    with pytest.raises(Refused):
        desk.replace(old, limit_price="1.50")
    seen = desk.found(old)
    assert seen is not None
    assert (seen.status, seen.limit_price) == (BrokerStatus.ACCEPTED, 1)
    told = [r.status for r in desk.reports if isinstance(r, OrderReport)]
    assert set(told) == {BrokerStatus.ACCEPTED}
    desk.broker.cancel_order(old)
    eventually(lambda: (seen := desk.found(old)) and seen.status is BrokerStatus.CANCELED)
    assert BrokerStatus.REJECTED not in [r.status for r in desk.reports if isinstance(r, OrderReport)]


@only(*SDKS)
def test_a_notice_is_no_refusal(desk: AdapterBench) -> None:
    old = desk.place(resting())
    desk.fault("error_code", code=399, text="Order Message", accepted=True)
    assert desk.replace(old, limit_price="1.50")[1].limit_price == Decimal("1.50")


@only(*SDKS)
def test_only_the_client_that_placed_an_order_can_change_it(desk: AdapterBench) -> None:
    old = desk.place(resting())
    other = desk.another(client_id=2)
    other.connect()
    with pytest.raises(NotSent, match="client id 1"):
        other.replace_order(old, desk.ticket(old, limit_price="1.50"))
    other.disconnect()
    assert [one.limit_price for one in desk.live()] == [1]


@only(*SDKS)
def test_a_change_that_ib_loses_sight_of_is_unknown(desk: AdapterBench) -> None:
    old = desk.place(resting())
    with pytest.raises(ConnectionLost):
        desk.replace(old, limit_price="1.50", still_mine=lambda: desk.house.fault("ibkr", "nightly_reset", seconds=0.2))
    eventually(desk.broker.is_connected)
    seen = desk.found(old)
    assert seen is not None
    assert seen.limit_price == Decimal("1.50")


@only(*SDKS)
def test_on_close_is_another_order_type_at_ib(desk: AdapterBench) -> None:
    old = desk.place(resting())
    with pytest.raises(Unsupported):
        desk.replace(old, time_in_force="cls")


def a_line(perm_id: int, limit: str, status: str = "Submitted") -> OrderLine:
    wanted = resting()
    return OrderLine(
        perm_id=perm_id, order_id=7, client_id=1, ref="r", account="", symbol="AAPL", status=status, side=wanted.side,
        order_type=wanted.order_type, time_in_force=wanted.time_in_force, quantity=wanted.quantity,
        limit_price=Decimal(limit), stop_price=None,
    )  # fmt: skip


def a_change() -> PendingChange:
    return PendingChange(ref="r", broker="ib", order_id=7, perm_id=1, wanted=resting(limit_price="1.50"))


def test_two_perm_ids_after_a_change_are_unknown() -> None:
    change = a_change()
    change.see_order(a_line(2, "1.50"), "", 0.0)
    assert change.verdict(0.0) is WireVerdict.UNKNOWN
    assert isinstance(change.error(WireVerdict.UNKNOWN, 1.0), OutcomeUnknown)


def test_a_fill_without_terms_decides_nothing_about_the_change() -> None:
    change = a_change()
    change.see_status("Filled", "", 1, "r", 0.0)
    assert change.verdict(1.0) is WireVerdict.WAIT
    assert change.verdict(9.0) is WireVerdict.UNKNOWN
    change.see_order(a_line(1, "1.50", "Filled"), "", 9.0)
    assert change.verdict(9.0) is WireVerdict.DONE


def test_an_unheard_code_is_unknown_until_the_order_is_shown_unchanged() -> None:
    change = a_change()
    change.hear(10999, "odd", 1.0)
    assert change.verdict(1.1) is WireVerdict.WAIT
    assert change.verdict(9.0) is WireVerdict.UNKNOWN
    change.see_order(a_line(1, "1.00"), "", 2.0)
    assert change.verdict(9.0) is WireVerdict.REFUSED
    assert isinstance(change.error(WireVerdict.REFUSED, 1.0), Refused)


def test_a_silent_change_times_out_as_unknown() -> None:
    assert isinstance(a_change().error(WireVerdict.WAIT, 1.0), SubmitTimeout)
