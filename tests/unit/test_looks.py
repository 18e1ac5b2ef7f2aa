"""Looking for unknown attempts over a real database: what a look may conclude when, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from models.errors import BrokerError
from models.record.database import Database
from models.record.evidence import unresolved
from models.record.tables import attempts, orders
from models.reports import Ambiguous, BrokerStatus, Missing, OrderReport, Sighting
from models.settings import Settings
from tests.open_desk import open_desk
from worker.brokers.base import AbsenceRule, Capabilities
from worker.fleet.members import Identity, Pulse
from worker.orders import reconcile as module
from worker.runtime.clock import utcnow


class Paper:
    """As much of a broker as looking for orders asks."""

    name = "alpaca"
    capabilities = Capabilities(absence=AbsenceRule(min_age_s=10, sightings=2))

    def __init__(self) -> None:
        self.answer: Sighting | BrokerError = Missing(evidence="read everything")
        self.while_looking: Callable[[], None] = lambda: None

    def find_orders(self, refs: Any) -> list[Sighting]:
        self.while_looking()
        if isinstance(self.answer, BrokerError):
            raise self.answer
        return [self.answer for _ in refs]


class Scene:
    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.paper, self.at = database, Paper(), utcnow()
        me = Identity("alpaca")
        Pulse(database, me, settings.timing).beat()
        self.reconciler = open_desk(settings, database, self.paper, me).reconciler
        with database.write() as connection:
            connection.execute(
                insert(orders).values(
                    client_order_id="o1", symbol="KO", side="buy", quantity=3, order_type="limit", limit_price=60,
                    time_in_force="day", status="submitted", broker="alpaca", route=["alpaca"], body_hash="x",
                    available_at=self.at, created_at=self.at, updated_at=self.at, attempt_no=1,
                )
            )  # fmt: skip
            connection.execute(
                insert(attempts).values(
                    client_order_id="o1", attempt_no=1, broker="alpaca", broker_client_order_id="o1", outcome="unknown",
                    worker="w", started_at=self.at, sent_at=self.at, ended_at=self.at, lease_until=self.at,
                    message="no answer within 10 s", code="504",
                )
            )  # fmt: skip

    def look(self) -> None:
        self.reconciler.unknown(everything=True)

    @property
    def attempt(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(attempts)).mappings().one()


@pytest.fixture
def scene(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(database, settings)
    monkeypatch.setattr(module, "utcnow", lambda: made.at)
    return made


def later(scene: Scene, seconds: float) -> datetime:
    scene.at += timedelta(seconds=seconds)
    return scene.at


def test_a_look_that_was_slept_over_proves_nothing_of_the_time_after_it(scene: Scene) -> None:
    """The age that counts is the one at which the broker was asked, not the one at which it was written down."""
    later(scene, 2)
    scene.look()
    scene.paper.while_looking = lambda: later(scene, 60) and None
    scene.look()
    assert (scene.attempt["outcome"], scene.attempt["missing"]) == ("unknown", 2)
    scene.paper.while_looking = lambda: None
    scene.look()
    assert scene.attempt["outcome"] == "absent"


def test_a_person_sees_what_was_sent_what_was_asked_and_what_came_back(scene: Scene) -> None:
    candidates = tuple(
        OrderReport(broker_order_id=str(n), status=BrokerStatus.ACCEPTED, symbol="KO", quantity=None) for n in (7, 8)
    )
    answers: list[Sighting | BrokerError] = [
        Missing(evidence="read everything"),
        BrokerError("HTTP 503"),
        Ambiguous(candidates=candidates),
    ]
    for answer in answers:
        later(scene, 1)
        scene.paper.answer = answer
        scene.look()
    (row,) = unresolved(scene.database, 10.0)
    assert (row["client_order_id"], row["broker"], row["code"]) == ("o1", "alpaca", "504")
    sent = row["sent"]
    assert (sent["side"], sent["quantity"], sent["symbol"], sent["limit_price"]) == ("buy", 3, "KO", 60)
    assert (sent["broker_client_order_id"], sent["worker"]) == ("o1", "w")
    assert (row["asked"]["times"], row["asked"]["query"]) == (3, "by the id we gave it")
    assert row["asked"]["next_at"] is not None
    assert set(row["answers"]) == {"missing", "error", "ambiguous"}
    assert row["answers"]["error"]["words"] == "BrokerError: HTTP 503"
    assert [c["broker_order_id"] for c in row["answers"]["ambiguous"]["candidates"]] == ["7", "8"]
    assert row["latest"].startswith("ambiguous")
    assert scene.attempt["outcome"] == "unknown"
