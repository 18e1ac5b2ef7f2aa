"""A broker that trades real money is not used before its orders are limited in size and in value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from models.messages import utcnow
from models.record.database import Database
from models.record.limits import put_limit, take_limits
from models.risk.names import BrokerLimits, Limit, RiskSettings
from models.settings import BrokerSettings, Settings, load_settings
from worker.brokers.fake import FakeBroker
from worker.checks.steps import CheckState
from worker.checks.system import System, system_lane
from worker.connection import Supervisor
from worker.gate import Gate
from worker.risk.live import objection


def live(settings: Settings, **risk: Any) -> Settings:
    tables = {"fake": BrokerSettings(adapter="fake", live=True), "paper": BrokerSettings(adapter="fake")}
    return load_settings(home=settings.home, brokers=tables, risk=RiskSettings(**risk))


def put(database: Database, name: str, kind: str = "*", scope: str = "*") -> None:
    with database.write() as connection:
        put_limit(connection, Limit(kind, scope, name, Decimal(5), set_by="ann"), "a test", utcnow())


@pytest.mark.parametrize(
    ("risk", "missing"),
    [
        ({}, "no max_quantity and no max_value"),
        ({"max_quantity": 5}, "no max_value"),
        ({"max_quantity": 5, "max_value": 5}, None),
        ({"max_quantity": 5, "broker": {"fake": BrokerLimits(max_value=Decimal(5))}}, None),
        ({"max_quantity": 5, "broker": {"paper": BrokerLimits(max_value=Decimal(5))}}, "no max_value"),
        ({"strategy": {"dip": {"max_quantity": 5, "max_value": 5}}}, "no max_quantity and no max_value"),
        ({"broker": {"fake": BrokerLimits(unlimited=True)}}, None),
    ],
)
def test_both_limits_have_to_hold_for_every_order_there(
    database: Database, settings: Settings, risk: dict[str, Any], missing: str | None
) -> None:
    why = objection(live(settings, **risk), database, "fake")
    assert (why is None) == (missing is None)
    assert (missing or "") in (why or "")
    assert objection(live(settings, **risk), database, "paper") is None


def test_a_limit_that_somebody_has_set_will_do(database: Database, settings: Settings) -> None:
    put(database, "max_value", "broker", "fake")
    put(database, "max_quantity")
    assert objection(live(settings), database, "fake") is None


def test_its_worker_stands_disconnected_with_the_reason_until_they_are_there(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, told = FakeBroker(), list[tuple[str, str]]()
    gate, mine = Gate(database, broker), live(settings)
    supervisor = Supervisor(
        broker,
        mine.timing,
        gate,
        lambda: None,
        lambda *said: told.append(said),
        lambda: objection(mine, database, "fake"),
    )
    supervisor.look()
    assert not gate.is_open()
    assert not broker.is_connected()
    assert told[-1][0] == "disconnected"
    assert "fake trades real money and has no max_quantity and no max_value" in told[-1][1]
    for name in ("max_quantity", "max_value"):
        put(database, name)
    monkeypatch.setattr(supervisor, "_next_try", 0.0)
    supervisor.look()
    assert gate.is_open()
    with database.write() as connection:
        take_limits(connection, [("*", "*", "max_value")])
    monkeypatch.setattr(supervisor, "_asked_at", 0.0)
    supervisor.look()
    assert not gate.is_open()
    assert "has no max_value" in str(gate.why_closed())


def test_check_names_what_is_missing_and_says_nothing_of_paper_brokers(database: Database, settings: Settings) -> None:
    lane = system_lane(live(settings), ["fake", "paper"], 5.0)
    lane.context = System(live(settings), 5.0, database)
    (step,) = [step for step in lane.steps if step.name == "limits"]
    verdict = step.look(lane.context)
    assert (step.broker, verdict.state) == ("fake", CheckState.FAIL)
    assert "no max_quantity and no max_value" in verdict.words
