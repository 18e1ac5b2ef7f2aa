"""Guards of those who heal, each by itself: sweep, readings of what was missed, and the gate while they are due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from models.errors import AccessLost, NotConnected
from tests.property.scenario import ANONYMOUS, DEDUPES, KEEPS, Scenario
from worker.orders.marks import Marks


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
    at.worker[KEEPS].desk.readings.open_orders()
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
    gate = process.desk.gate
    gate.close("the connection was lost")
    Supervisor(
        process.seat, at.world.settings.timing, gate, lambda: seen.append(gate.is_open()), lambda *_: None
    ).look()
    assert (seen, gate.is_open()) == ([False], True)


def test_the_gate_stays_closed_when_what_was_missed_cannot_be_read(at: Scenario) -> None:
    from worker.connection import Supervisor

    def fails() -> None:
        raise NotConnected("cut off again", broker=KEEPS)

    gate = at.worker[KEEPS].desk.gate
    supervisor = Supervisor(at.worker[KEEPS].seat, at.world.settings.timing, gate, fails, lambda *_: None)
    supervisor.look()
    assert not gate.is_open()
    assert "cut off" in str(gate.why_closed())


def test_a_broker_that_refuses_us_closes_the_gate_at_once_and_is_connected_anew(
    at: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.connection import Supervisor

    process, seat = at.worker[KEEPS], at.worker[KEEPS].seat
    gate = process.desk.gate
    supervisor = Supervisor(seat, at.world.settings.timing, gate, lambda: None, lambda *_: None)
    supervisor.look()
    first, second = at.order(KEEPS), at.order(KEEPS)
    calls = []

    def refuses(ticket: Any) -> Any:
        calls.append("place")
        raise AccessLost(f"{KEEPS}: 401 the keys were revoked", broker=KEEPS)

    monkeypatch.setattr(seat, "place_order", refuses)
    monkeypatch.setattr(seat, "disconnect", lambda: calls.append("disconnect"))
    at.work(KEEPS, first)
    assert "keys were revoked" in str(gate.why_closed())
    at.work(KEEPS, second)
    assert calls == ["place"]  # the second order met the closed gate
    assert at.tries(first) == [(KEEPS, "not_sent")]
    at.world.clock.advance(60)  # it had been open for long
    supervisor.look()
    assert calls == ["place", "disconnect"]
    assert gate.is_open()


def test_an_order_is_listed_as_old_by_its_own_clock(at: Scenario) -> None:
    """An expiry that the strategy named is kept."""
    id_ = at.order(KEEPS, expires_at=at.world.clock.now() + timedelta(seconds=5))
    at.world.pass_time(5)
    at.work(KEEPS, id_)
    assert at.status(id_) == "expired"
