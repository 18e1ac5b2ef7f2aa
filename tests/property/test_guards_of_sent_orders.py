"""Guards of what was sent, each by itself: strays, fills, positions, replaces, bells and late refusals."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from models.errors import NotConnected
from models.messages import utcnow
from models.record.tables import attempts, orders
from models.reports import BrokerStatus, FillReport
from tests.property.scenario import DEDUPES, KEEPS, Scenario
from worker.orders.routing import Absent


# -- STRAYS, FILLS, POSITIONS ---
def test_an_attempt_that_was_given_up_and_lives_is_canceled(at: Scenario) -> None:
    """Somebody's word that the broker does not have it was wrong."""
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    at.send(KEEPS, claimed, meets="drop_taken")
    at.worker[KEEPS].desk.way.record(at.worker[KEEPS].desk.place, [(claimed, Absent("says somebody", broker=KEEPS))])
    assert at.row(id_)["broker"] == DEDUPES
    (kept,) = at.kept(KEEPS)
    at.worker[KEEPS].apply([at.world.ledgers[KEEPS].report(kept)])
    assert kept.status is BrokerStatus.CANCELED
    assert "stray" in at.kinds(id_)


def test_nothing_is_sent_while_an_attempt_that_was_given_up_lives(at: Scenario) -> None:
    """Its cancel is on its way, and may come too late: with the next attempt there would be two."""
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    at.send(KEEPS, claimed, meets="drop_taken")
    at.worker[KEEPS].desk.way.record(at.worker[KEEPS].desk.place, [(claimed, Absent("says somebody", broker=KEEPS))])
    with at.world.database.write() as connection:
        connection.execute(update(attempts).values(stray_at=utcnow()))
    at.work(DEDUPES, id_)
    assert at.at_brokers() == [KEEPS]
    assert (at.status(id_), at.row(id_)["reason"]) == (
        "queued", f"attempt 1 at {KEEPS} was given up and lives: it is canceled first",
    )  # fmt: skip
    with at.world.database.write() as connection:
        connection.execute(update(attempts).values(stray_at=None))
        connection.execute(update(orders).values(available_at=utcnow()))
    at.work(DEDUPES, id_)
    assert sorted(at.at_brokers()) == sorted([KEEPS, DEDUPES])


def test_a_fill_of_an_attempt_that_was_given_up_stops_the_next_one(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    at.send(KEEPS, claimed, meets="drop_taken")
    at.worker[KEEPS].desk.way.record(at.worker[KEEPS].desk.place, [(claimed, Absent("says somebody", broker=KEEPS))])
    (kept,) = at.kept(KEEPS)
    at.world.ledgers[KEEPS].fill(kept, at.row(id_)["quantity"] / 2)
    # The execution alone, of an order that its broker has named: what is pushed after it shows the order as well.
    executions = [report for _, report in at.world.pushed if isinstance(report, FillReport)]
    with at.world.database.write() as connection:
        named = attempts.c.attempt_no == claimed.attempt_no
        connection.execute(update(attempts).where(named).values(broker_order_id=executions[0].broker_order_id))
    at.worker[KEEPS].apply(executions)
    at.work(DEDUPES, id_)
    assert at.at_brokers() == [KEEPS]
    assert kept.status is BrokerStatus.CANCELED
    assert at.row(id_)["filled_quantity"] == 5


@pytest.mark.parametrize(("held", "moves"), [(0, False), (9, False), (10, True)])
def test_a_sell_falls_back_only_to_where_the_position_is(at: Scenario, held: int, moves: bool) -> None:
    at.holds(KEEPS, 10)
    at.holds(DEDUPES, held)
    id_ = at.order(KEEPS, DEDUPES, side="sell")
    at.work(KEEPS, id_, meets="refuse")
    assert (at.row(id_)["broker"] == DEDUPES) == moves
    assert at.status(id_) == ("queued" if moves else "rejected")


def test_a_position_that_another_sell_will_use_is_not_there(at: Scenario) -> None:
    at.holds(KEEPS, 10)
    at.holds(DEDUPES, 15)
    at.work(DEDUPES, at.order(DEDUPES, side="sell"))
    id_ = at.order(KEEPS, DEDUPES, side="sell")
    at.work(KEEPS, id_, meets="refuse")
    assert at.status(id_) == "rejected"


def test_an_old_reading_of_positions_sends_no_sell(at: Scenario) -> None:
    at.holds(KEEPS, 50)
    at.world.pass_time(200)
    at.world.ledgers[KEEPS].held["KO"] -= 45  # somebody else has sold them
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    assert (at.at_brokers(), at.status(id_)) == ([], "queued")
    assert "ibkr holds 5 KO, our books say 50" in at.row(id_)["reason"]


# -- REPLACES ---
def test_a_replace_that_is_confirmed_changes_the_order(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=20)
    at.replace(KEEPS)
    assert at.row(id_)["quantity"] == at.kept(KEEPS)[0].ticket.order.quantity == 20


@pytest.mark.parametrize(("answer", "quantity"), [("hang_lost", 10), ("drop_taken", 20)])
def test_a_replace_that_is_not_confirmed_keeps_the_terms(at: Scenario, answer: str, quantity: int) -> None:
    """Until the broker shows what stands; in place, the order is there in any case."""
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=20)
    at.replace(KEEPS, meets=answer)
    assert at.row(id_)["quantity"] == 10
    at.reconcile(KEEPS)
    assert at.row(id_)["quantity"] == at.kept(KEEPS)[0].ticket.order.quantity == quantity


def test_a_report_while_a_replace_is_unknown_is_about_the_old_order(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=20)
    at.replace(KEEPS, meets="hang_lost")
    at.worker[KEEPS].apply([at.world.ledgers[KEEPS].report(at.kept(KEEPS)[0])])
    assert at.row(id_)["quantity"] == 10
    assert at.row(id_)["attempt_no"] == 1


def test_a_second_replace_waits_for_the_first(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    for quantity in (20, 30):
        at.wish(id_, quantity=quantity)
        at.replace(KEEPS, meets="hang_lost")
    assert at.tries(id_) == [(KEEPS, "accepted"), (KEEPS, "unknown")]
    at.reconcile(KEEPS)
    at.replace(KEEPS)
    assert at.row(id_)["quantity"] == 30


def test_a_replace_that_waited_too_long_is_not_sent(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=20)
    at.replace(KEEPS, fault="suspend")
    at.world.pass_time(9)
    at.worker[KEEPS].wake()
    assert at.kept(KEEPS)[0].ticket.order.quantity == 10
    assert at.tries(id_) == [(KEEPS, "accepted"), (KEEPS, "not_sent")]


# -- THE NEXT BROKER HEARS OF IT AFTER THE COMMIT ---
@pytest.mark.parametrize("answer", ["refuse", "not_connected"])
def test_the_bell_rings_for_what_is_committed(at: Scenario, answer: str) -> None:
    """Whoever hears the ring finds the row already his: else the message is spent and the order waits for the sweep."""
    id_ = at.order(KEEPS, DEDUPES)
    heard: list[str] = []
    ring = at.world.ring

    def listen(messages: Any) -> bool:
        heard.append(at.row(id_)["broker"])
        return ring(messages)

    at.world.ring = listen  # type: ignore[method-assign]
    at.work(KEEPS, id_, meets=answer)
    assert heard == [DEDUPES]
    assert [broker for _, broker, _ in at.world.rung] == [DEDUPES]


def test_an_order_moved_by_a_claim_is_rung_after_the_commit(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    heard: list[str] = []
    at.world.ring = lambda messages: heard.append(at.row(id_)["broker"]) or True  # type: ignore[method-assign,func-returns-value]
    at.worker[KEEPS].desk.gate.close("the connection was lost")
    at.work(KEEPS, id_)
    assert heard == [DEDUPES]


# -- A REFUSAL AFTER ACCEPTANCE ---
def reject_late(at: Scenario, id_: str) -> None:
    """The broker refuses what it had accepted, and its word arrives."""
    process = at.worker[KEEPS]
    (kept,) = at.kept(KEEPS)
    report = at.world.ledgers[KEEPS].report(kept)
    process.apply([replace(report, status=BrokerStatus.REJECTED, message="no")])


@pytest.mark.parametrize("times", [1, 2])
def test_a_refusal_after_acceptance_moves_on_only_when_the_order_is_dead(at: Scenario, times: int) -> None:
    """The broker says no, and the order works on: it is canceled, and only then sent elsewhere."""
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_)
    for _ in range(times):  # told twice it is no truer
        reject_late(at, id_)
    assert at.tries(id_) == [(KEEPS, "unknown")]
    assert at.row(id_)["broker"] == KEEPS
    at.reconcile(KEEPS, rounds=2)
    assert at.kept(KEEPS)[0].status is BrokerStatus.CANCELED
    assert at.tries(id_) == [(KEEPS, "refused")]
    at.work(DEDUPES, id_)
    assert at.tries(id_) == [(KEEPS, "refused"), (DEDUPES, "accepted")]


def test_what_was_refused_and_filled_after_all_is_not_sent_elsewhere(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_)
    reject_late(at, id_)
    at.world.ledgers[KEEPS].fill(at.kept(KEEPS)[0], at.row(id_)["quantity"])
    at.reconcile(KEEPS)
    assert (at.status(id_), at.tries(id_)) == ("filled", [(KEEPS, "accepted")])


def test_the_rest_of_what_has_traded_and_is_refused_ends_with_its_cancel(at: Scenario) -> None:
    """IB's Inactive may come alive again: its rest is canceled before anybody is told that it has ended."""
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_)
    process, ledger, (kept,) = at.worker[KEEPS], at.world.ledgers[KEEPS], at.kept(KEEPS)
    ledger.fill(kept, Decimal(4))
    executions = [report for _, report in at.world.pushed if isinstance(report, FillReport)]
    process.apply(executions)
    dormant = replace(ledger.report(kept), status=BrokerStatus.REJECTED, dormant=True)
    for _ in range(2):  # shown again and again, with what it had traded before
        process.apply([dormant, *executions])
        assert (at.status(id_), at.tries(id_)) == ("partially_filled", [(KEEPS, "unknown")])
    assert at.kinds(id_).count("unknown") == 1
    at.reconcile(KEEPS, rounds=2)
    assert kept.status is BrokerStatus.CANCELED
    assert (at.status(id_), at.row(id_)["filled_quantity"]) == ("canceled", 4)
    assert at.at_brokers() == [KEEPS]


def test_what_was_refused_and_cannot_be_canceled_stays_where_it_is(
    at: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that calls it rejected is not believed as long as the broker has not answered the cancel."""
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_)
    reject_late(at, id_)
    at.kept(KEEPS)[0].status = BrokerStatus.REJECTED

    def away(_: Any) -> None:
        raise NotConnected("away", broker=KEEPS)

    monkeypatch.setattr(at.worker[KEEPS].seat, "cancel_order", away)
    at.reconcile(KEEPS, rounds=3)
    assert at.tries(id_) == [(KEEPS, "unknown")]
