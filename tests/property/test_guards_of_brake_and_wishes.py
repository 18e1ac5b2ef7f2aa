"""Guards of the brake, and of a wish (a cancel, a replace) that meets one or breaks, each by itself."""

from __future__ import annotations

from typing import Any

import pytest

from models.record.tables import attempts, orders
from models.reports import BrokerStatus
from tests.property.scenario import DEDUPES, KEEPS, Scenario
from worker.control.controls import resume, stop
from worker.control.scopes import Scope


# -- THE BRAKE ---
def test_a_halt_behind_the_claim_stops_what_has_not_left_and_nothing_trades_at_resume(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    stop(at.world.database, Scope(), "halt", "a test", "somebody")
    at.send(KEEPS, claimed)
    assert at.tries(id_) == [(KEEPS, "not_sent")]
    assert (at.status(id_), at.row(id_)["reason_code"]) == ("denied", "halted")
    resume(at.world.database, None, by="somebody")
    for broker in (KEEPS, DEDUPES):
        at.world.pass_time(5)
        at.worker[broker].leader.sweep()
    assert at.at_brokers() == []


def test_a_halt_is_seen_at_the_gate_by_an_order_that_waited_for_its_turn(at: Scenario) -> None:
    """The look before the turn saw nothing; a quarter of a second later the gate reads for itself."""
    id_ = at.order(KEEPS)
    claimed, process = at.claim(KEEPS, id_), at.worker[KEEPS]
    place = process.seat.place_order

    def in_turn(ticket: Any) -> Any:
        stop(at.world.database, Scope(), "halt", "a test", "somebody")
        at.world.clock.advance(0.3)
        return place(ticket)

    process.seat.place_order = in_turn  # type: ignore[method-assign]
    at.send(KEEPS, claimed)
    assert at.at_brokers() == []
    assert at.row(id_)["reason_code"] == "halted"


def test_an_order_behind_a_resume_is_not_denied_by_what_the_gate_remembers(at: Scenario) -> None:
    stop(at.world.database, Scope(), "halt", "a test", "somebody")
    at.worker[KEEPS].desk.gate.brake.refresh()
    resume(at.world.database, None, by="somebody")
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    assert at.tries(id_) == [(KEEPS, "accepted")]


def test_a_halted_broker_sends_an_order_on_and_the_first_code_ends_it(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    stop(at.world.database, Scope("broker", KEEPS), "halt", "a test", "somebody")
    at.send(KEEPS, claimed)
    assert (at.status(id_), at.row(id_)["broker"]) == ("queued", DEDUPES)
    stop(at.world.database, Scope("broker", DEDUPES), "halt", "a test", "somebody")
    at.work(DEDUPES, id_)
    assert at.tries(id_) == [(KEEPS, "not_sent"), (DEDUPES, "not_sent")]
    assert (at.status(id_), at.row(id_)["reason_code"]) == ("denied", "halted")
    assert at.at_brokers() == []


def test_under_a_halt_a_replace_that_grows_is_refused_and_one_that_lessens_passes(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    stop(at.world.database, Scope(), "halt", "a test", "somebody")
    at.wish(id_, quantity=500)
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 10
    assert (at.kinds(id_)[-1], at.row(id_)["replace_request"]) == ("replace_refused", None)
    at.wish(id_, quantity=5)
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 5


def test_a_replace_that_grows_meets_a_halt_at_the_gate_too(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=500)
    process = at.worker[KEEPS]
    replace = process.seat.replace_order

    def halted_meanwhile(*given: Any) -> Any:
        stop(at.world.database, Scope(), "halt", "a test", "somebody")
        at.world.clock.advance(0.3)
        return replace(*given)

    process.seat.replace_order = halted_meanwhile  # type: ignore[method-assign]
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 10
    assert (at.row(id_)["quantity"], at.row(id_)["replace_request"]) == (10, None)


def test_a_halted_symbol_ends_its_orders_at_once_and_leaves_others_alone(at: Scenario) -> None:
    stopped, other = at.order(KEEPS, DEDUPES), at.order(KEEPS)
    at.change(orders, other, symbol="PEP")
    claimed = at.claim(KEEPS, stopped)
    stop(at.world.database, Scope("symbol", "KO"), "halt", "a test", "somebody")
    at.send(KEEPS, claimed)
    late = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, late, other)
    assert [(at.status(id_), at.row(id_)["reason_code"]) for id_ in (stopped, late)] == [("denied", "halted")] * 2
    assert [at.tries(id_) for id_ in (stopped, late)] == [[(KEEPS, "not_sent")], []]
    assert at.kinds(late)[-2:] == ["halted", "denied"]
    assert at.tries(other) == [(KEEPS, "accepted")]


def test_while_reducing_an_order_closes_and_none_opens(at: Scenario) -> None:
    at.holds(KEEPS, 10)
    opens, closes = at.order(KEEPS, DEDUPES), at.order(KEEPS, side="sell")
    claimed = at.claim(KEEPS, opens)
    stop(at.world.database, Scope("symbol", "KO"), "reduce", "a test", "somebody")
    at.send(KEEPS, claimed)
    at.work(KEEPS, closes)
    assert (at.status(opens), at.row(opens)["reason_code"]) == ("denied", "reducing")
    assert at.tries(closes) == [(KEEPS, "accepted")]


def test_while_reducing_no_sell_opens_a_short_position_even_where_it_may(at: Scenario) -> None:
    for process in at.worker.values():
        process.desk.recorder.closings.__self__.closes = False  # type: ignore[attr-defined]  # sell = "as_ordered"
    at.holds(KEEPS, 0)
    stop(at.world.database, Scope(), "reduce", "a test", "somebody")
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    assert at.at_brokers() == []
    assert at.row(id_)["reason_code"] == "no_position"


# -- WISHES ---
@pytest.mark.parametrize("meets", ["quota", "not_connected", "rate_limit"])
def test_a_replace_that_was_not_sent_is_done_later(at: Scenario, meets: str) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=20)
    at.replace(KEEPS, meets=meets)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 10
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 10, "tried again without a pause"
    at.world.pass_time(5)
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 20
    assert (at.row(id_)["quantity"], at.row(id_)["replace_request"]) == (20, None)
    at.world.pass_time(60)
    at.replace(KEEPS)
    assert len(at.tries(id_)) == 3, "what is done is not wished for any more"


def test_a_replace_that_is_refused_is_not_tried_again(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=20)
    at.replace(KEEPS, meets="refuse")
    assert (at.kinds(id_)[-1], at.row(id_)["replace_request"]) == ("replace_refused", None)


def test_a_wish_can_be_withdrawn_or_changed_until_it_is_sent(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=20)
    at.replace(KEEPS, meets="quota")
    at.wish(id_, quantity=10)
    assert (at.kinds(id_)[-1], at.row(id_)["replace_request"]) == ("replace_withdrawn", None)
    at.wish(id_, quantity=20)
    at.wish(id_, quantity=30)
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 30


def test_one_cancel_that_breaks_the_adapter_costs_no_other(at: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [at.order(KEEPS, limit_price=50 + n, order_type="limit") for n in range(3)]
    at.work(KEEPS, *ids)
    seat, cancels = at.worker[KEEPS].seat, at.worker[KEEPS].desk.cancels
    cancel = seat.cancel_order

    def breaks(ref: Any) -> None:
        if ref.order.client_order_id == ids[0]:
            raise ValueError("what an adapter should not let out")
        cancel(ref)

    monkeypatch.setattr(seat, "cancel_order", breaks)
    at.worker[KEEPS].desk.wishes.record(ids)
    cancels.carry_out(ids)
    at.worker[KEEPS].desk.readings.read(everything=True)
    assert [at.status(id_) for id_ in ids] == ["accepted", "canceled", "canceled"]
    assert "cancel_unknown" in at.kinds(ids[0])


def test_one_row_that_cannot_be_read_holds_up_no_cancel(at: Scenario) -> None:
    ids = [at.order(KEEPS, limit_price=50 + n, order_type="limit") for n in range(3)]
    at.work(KEEPS, *ids)
    at.worker[KEEPS].desk.wishes.record(ids)
    at.change(attempts, ids[1], terms={"quantity": "nonsense"})
    at.worker[KEEPS].desk.cancels.carry_out()
    statuses = [kept.status for kept in at.kept(KEEPS)]
    assert statuses == [BrokerStatus.CANCELED, BrokerStatus.ACCEPTED, BrokerStatus.CANCELED]
