"""A replace that came to nothing by its broker's word, though the broker shows the old order as replaced."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from models.errors import AccessLost, BrokerError, OrderRejected
from models.reports import Ambiguous, BrokerStatus, Found, Missing, OrderReport, Sighting
from tests.unit.test_succession import Contest, contest, shown
from tests.unit.words import Put
from worker.brokers.base import AbsenceRule
from worker.orders.absence import after_replaced, conclude
from worker.orders.succession import REPLACED_AFTER_ALL

__all__ = ["contest"]
D = Decimal
REFUSED = OrderRejected("alpaca: HTTP 422: odd", broker="alpaca")
LOOKED = OrderRejected("looked for, and not there", broker="alpaca", code=REPLACED_AFTER_ALL)


def asked_for_51(contest: Contest, put: Put, answer: BrokerError) -> None:
    """A resting order at 50, and a replace to 51 that its broker denied."""
    ours: dict[str, Any] = {"broker_order_id": "b1", "order_type": "limit", "limit_price": D(50)}
    put(status="accepted", broker="alpaca", **ours, attempt={"outcome": "accepted", "broker_order_id": "b1"})
    contest.attempt(2, replaces=1, terms={"limit_price": "51"})
    contest.answered(2, answer)
    assert contest.order["attempt_no"] == 1


@pytest.mark.parametrize("heir", ["b2", None])
@pytest.mark.parametrize(
    "answer", [REFUSED, AccessLost("HTTP 401", broker="alpaca", code="401")], ids=["refused", "401"]
)
def test_what_took_the_place_of_our_order_is_looked_for_before_it_is_called_anothers(
    contest: Contest, put: Put, answer: BrokerError, heir: str | None
) -> None:
    """PUT or PATCH answered 400, 422 or 401, and a live order with the very terms that it asked for is there."""
    asked_for_51(contest, put, answer)
    contest.told(shown(1, BrokerStatus.REPLACED, replaced_by=heir), infer=True)
    assert (contest.row(2)["outcome"], contest.row(2)["code"]) == ("unknown", REPLACED_AFTER_ALL)
    assert contest.order["status"] == "accepted"
    assert "replaced_outside" not in contest.kinds
    contest.answered(2, shown(2, BrokerStatus.ACCEPTED, limit_price=D(51)))
    assert (contest.order["attempt_no"], contest.order["limit_price"], contest.order["status"]) == (2, 51, "accepted")
    assert contest.order["broker_order_id"] == "b2"


def test_a_replace_that_was_looked_for_and_is_not_there_leaves_the_order_to_whoever_replaced_it(
    contest: Contest, put: Put
) -> None:
    asked_for_51(contest, put, REFUSED)
    for answer in (None, LOOKED):
        if answer is not None:
            contest.answered(2, answer)
        contest.told(shown(1, BrokerStatus.REPLACED, replaced_by="b9"), infer=True)
    assert (contest.order["status"], contest.kinds[-1]) == ("canceled", "replaced_outside")
    assert contest.row(2)["outcome"] == "refused"


@pytest.mark.parametrize("heir", ["b3", None])
def test_a_rejection_that_is_overheard_while_it_is_looked_for_ends_it_once(
    contest: Contest, put: Put, heir: str | None
) -> None:
    """201 or 200, then rejected; an older replace that came to nothing is no question any more."""
    asked_for_51(contest, put, REFUSED)
    contest.attempt(3, replaces=1, terms={"limit_price": "52"})
    contest.answered(3, OrderRejected("no", broker="alpaca", broker_order_id="b3"))
    replaced = shown(1, BrokerStatus.REPLACED, replaced_by=heir)
    contest.told(replaced, infer=True)
    contest.told(shown(3, BrokerStatus.REJECTED, limit_price=D(52), filled_quantity=D(0)), replaced)
    assert [contest.row(number)["outcome"] for number in (2, 3)] == ["refused", "refused"]
    assert contest.order["status"] == "rejected"


def test_of_several_replaces_that_came_to_nothing_one_is_looked_for_at_a_time(contest: Contest, put: Put) -> None:
    asked_for_51(contest, put, REFUSED)
    contest.attempt(3, replaces=1, terms={"limit_price": "52"})
    contest.answered(3, REFUSED)
    contest.told(shown(1, BrokerStatus.REPLACED), infer=True)
    assert [contest.row(number)["outcome"] for number in (2, 3)] == ["refused", "unknown"]
    contest.answered(3, LOOKED)
    contest.told(shown(1, BrokerStatus.REPLACED), infer=True)
    assert [contest.row(number)["outcome"] for number in (2, 3)] == ["unknown", "refused"]


# -- WHAT MAY BE CONCLUDED ---
NEVER = AbsenceRule(min_age_s=7, sightings=2, possible=False)
MISSING = Missing(evidence="none has these terms")


def found(status: BrokerStatus, filled: int = 0) -> Found:
    return Found(report=OrderReport(broker_order_id="7", status=status, filled_quantity=D(filled)))


@pytest.mark.parametrize(
    ("sighting", "missing", "age", "expected"),
    [
        (found(BrokerStatus.ACCEPTED), 0, 9.0, "adopt"),
        (found(BrokerStatus.ACCEPTED), 0, 1.0, "wait"),
        (found(BrokerStatus.REJECTED), 0, 9.0, "refused"),
        (found(BrokerStatus.REJECTED, filled=3), 0, 9.0, "adopt"),
        (MISSING, 1, 9.0, "wait"),
        (MISSING, 2, 6.0, "wait"),
        (MISSING, 2, 9.0, "refused"),
        (Ambiguous(candidates=()), 9, 99.0, "wait"),
        (None, 9, 99.0, "wait"),
    ],
)
def test_a_look_ends_it_only_with_an_order_or_with_complete_listings_that_have_none(
    sighting: Sighting | None, missing: int, age: float, expected: str
) -> None:
    verdict = conclude(NEVER, sighting, missing=missing, age_s=age, sender_done=True, by_terms=True)
    assert after_replaced(NEVER, verdict, sighting, missing, age) == expected
