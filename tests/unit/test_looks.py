"""Looking for unknown attempts over a real database: what a look may conclude when, and what is kept of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from models.errors import BrokerError
from models.record.database import Database
from models.record.evidence import unresolved
from models.record.tables import attempts
from models.reports import Ambiguous, BrokerStatus, Missing, OrderReport, Sighting
from models.settings import Settings
from models.vocabulary import ID_TAKEN
from tests.unit.look_scene import LookScene


@pytest.fixture
def scene(database: Database, settings: Settings) -> LookScene:
    return LookScene(database, settings)


def later(scene: LookScene, seconds: float) -> datetime:
    scene.at += timedelta(seconds=seconds)
    return scene.at


def test_a_look_that_was_slept_over_proves_nothing_of_the_time_after_it(scene: LookScene) -> None:
    """The age that counts is the one at which the broker was asked, not the one at which it was written down."""
    later(scene, 2)
    scene.look()
    scene.paper.while_looking = lambda: later(scene, 60) and None
    scene.look()
    assert (scene.attempt["outcome"], scene.attempt["missing"]) == ("unknown", 2)
    scene.paper.while_looking = lambda: None
    scene.look()
    assert scene.attempt["outcome"] == "absent"


def test_a_person_sees_what_was_sent_what_was_asked_and_what_came_back(scene: LookScene) -> None:
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
    assert row["answers"]["error"]["words"] == "HTTP 503"
    assert [c["broker_order_id"] for c in row["answers"]["ambiguous"]["candidates"]] == ["7", "8"]
    assert row["latest"].startswith("ambiguous")
    assert scene.attempt["outcome"] == "unknown"


def test_an_id_that_is_taken_is_never_absent_however_often_no_order_is_shown(scene: LookScene) -> None:
    """Alpaca: "client_order_id must be unique", then 404 by that id: one of them is not so, and a person decides."""
    with scene.database.write() as connection:
        connection.execute(update(attempts).values(code=ID_TAKEN))
    for _ in range(5):
        later(scene, 60)
        scene.look()
    assert (scene.attempt["outcome"], scene.attempt["missing"]) == ("unknown", 5)
    (row,) = unresolved(scene.database, 10.0)
    assert row["code"] == ID_TAKEN
