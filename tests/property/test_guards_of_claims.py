"""Guards of the claim, each in the one situation in which only this one stands before a second order.

Also: a worker that sleeps between claim and send, and a worker that dies there. tests/mutants removes the guards one by
one and demands that a test in one of these files, or elsewhere, fails.
"""

from __future__ import annotations

import pytest

from models.errors import Stale
from models.record.tables import attempts, orders
from tests.property.scenario import ANONYMOUS, BEHIND_BASELINE, DEDUPES, KEEPS, Scenario
from worker.control.controls import stop
from worker.control.scopes import Scope
from worker.orders.marks import Marks


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


EVERYTHING, HERE = Scope(), Scope("broker", KEEPS)


@pytest.mark.parametrize(
    ("scope", "kind"),
    [(EVERYTHING, "halt"), (EVERYTHING, "reduce"), (HERE, "halt"), (HERE, "reduce"), (HERE, "drain"),
     (Scope("symbol", "KO"), "halt")],
)  # fmt: skip
def test_what_is_stopped_sends_nothing(at: Scenario, scope: Scope, kind: str) -> None:
    id_ = at.order(KEEPS)
    stop(at.world.database, scope, kind, "a test", "somebody")
    at.work(KEEPS, id_)
    assert at.at_brokers() == []
    assert at.tries(id_) == ([(KEEPS, "not_sent")] if scope == HERE and kind != "drain" else [])
    assert at.at_brokers() == []


def test_a_closed_gate_claims_nothing(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.worker[KEEPS].desk.gate.close("the connection was lost")  # connected, and not reconciled yet
    at.work(KEEPS, id_)
    assert at.tries(id_) == []
    assert at.status(id_) == "queued"
    assert at.at_brokers() == []


def test_a_gate_that_closes_behind_the_claim_lets_nothing_through(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_, fault="slow")
    at.worker[KEEPS].desk.gate.close("the connection was lost")
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
