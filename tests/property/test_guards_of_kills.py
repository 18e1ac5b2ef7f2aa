"""Guards of a kill, each by itself: what it cancels, what it closes, and that it goes on without its command."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from models.errors import ServerError
from models.messages import OrderRequest
from models.record.controls import in_force
from models.record.database import Database
from models.record.tables import orders
from models.reports import BrokerStatus
from tests.property.scenario import DEDUPES, KEEPS, Scenario
from tests.property.simulation import SimulatedWorker
from worker.brokers.base import Ticket
from worker.control.controls import resume, stop
from worker.control.kill import begin
from worker.control.scopes import Scope

EVERYTHING = Scope()


def kill(at: Scenario, scope: Scope = EVERYTHING, **asked: Any) -> list[str]:
    """What the command does, once: returns the ids whose cancel it wished."""
    database, about = at.world.database, {"by": "ana", "reason": "runaway"}
    begun = begin(database, scope, kill=asked, **about)  # type: ignore[arg-type]
    return [entry.id for entry in begun.wished]


def lead(process: SimulatedWorker, rounds: int = 8, *, sweeps: bool = True) -> None:
    """Have a leader do its regular work for some seconds, without one message."""
    for _ in range(rounds):
        process.world.pass_time(1)
        if not process.can_work:
            return
        process.desk.kills.wish()
        process.desk.cancels.carry_out()
        process.leader.heal()
        if sweeps:
            process.leader.sweep()


def done(database: Database) -> list[str]:
    with database.read() as connection:
        return [name for row in in_force(connection) for name in (row["kill"] or {}).get("done", [])]


def live(at: Scenario, broker: str = KEEPS) -> list[str]:
    return [kept.owner for kept in at.kept(broker) if kept.is_live]


def limit(at: Scenario, *route: str, **more: Any) -> str:
    return at.order(*route, order_type="limit", limit_price=50, **more)


def test_a_kill_cancels_what_is_live_and_what_waits_and_stops_what_has_not_left(at: Scenario) -> None:
    resting, waiting, claimed_id = limit(at, KEEPS), limit(at, KEEPS), limit(at, KEEPS)
    at.work(KEEPS, resting)
    claimed = at.claim(KEEPS, claimed_id)
    assert sorted(kill(at)) == sorted([resting, waiting, claimed_id])
    at.send(KEEPS, claimed)
    lead(at.worker[KEEPS])
    assert live(at) == []
    assert [at.status(id_) for id_ in (resting, waiting)] == ["canceled", "canceled"]
    assert at.status(claimed_id) in ("denied", "canceled")
    assert done(at.world.database) == [KEEPS]
    assert at.tries(waiting) == []


def test_an_order_that_went_past_the_kill_is_found_and_canceled(at: Scenario) -> None:
    id_ = limit(at, KEEPS)
    at.work(KEEPS, id_)
    kill(at)
    at.change(orders, id_, cancel_requested_at=None)  # as if its row had been written behind the command's look
    lead(at.worker[KEEPS])
    assert (at.status(id_), live(at)) == ("canceled", [])


def test_an_unknown_order_is_waited_for_and_canceled_as_soon_as_it_is_found(at: Scenario) -> None:
    id_ = limit(at, KEEPS)
    at.work(KEEPS, id_, meets="late_8")
    kill(at)
    lead(at.worker[KEEPS], 3)
    assert done(at.world.database) == [], "nobody knows yet"
    lead(at.worker[KEEPS], 20)
    assert (at.status(id_), live(at), done(at.world.database)) == ("canceled", [], [KEEPS])


def test_a_kill_of_a_strategy_leaves_the_others_alone(at: Scenario) -> None:
    mine, other = limit(at, KEEPS, strategy="dip"), limit(at, KEEPS, strategy="trend")
    at.work(KEEPS, mine, other)
    assert kill(at, Scope.of(strategy="dip")) == [mine]
    lead(at.worker[KEEPS])
    assert [at.status(id_) for id_ in (mine, other)] == ["canceled", "accepted"]
    fresh = limit(at, KEEPS, strategy="trend")
    at.work(KEEPS, fresh)
    assert at.status(fresh) == "accepted"


def test_a_broker_that_cannot_be_read_is_not_done(at: Scenario) -> None:
    kill(at)
    at.world.ledgers[KEEPS].readings_fail = True
    for _ in range(3):
        at.world.pass_time(2)
        with pytest.raises(ServerError, match="failed half-way"):
            lead(at.worker[KEEPS], 1)
    assert done(at.world.database) == []
    at.world.ledgers[KEEPS].readings_fail = False
    lead(at.worker[KEEPS])
    assert done(at.world.database) == [KEEPS]


def test_what_corro_did_not_send_is_left_alone_unless_asked_for(at: Scenario) -> None:
    request = OrderRequest(symbol="KO", side="buy", quantity=1, order_type="limit", limit_price=1)
    theirs = Ticket(order=request, broker_client_order_id="by-hand", deadline_s=1.0, still_mine=lambda: None)
    at.world.ledgers[KEEPS].take(theirs)
    at.worker[KEEPS].desk.readings.read()
    kill(at)
    lead(at.worker[KEEPS])
    assert len(live(at)) == 1
    assert done(at.world.database) == [KEEPS]
    kill(at, external=True)
    lead(at.worker[KEEPS])
    assert live(at) == []
    assert done(at.world.database) == [KEEPS]


# -- FLATTEN ---
def bought(at: Scenario, broker: str = KEEPS, **shares: int) -> None:
    """Have strategies buy shares."""
    for strategy, quantity in shares.items():
        at.work(broker, at.order(broker, quantity=quantity, strategy=strategy), meets="fill")
    process = at.worker[broker]
    process.desk.readings.read()
    process.desk.positions.read()


def closings(at: Scenario) -> list[tuple[str, str, Decimal]]:
    found = [row for row in at.world.rows(orders) if row["client_order_id"].startswith("flatten-")]
    return sorted((row["strategy"], row["side"], row["quantity"]) for row in found)


def test_positions_are_closed_in_the_name_of_the_strategies_that_hold_them(at: Scenario) -> None:
    at.holds(KEEPS, 3)  # from before: nobody's
    bought(at, dip=5, trend=7)
    resting = limit(at, KEEPS, strategy="dip")
    at.work(KEEPS, resting)
    kill(at, flatten=True)
    at.world.ledgers[KEEPS].answers = ["fill", "fill"]
    lead(at.worker[KEEPS], 12)
    assert at.status(resting) == "canceled"
    assert closings(at) == [("dip", "sell", 5), ("trend", "sell", 7)]
    assert at.world.ledgers[KEEPS].held["KO"] == 3
    assert done(at.world.database) == [KEEPS]
    opens = at.order(KEEPS)
    at.work(KEEPS, opens)
    assert at.row(opens)["reason_code"] == "reducing"


def test_what_somebody_else_has_halted_is_closed_as_soon_as_that_is_resumed(at: Scenario) -> None:
    """A kill of everything behind a limit that has tripped one strategy: no closing order is spent on its halt."""
    bought(at, dip=5, trend=7)
    tripped = Scope.of(strategy="dip")
    stop(at.world.database, tripped, "halt", "too many alike", "corro")
    kill(at, flatten=True)
    at.world.ledgers[KEEPS].answers = ["fill", "fill"]
    lead(at.worker[KEEPS], 40)
    assert closings(at) == [("trend", "sell", 7)]
    with at.world.database.read() as connection:
        (waits,) = [row["kill"]["troubles"] for row in in_force(connection) if row["kill"]]
    assert "halted (strategy dip): too many alike (by corro); `corro resume --strategy dip --by" in waits[KEEPS]
    resume(at.world.database, tripped, by="ben")
    lead(at.worker[KEEPS], 6)  # at once, however long it had waited
    assert closings(at) == [("dip", "sell", 5), ("trend", "sell", 7)]
    assert (at.world.ledgers[KEEPS].held["KO"], done(at.world.database)) == (0, [KEEPS])


def test_nothing_is_closed_before_the_broker_shows_nothing_live(at: Scenario) -> None:
    bought(at, dip=5)
    unknown = limit(at, KEEPS)
    at.work(KEEPS, unknown, meets="late_8")
    kill(at, flatten=True)
    lead(at.worker[KEEPS], 3)
    assert closings(at) == []


@pytest.mark.parametrize(("seconds", "orders_in_all"), [(20, 1), (90, 2)])  # the first is too old to be sent by then
def test_a_leader_that_dies_behind_its_closing_orders_has_a_successor_that_closes_nothing_twice(
    at: Scenario, seconds: float, orders_in_all: int
) -> None:
    bought(at, dip=5)
    kill(at, flatten=True)
    first = at.worker[KEEPS]
    submit = first.desk.kills._submit

    def dies(requests: Any) -> None:
        submit(requests)
        first.die()
        raise RuntimeError("the process is gone")

    first.desk.kills._submit = dies  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        lead(first, 12)
    assert done(at.world.database) == []
    at.world.pass_time(seconds)
    second = at.world.hire(KEEPS)
    at.world.ledgers[KEEPS].answers = ["fill"]
    lead(second, 4, sweeps=False)  # its closing orders are recorded before the first of them is claimed
    lead(second, 16)
    assert closings(at) == [("dip", "sell", 5)] * orders_in_all
    assert at.world.ledgers[KEEPS].held["KO"] == 0
    assert done(at.world.database) == [KEEPS]


def test_an_order_that_only_bears_the_name_of_a_closing_order_is_killed(at: Scenario) -> None:
    with at.world.database.read() as connection:
        before = max((row["generation"] for row in in_force(connection)), default=0)
    names = [f"flatten-{before + no}-mine" for no in range(1, 4)]
    for name in names:
        terms: dict[str, Any] = {"order_type": "limit", "limit_price": 50, "created_at": at.world.clock.now()}
        at.world.submit(OrderRequest(client_order_id=name, symbol="KO", side="buy", quantity=1, route=[KEEPS], **terms))
        at.work(KEEPS, name)
    kill(at)
    lead(at.worker[KEEPS], 12)
    assert {at.status(name) for name in names} == {"canceled"}
    assert live(at) == []


def test_a_resume_ends_what_the_leaders_do(at: Scenario) -> None:
    kill(at)
    resume(at.world.database, Scope(), by="ben")
    id_ = limit(at, KEEPS)
    at.work(KEEPS, id_)
    lead(at.worker[KEEPS])
    assert at.status(id_) == "accepted"


def test_one_broker_that_is_away_holds_up_no_other(at: Scenario) -> None:
    here, there = limit(at, KEEPS), limit(at, DEDUPES)
    at.work(KEEPS, here)
    at.work(DEDUPES, there)
    at.worker[DEDUPES].die()
    kill(at)
    lead(at.worker[KEEPS])
    assert (at.status(here), at.status(there)) == ("canceled", "accepted")
    assert done(at.world.database) == [KEEPS]
    assert at.row(there)["cancel_requested_at"] is not None
    assert at.kept(DEDUPES)[0].status is BrokerStatus.ACCEPTED
