"""What may be concluded about an unknown attempt: the table of worker/orders/reconcile.py, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reports import Ambiguous, BrokerStatus, Found, Missing, OrderReport, Sighting
from worker.brokers.base import AbsenceRule
from worker.orders.absence import conclude

RULE = AbsenceRule(min_age_s=10, sightings=2)
NEVER = AbsenceRule(min_age_s=0, sightings=0, possible=False)
REPORT = OrderReport(broker_order_id="7", status=BrokerStatus.ACCEPTED)
FOUND, MISSING = Found(report=REPORT), Missing(evidence="open, closed and executions")
SEVERAL = Ambiguous(candidates=(REPORT, REPORT))

#: sighting, sender done, complete readings that missed it, age -> conclusion
TABLE = [
    (FOUND, False, 0, 0.0, "adopt"),
    (FOUND, True, 5, 99.0, "adopt"),
    (MISSING, False, 99, 9999.0, "wait"),
    (MISSING, True, 1, 99.0, "wait"),
    (MISSING, True, 2, 9.9, "wait"),
    (MISSING, True, 2, 10.0, "absent"),
    (MISSING, True, 3, 99.0, "absent"),
    (SEVERAL, True, 99, 9999.0, "wait"),
    (SEVERAL, False, 0, 0.0, "wait"),
    (None, True, 99, 9999.0, "wait"),
    (None, False, 0, 0.0, "wait"),
]


@pytest.mark.parametrize(("sighting", "done", "missing", "age", "expected"), TABLE)
def test_row(sighting: Sighting | None, done: bool, missing: int, age: float, expected: str) -> None:
    assert conclude(RULE, sighting, missing=missing, age_s=age, sender_done=done) == expected


@pytest.mark.parametrize("status", list(BrokerStatus))
def test_an_order_that_is_shown_is_adopted_in_whatever_state(status: BrokerStatus) -> None:
    shown = Found(report=OrderReport(broker_order_id="7", status=status))
    assert conclude(NEVER, shown, missing=0, age_s=0.0, sender_done=False) == "adopt"


@pytest.mark.parametrize(("age", "expected"), [(0.0, "wait"), (9.9, "wait"), (10.0, "adopt")])
def test_an_order_found_by_its_terms_alone_is_adopted_once_ours_would_be_listed_as_well(
    age: float, expected: str
) -> None:
    """What a listing shows first may be somebody else's equal order, and ours may be about to follow."""
    assert conclude(RULE, FOUND, missing=0, age_s=age, sender_done=True, by_terms=True) == expected


_SIGHTINGS = st.sampled_from([FOUND, MISSING, SEVERAL, None])


@given(_SIGHTINGS, st.integers(0, 100), st.floats(0, 1e6), st.booleans(), st.booleans())
def test_absence_needs_all_its_proofs(
    sighting: Sighting | None, missing: int, age: float, done: bool, possible: bool
) -> None:
    rule = AbsenceRule(min_age_s=10, sightings=2, possible=possible)
    verdict = conclude(rule, sighting, missing=missing, age_s=age, sender_done=done)
    proven = isinstance(sighting, Missing) and possible and done and missing >= 2 and age >= 10
    assert (verdict == "absent") == proven
    assert (verdict == "adopt") == isinstance(sighting, Found)


@given(_SIGHTINGS, st.integers(0, 100), st.floats(0, 1e6))
def test_where_absence_cannot_be_proven_nothing_but_the_order_itself_ends_the_wait(
    sighting: Sighting | None, missing: int, age: float
) -> None:
    verdict = conclude(NEVER, sighting, missing=missing, age_s=age, sender_done=True)
    assert verdict == ("adopt" if isinstance(sighting, Found) else "wait")
