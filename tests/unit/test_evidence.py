"""What is kept of looking for an unknown order: everything a person needs, and never more than so much."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

from models.errors import BrokerError
from models.record.evidence import fold, latest
from models.reports import Ambiguous, BrokerStatus, Found, Missing, OrderReport
from tests.unit.words import NOW


def seen(number: int) -> OrderReport:
    return OrderReport(
        broker_order_id=str(number),
        status=BrokerStatus.ACCEPTED,
        symbol="KO",
        quantity=Decimal("1.50"),
        submitted_at=NOW,
    )


def test_answers_are_counted_by_kind_and_the_last_of_each_is_kept() -> None:
    evidence = None
    answers = [
        Missing(evidence="read everything"),
        BrokerError("HTTP 503"),
        Missing(evidence="read everything again"),
        Ambiguous(candidates=(seen(1), seen(2))),
    ]
    for n, answer in enumerate(answers):
        evidence = fold(evidence, answer, NOW + timedelta(seconds=n), "by its terms")
    assert evidence is not None
    assert json.loads(json.dumps(evidence)) == evidence
    assert (evidence["times"], evidence["query"]) == (4, "by its terms")
    assert (evidence["first_at"], evidence["last_at"]) == ("2026-01-05T14:30:00Z", "2026-01-05T14:30:03Z")
    told = evidence["answers"]
    assert (told["missing"]["times"], told["missing"]["words"]) == (2, "read everything again")
    assert told["error"] == {"times": 1, "at": "2026-01-05T14:30:01Z", "words": "HTTP 503"}
    assert [c["broker_order_id"] for c in told["ambiguous"]["candidates"]] == ["1", "2"]
    assert told["ambiguous"]["candidates"][0]["quantity"] == "1.5"
    assert latest(evidence) == "ambiguous (1 times): 2 orders at the broker could be it: 1, 2"


def test_the_evidence_does_not_grow_with_the_looking() -> None:
    evidence = None
    many = Ambiguous(candidates=tuple(seen(n) for n in range(500)))
    for answer in (many, Missing(evidence="x" * 9999), BrokerError("y" * 9999), Found(report=seen(1))):
        for _ in range(50):
            evidence = fold(evidence, answer, NOW, "by its terms")
    assert evidence is not None
    assert evidence["times"] == 200
    assert len(json.dumps(evidence)) < 8000


def test_nothing_asked_yet_is_said_so() -> None:
    assert latest(None) == "not asked yet"
