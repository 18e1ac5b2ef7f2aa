"""Guards of a send whose outcome is unknown, each by itself: by the broker's kinds of memory for our ids."""

from __future__ import annotations

from datetime import timedelta

import pytest

from models.errors import InsufficientFunds, NotConnected
from models.record.tables import attempts
from tests.property.scenario import ANONYMOUS, BEHIND_BASELINE, DEDUPES, KEEPS, Scenario


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
    at.worker[KEEPS].desk.way.record(at.worker[KEEPS].desk.place, [(claimed, NotConnected("away", broker=KEEPS))])
    at.work(DEDUPES, id_)
    before = at.row(id_)
    at.worker[KEEPS].desk.way.record(
        at.worker[KEEPS].desk.place, [(claimed, InsufficientFunds("no money", broker=KEEPS))]
    )
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
    at.reconcile(ANONYMOUS, rounds=3)  # longer than a listing may lag
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
