"""Every guard of the claim protocol by itself: the one situation in which only this guard stands before a second order.

tests/mutants removes the guards one by one and demands that a test here, or elsewhere, fails.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from models.errors import AccessLost, InsufficientFunds, NotConnected, Stale
from models.record.tables import attempts, orders
from models.reports import BrokerStatus, FillReport
from tests.property.scenario import Scenario
from worker.fleet.halts import resume, stop
from worker.orders.marks import Marks
from worker.orders.routing import Absent

ANONYMOUS, DEDUPES, KEEPS = "tda", "alpaca", "ibkr"
#: A send passes three points: behind the claim, before the first byte, behind the answer. A baseline adds two before.
BEHIND_BASELINE = 2


# -- THE CLAIM ---
@pytest.mark.parametrize("broker", [DEDUPES, KEEPS, ANONYMOUS])
def test_an_order_that_was_sent_is_not_claimed_again(at: Scenario, broker: str) -> None:
    id_ = at.order(broker)
    for _ in range(3):
        at.work(broker, id_)
    assert at.tries(id_) == [(broker, "accepted")]
    assert len(at.kept(broker)) == 1


def test_an_order_for_another_broker_is_not_claimed(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    at.work(DEDUPES, id_)
    assert at.tries(id_) == []
    assert at.at_brokers() == []


def test_a_message_does_not_shorten_a_pause(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_, meets="quota")
    at.work(KEEPS, id_)
    assert at.at_brokers() == []
    at.world.pass_time(3.5)
    at.work(KEEPS, id_)
    assert at.at_brokers() == [KEEPS]


def test_an_order_that_waited_too_long_is_not_sent(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.world.pass_time(61)
    at.work(KEEPS, id_)
    assert at.status(id_) == "expired"
    assert at.at_brokers() == []


def test_an_order_whose_cancel_is_wanted_is_not_sent(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.change(orders, id_, cancel_requested_at=at.world.clock.now())
    at.work(KEEPS, id_)
    assert at.status(id_) == "canceled"
    assert at.at_brokers() == []


@pytest.mark.parametrize(("scope", "kind"), [("*", "halt"), (KEEPS, "halt"), (KEEPS, "drain")])
def test_what_is_stopped_sends_nothing(at: Scenario, scope: str, kind: str) -> None:
    id_ = at.order(KEEPS)
    stop(at.world.database, scope, kind, "a test", "somebody")
    at.work(KEEPS, id_)
    assert at.at_brokers() == []
    assert at.tries(id_) == ([(KEEPS, "not_sent")] if (scope, kind) == (KEEPS, "halt") else [])
    assert at.at_brokers() == []


def test_a_closed_gate_claims_nothing(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.worker[KEEPS].is_open = False  # connected, and not reconciled yet
    at.work(KEEPS, id_)
    assert at.tries(id_) == []
    assert at.status(id_) == "queued"
    assert at.at_brokers() == []


def test_a_gate_that_closes_behind_the_claim_lets_nothing_through(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_, fault="slow")
    at.worker[KEEPS].is_open = False
    at.worker[KEEPS].wake()
    assert at.tries(id_) == [(KEEPS, "not_sent")]
    assert at.at_brokers() == []


# -- A WORKER THAT SLEEPS ---
@pytest.mark.parametrize("seconds", [7.0, 9.0])
def test_a_claim_is_good_for_so_long_and_no_longer(at: Scenario, seconds: float) -> None:
    """The sleep falls behind the claim's commit and before the worker looks at its watch again."""
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_, fault="suspend")
    at.world.pass_time(seconds)
    at.worker[KEEPS].wake()
    assert at.at_brokers() == ([KEEPS] if seconds < 8 else [])


def test_nothing_is_sent_on_an_attempt_that_somebody_else_has_settled(at: Scenario) -> None:
    id_ = at.order(ANONYMOUS)
    claimed = at.claim(ANONYMOUS, id_)
    at.change(attempts, id_, outcome="absent")
    with pytest.raises(Stale):
        Marks(at.world.database, ANONYMOUS, [claimed], 1).mark(claimed)
    at.send(ANONYMOUS, claimed)
    assert at.at_brokers() == []


# -- A WORKER THAT DIES ---
def test_what_a_dead_worker_had_sent_is_found_and_sent_no_second_time(at: Scenario) -> None:
    for broker in (KEEPS, DEDUPES, ANONYMOUS):
        id_ = at.order(broker, KEEPS if broker != KEEPS else DEDUPES)
        dying = at.world.hire(broker)
        at.do(dying, id_, fault="die", at=3 + (broker == ANONYMOUS) * BEHIND_BASELINE)  # behind the send
        assert dying.is_dead
        at.reconcile(broker, rounds=3)
        assert at.tries(id_) == [(broker, "accepted")], broker
        assert at.at_brokers().count(broker) == 1


@pytest.mark.parametrize("broker", [DEDUPES, KEEPS])
def test_what_a_dead_worker_had_not_sent_is_sent_after_all(at: Scenario, broker: str) -> None:
    id_ = at.order(broker, expires_at=at.world.clock.later(600))
    at.do(at.world.hire(broker), id_, fault="die", at=2)  # before the first byte
    at.reconcile(broker, rounds=5)
    at.world.pass_time(2)
    at.work(broker, id_)
    assert at.tries(id_) == [(broker, "absent"), (broker, "accepted")]
    assert at.at_brokers() == [broker]


def test_a_worker_that_died_before_it_marked_its_send_had_provably_sent_nothing(at: Scenario) -> None:
    id_ = at.order(ANONYMOUS, KEEPS)
    at.do(at.world.hire(ANONYMOUS), id_, fault="die", at=BEHIND_BASELINE + 1)  # behind the claim
    at.reconcile(ANONYMOUS)
    assert at.tries(id_) == [(ANONYMOUS, "not_sent")]


def test_a_worker_that_only_sleeps_may_still_send(at: Scenario) -> None:
    """Not marked as sent, and not gone either: no proof of anything."""
    id_ = at.order(ANONYMOUS, KEEPS)
    sleeper = at.world.hire(ANONYMOUS)
    at.do(sleeper, id_, fault="suspend", at=BEHIND_BASELINE + 1)
    at.reconcile(ANONYMOUS, rounds=8)
    assert at.tries(id_) == [(ANONYMOUS, "unknown")]
    sleeper.wake()  # it sees that its claim is too old, and claims anew
    assert at.tries(id_) == [(ANONYMOUS, "not_sent"), (ANONYMOUS, "accepted")]
    assert at.at_brokers() == [ANONYMOUS]


@pytest.mark.parametrize("broker", [DEDUPES, KEEPS])
def test_nobody_is_absent_while_the_sender_may_wake_up(at: Scenario, broker: str) -> None:
    """Suspended between the last look at the watch and the first byte: when it wakes up, it sends."""
    id_ = at.order(broker, ANONYMOUS)
    sleeper = at.world.hire(broker)
    at.do(sleeper, id_, fault="suspend", at=2)
    at.reconcile(broker, rounds=10)
    assert at.tries(id_) == [(broker, "unknown")]
    sleeper.wake()
    at.reconcile(broker)
    assert at.tries(id_) == [(broker, "accepted")]
    assert at.at_brokers() == [broker]


@pytest.mark.parametrize("broker", [DEDUPES, KEEPS])
def test_the_age_that_proves_absence_counts_from_the_last_byte(at: Scenario, broker: str) -> None:
    """It waited for its turn in a big batch, then its connection broke: eight seconds later the broker takes it."""
    id_ = at.order(broker, ANONYMOUS)
    at.work(broker, id_, meets="late_8", fault="slow")
    at.world.pass_time(7.5)
    at.worker[broker].wake()
    at.reconcile(broker, rounds=7, pause=1.0)
    assert at.tries(id_) == [(broker, "unknown")]
    at.reconcile(broker, pause=1.5)
    assert at.tries(id_) == [(broker, "accepted")]
    assert at.at_brokers() == [broker]


def test_readings_from_before_the_sender_was_done_prove_nothing(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    sleeper = at.world.hire(KEEPS)
    at.do(sleeper, id_, meets="late_8", fault="suspend", at=2)
    at.reconcile(KEEPS, rounds=6)
    sleeper.wake()  # its bytes leave only now
    at.reconcile(KEEPS, pause=1.0)
    assert at.tries(id_) == [(KEEPS, "unknown")]
    at.reconcile(KEEPS, rounds=3)
    assert at.tries(id_) == [(KEEPS, "accepted")]


def test_a_lease_that_has_run_out_makes_the_send_unknown(at: Scenario) -> None:
    """The worker's heart beats on, and its thread hangs behind the send."""
    id_ = at.order(KEEPS)
    hanging = at.world.hire(KEEPS)
    at.do(hanging, id_, fault="slow", at=2)
    at.reconcile(KEEPS, rounds=4)
    assert at.tries(id_) == [(KEEPS, "sending")]
    at.reconcile(KEEPS, rounds=2)
    assert at.tries(id_) == [(KEEPS, "accepted")]


# -- UNKNOWN ---
@pytest.mark.parametrize("answer", ["hang_taken", "drop_taken", "leak_taken", "hang_lost", "server_error", "late_8"])
@pytest.mark.parametrize("broker", [ANONYMOUS, DEDUPES, KEEPS])
def test_an_unknown_outcome_goes_nowhere(at: Scenario, broker: str, answer: str) -> None:
    id_ = at.order(broker, KEEPS if broker != KEEPS else DEDUPES)
    at.work(broker, id_, meets=answer)
    assert at.tries(id_) == [(broker, "unknown")]
    assert at.status(id_) == "submitted"
    assert at.world.rung == []


@pytest.mark.parametrize("broker", [ANONYMOUS, DEDUPES, KEEPS])
def test_a_failed_reading_is_not_an_empty_one(at: Scenario, broker: str) -> None:
    id_ = at.order(broker, KEEPS if broker != KEEPS else DEDUPES)
    at.work(broker, id_, meets="drop_taken")
    at.world.ledgers[broker].readings_fail = True
    at.reconcile(broker, rounds=10)
    assert at.tries(id_) == [(broker, "unknown")]


def test_where_absence_cannot_be_proven_a_missing_order_stays_unknown(at: Scenario) -> None:
    id_ = at.order(ANONYMOUS, KEEPS)
    at.work(ANONYMOUS, id_, meets="hang_lost")
    at.reconcile(ANONYMOUS, rounds=20)
    assert at.tries(id_) == [(ANONYMOUS, "unknown")]
    assert "unresolved" in at.kinds(id_)


def test_an_answer_that_comes_too_late_changes_nothing(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    at.worker[KEEPS].execution.record([(claimed, NotConnected("away", broker=KEEPS))])
    at.work(DEDUPES, id_)
    before = at.row(id_)
    at.worker[KEEPS].execution.record([(claimed, InsufficientFunds("no money", broker=KEEPS))])
    assert at.tries(id_) == [(KEEPS, "not_sent"), (DEDUPES, "accepted")]
    assert at.row(id_) == before
    assert at.kinds(id_)[-1] == "late_answer"


# -- A BROKER THAT KEEPS NO ID OF OURS ---
@pytest.mark.parametrize("answer", ["hang_taken", "hang_lost"])
def test_a_look_alike_of_an_unresolved_order_goes_elsewhere(at: Scenario, answer: str) -> None:
    first, second = at.order(ANONYMOUS), at.order(ANONYMOUS, KEEPS)
    at.work(ANONYMOUS, first, meets=answer)
    at.world.pass_time(1)  # the others are alive
    at.work(ANONYMOUS, second)
    assert at.tries(second) == [(ANONYMOUS, "not_sent")]
    assert at.row(second)["broker"] == KEEPS


def test_a_look_alike_waits_for_its_twin_that_is_on_its_way(at: Scenario) -> None:
    first, second = at.order(ANONYMOUS), at.order(ANONYMOUS, KEEPS)
    at.do(at.world.hire(ANONYMOUS), first, fault="slow", at=BEHIND_BASELINE + 1)
    assert at.tries(first) == [(ANONYMOUS, "sending")]
    at.work(ANONYMOUS, second)
    assert at.tries(second) == []
    assert at.status(second) == "queued"


def test_look_alikes_of_one_message_go_one_after_the_other(at: Scenario) -> None:
    first, second = at.order(ANONYMOUS), at.order(ANONYMOUS, KEEPS)
    at.work(ANONYMOUS, first, second, meets="drop_taken accept")
    assert at.tries(first) == [(ANONYMOUS, "unknown")]
    assert at.tries(second) == [(ANONYMOUS, "not_sent")]
    at.reconcile(ANONYMOUS, rounds=3)
    assert at.tries(first) == [(ANONYMOUS, "accepted")]


def test_what_looks_like_ours_is_not_adopted_before_ours_would_be_listed(at: Scenario) -> None:
    id_ = at.order(ANONYMOUS)
    at.work(ANONYMOUS, id_, meets="drop_taken")
    at.reconcile(ANONYMOUS, pause=1.0)
    assert at.tries(id_) == [(ANONYMOUS, "unknown")]
    at.reconcile(ANONYMOUS, rounds=3)
    assert at.tries(id_) == [(ANONYMOUS, "accepted")]


def test_without_a_baseline_nothing_is_sent(at: Scenario) -> None:
    id_ = at.order(ANONYMOUS)
    at.world.ledgers[ANONYMOUS].readings_fail = True
    at.work(ANONYMOUS, id_)
    assert at.at_brokers() == []
    assert at.status(id_) == "queued"


def test_what_was_there_before_is_not_taken_for_ours(at: Scenario) -> None:
    """Somebody else has placed the same order by hand."""
    other, id_ = at.order(ANONYMOUS), at.order(ANONYMOUS)
    at.work(ANONYMOUS, other)
    at.change(attempts, other, broker_order_id=None, broker="elsewhere")  # as far as we know, nobody's
    at.work(ANONYMOUS, id_, meets="hang_lost")
    at.reconcile(ANONYMOUS, rounds=3)
    assert at.tries(id_) == [(ANONYMOUS, "unknown")]


def test_what_is_another_order_of_ours_is_not_taken_for_this_one(at: Scenario) -> None:
    first, second = at.order(ANONYMOUS), at.order(ANONYMOUS)
    at.work(ANONYMOUS, first, meets="hang_lost")
    at.change(attempts, first, outcome="sending", lease_until=at.world.clock.later(99))  # hidden from the reconciler
    at.change(attempts, first, outcome="absent")
    at.work(ANONYMOUS, second)
    at.change(attempts, first, outcome="unknown", next_check_at=None)
    at.reconcile(ANONYMOUS)
    assert at.tries(first) == [(ANONYMOUS, "unknown")]


# -- A BROKER THAT DEDUPES BY OUR ID ---
def test_the_same_id_goes_out_again_where_the_last_try_may_still_arrive(at: Scenario) -> None:
    id_ = at.order(DEDUPES)
    at.work(DEDUPES, id_, meets="hang_lost")
    at.reconcile(DEDUPES, rounds=3)
    at.world.pass_time(1)
    at.work(DEDUPES, id_)
    assert at.tries(id_) == [(DEDUPES, "absent"), (DEDUPES, "accepted")]
    assert len({row["broker_client_order_id"] for row in at.world.rows(attempts)}) == 1


def held_up(at: Scenario, by: float, *route: str) -> str:
    """An order that listings have missed by the rules, while its bytes are on their way for longer than those allow."""
    id_, ledger = at.order(*route), at.world.ledgers[DEDUPES]
    at.work(DEDUPES, id_, meets="late_8")
    ledger.on_the_way = [(due + timedelta(seconds=by), ticket) for due, ticket in ledger.on_the_way]
    at.reconcile(DEDUPES, rounds=5)
    assert at.tries(id_) == [(DEDUPES, "absent")]
    return id_


def test_what_is_refused_after_listings_missed_it_is_looked_for_before_it_goes_on(at: Scenario) -> None:
    """The money for which the second send is refused may be what the first one holds."""
    id_ = held_up(at, 25, DEDUPES, KEEPS)
    at.work(DEDUPES, id_, meets="refuse")
    assert at.tries(id_) == [(DEDUPES, "absent"), (DEDUPES, "unknown")]
    at.reconcile(DEDUPES, rounds=5)
    assert at.tries(id_) == [(DEDUPES, "absent"), (DEDUPES, "accepted")]
    assert (at.row(id_)["broker"], at.at_brokers()) == (DEDUPES, [DEDUPES])


def test_what_is_refused_and_missed_once_more_goes_on(at: Scenario) -> None:
    id_ = held_up(at, 9000, DEDUPES, KEEPS)
    at.work(DEDUPES, id_, meets="refuse")
    at.reconcile(DEDUPES, rounds=5)
    assert at.tries(id_) == [(DEDUPES, "absent"), (DEDUPES, "refused")]
    assert (at.row(id_)["broker"], at.row(id_)["status"]) == (KEEPS, "queued")


def test_what_listings_missed_keeps_its_id_through_a_429(at: Scenario) -> None:
    id_ = held_up(at, 35, DEDUPES, KEEPS)
    at.work(DEDUPES, id_, meets="rate_limit")
    assert at.row(id_)["broker"] == DEDUPES
    at.world.pass_time(15)
    at.work(DEDUPES, id_)
    assert at.tries(id_) == [(DEDUPES, "absent"), (DEDUPES, "refused"), (DEDUPES, "accepted")]
    assert at.at_brokers() == [DEDUPES]


def test_another_try_has_another_id_where_nothing_is_deduped(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_, meets="rate_limit")
    at.world.pass_time(3)
    at.work(KEEPS, id_)
    assert [row["broker_client_order_id"] for row in at.world.rows(attempts)] == [id_, f"{id_}~2"]


# -- STRAYS, FILLS, POSITIONS ---
def test_an_attempt_that_was_given_up_and_lives_is_canceled(at: Scenario) -> None:
    """Somebody's word that the broker does not have it was wrong."""
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    at.send(KEEPS, claimed, meets="drop_taken")
    at.worker[KEEPS].execution.record([(claimed, Absent("says somebody", broker=KEEPS))])
    assert at.row(id_)["broker"] == DEDUPES
    (kept,) = at.kept(KEEPS)
    at.worker[KEEPS].apply([at.world.ledgers[KEEPS].report(kept)])
    assert kept.status is BrokerStatus.CANCELED
    assert "stray" in at.kinds(id_)


def test_a_fill_of_an_attempt_that_was_given_up_stops_the_next_one(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    at.send(KEEPS, claimed, meets="drop_taken")
    at.worker[KEEPS].execution.record([(claimed, Absent("says somebody", broker=KEEPS))])
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
    at.worker[KEEPS].is_open = False
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


# -- THE BRAKE ---
def test_a_halt_behind_the_claim_stops_what_has_not_left_and_nothing_trades_at_resume(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    stop(at.world.database, "*", "halt", "a test", "somebody")
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
        stop(at.world.database, "*", "halt", "a test", "somebody")
        at.world.clock.advance(0.3)
        return place(ticket)

    process.seat.place_order = in_turn  # type: ignore[method-assign]
    at.send(KEEPS, claimed)
    assert at.at_brokers() == []
    assert at.row(id_)["reason_code"] == "halted"


def test_a_halted_broker_sends_an_order_on_and_the_first_code_ends_it(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    claimed = at.claim(KEEPS, id_)
    stop(at.world.database, KEEPS, "halt", "a test", "somebody")
    at.send(KEEPS, claimed)
    assert (at.status(id_), at.row(id_)["broker"]) == ("queued", DEDUPES)
    stop(at.world.database, DEDUPES, "halt", "a test", "somebody")
    at.work(DEDUPES, id_)
    assert at.tries(id_) == [(KEEPS, "not_sent"), (DEDUPES, "not_sent")]
    assert (at.status(id_), at.row(id_)["reason_code"]) == ("denied", "halted")
    assert at.at_brokers() == []


def test_under_a_halt_a_replace_that_grows_is_refused_and_one_that_lessens_passes(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    stop(at.world.database, "*", "halt", "a test", "somebody")
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
        stop(at.world.database, "*", "halt", "a test", "somebody")
        at.world.clock.advance(0.3)
        return replace(*given)

    process.seat.replace_order = halted_meanwhile  # type: ignore[method-assign]
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == 10
    assert (at.row(id_)["quantity"], at.row(id_)["replace_request"]) == (10, None)


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
    seat, cancels = at.worker[KEEPS].seat, at.worker[KEEPS].cancels
    cancel = seat.cancel_order

    def breaks(ref: Any) -> None:
        if ref.order.client_order_id == ids[0]:
            raise ValueError("what an adapter should not let out")
        cancel(ref)

    monkeypatch.setattr(seat, "cancel_order", breaks)
    at.worker[KEEPS].execution.request_cancel(ids)
    cancels.send(ids)
    at.worker[KEEPS].reconciler.read(everything=True)
    assert [at.status(id_) for id_ in ids] == ["accepted", "canceled", "canceled"]
    assert "cancel_unknown" in at.kinds(ids[0])


def test_one_row_that_cannot_be_read_holds_up_no_cancel(at: Scenario) -> None:
    ids = [at.order(KEEPS, limit_price=50 + n, order_type="limit") for n in range(3)]
    at.work(KEEPS, *ids)
    at.worker[KEEPS].execution.request_cancel(ids)
    at.change(attempts, ids[1], terms={"quantity": "nonsense"})
    at.worker[KEEPS].cancels.send()
    statuses = [kept.status for kept in at.kept(KEEPS)]
    assert statuses == [BrokerStatus.CANCELED, BrokerStatus.ACCEPTED, BrokerStatus.CANCELED]


# -- WHO HEALS ---
def test_orders_of_a_broker_without_a_living_worker_move_on(at: Scenario) -> None:
    id_ = at.order(KEEPS, DEDUPES)
    at.worker[DEDUPES].leader.stranded()
    at.world.pass_time(6)
    at.worker[DEDUPES].leader.stranded()
    assert at.row(id_)["broker"] == KEEPS, "its worker lives"
    at.worker[KEEPS].die()
    at.world.pass_time(11)
    at.worker[DEDUPES].leader.stranded()
    assert at.row(id_)["broker"] == DEDUPES


def test_the_sweep_finds_what_the_queue_lost(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.worker[KEEPS].leader.sweep()
    assert at.at_brokers() == [], "its message may still come"
    at.world.pass_time(2.5)
    at.worker[KEEPS].leader.sweep()
    assert at.tries(id_) == [(KEEPS, "accepted")]


def test_an_update_that_was_missed_is_read(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.world.ledgers[KEEPS].fill(at.kept(KEEPS)[0], at.row(id_)["quantity"])
    at.world.pushed.clear()
    at.worker[KEEPS].reconciler.open_orders()
    assert at.status(id_) == "filled"


def test_a_database_that_was_away_costs_no_second_order(at: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an order may be sent is asked of the database: no answer, no send."""
    from models.errors import DatabaseUnavailable

    id_ = at.order(ANONYMOUS, KEEPS)

    def away(*_: Any) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(Marks, "mark", away)
    at.work(ANONYMOUS, id_)
    assert at.at_brokers() == []
    assert at.tries(id_) == [(ANONYMOUS, "not_sent")]


def test_the_gate_opens_after_everything_missed_was_read(at: Scenario) -> None:
    from worker.connection import Supervisor

    process, seen = at.worker[KEEPS], []
    supervisor = Supervisor(
        process.seat, at.world.settings.timing, lambda: seen.append(supervisor.is_open()), lambda *_: None
    )
    supervisor.look()
    assert (seen, supervisor.is_open()) == ([False], True)


def test_the_gate_stays_closed_when_what_was_missed_cannot_be_read(at: Scenario) -> None:
    from worker.connection import Supervisor

    def fails() -> None:
        raise NotConnected("cut off again", broker=KEEPS)

    supervisor = Supervisor(at.worker[KEEPS].seat, at.world.settings.timing, fails, lambda *_: None)
    supervisor.look()
    assert not supervisor.is_open()
    assert "cut off" in str(supervisor.why_closed())


def test_a_broker_that_refuses_us_closes_the_gate_at_once_and_is_connected_anew(
    at: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.connection import Supervisor

    process, seat = at.worker[KEEPS], at.worker[KEEPS].seat
    supervisor = Supervisor(seat, at.world.settings.timing, lambda: None, lambda *_: None)
    supervisor.look()
    process.execution.claims.closed = supervisor.why_closed
    process.execution.lost = supervisor.lost
    first, second = at.order(KEEPS), at.order(KEEPS)
    calls = []

    def refuses(ticket: Any) -> Any:
        calls.append("place")
        raise AccessLost(f"{KEEPS}: 401 the keys were revoked", broker=KEEPS)

    monkeypatch.setattr(seat, "place_order", refuses)
    monkeypatch.setattr(seat, "disconnect", lambda: calls.append("disconnect"))
    at.work(KEEPS, first)
    assert "keys were revoked" in str(supervisor.why_closed())
    at.work(KEEPS, second)
    assert calls == ["place"]  # the second order met the closed gate
    assert at.tries(first) == [(KEEPS, "not_sent")]
    supervisor.look()
    assert calls == ["place", "disconnect"]
    assert supervisor.is_open()


def test_an_order_is_listed_as_old_by_its_own_clock(at: Scenario) -> None:
    """An expiry that the strategy named is kept."""
    id_ = at.order(KEEPS, expires_at=at.world.clock.now() + timedelta(seconds=5))
    at.world.pass_time(5)
    at.work(KEEPS, id_)
    assert at.status(id_) == "expired"
