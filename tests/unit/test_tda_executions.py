"""Executions of an order at TDA and Schwab keep their ids from listing to listing, whatever an activity leaves out."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest

from worker.brokers.tda.reports import order_report

LEG = {"legId": 1, "instruction": "BUY", "quantity": 10, "instrument": {"symbol": "KO", "assetType": "EQUITY"}}
ORDER: dict[str, Any] = {
    "orderId": 7, "status": "WORKING", "quantity": 10, "filledQuantity": 7, "orderType": "MARKET", "duration": "DAY",
    "session": "NORMAL", "enteredTime": "2026-01-05T15:00:00+0000", "orderLegCollection": [LEG],
}  # fmt: skip


def activity(quantity: int, price: float, second: int = 0, left: int | None = 0, number: object = None) -> Any:
    part = {"legId": 1, "quantity": quantity, "price": price, "time": f"2026-01-05T15:00:0{second}+0000"}
    row = {"activityType": "EXECUTION", "executionType": "FILL", "quantity": quantity, "executionLegs": [part]}
    return row | {"orderRemainingQuantity": left} | ({} if number is None else {"activityId": number})


def told(*activities: Any) -> dict[str, tuple[Decimal, Decimal | None]]:
    report = order_report(ORDER | {"orderActivityCollection": list(activities)})
    found = {fill.execution_id: (fill.quantity, fill.price) for fill in report.fills}
    assert len(found) == len(report.fills)
    return found


@pytest.mark.parametrize("second", [0, 1])
def test_executions_without_a_number_that_left_the_same_are_told_apart_in_every_listing(second: int) -> None:
    """Schwab's specification has no activityId, and its example of what remains is 0."""
    rows = [activity(4, 50.0), activity(2, 51.0, second), activity(1, 52.0, second)]
    listings = [told(*order) for order in itertools.permutations(rows)]
    assert all(found == listings[0] for found in listings)
    assert sorted(listings[0].values()) == [(1, 52), (2, 51), (4, 50)]


def test_what_comes_later_takes_no_id_from_what_was_there() -> None:
    before = told(activity(4, 50.0))
    assert before.items() <= told(activity(4, 50.0), activity(3, 51.0, 1)).items()


def test_one_execution_that_is_listed_twice_is_one() -> None:
    assert list(told(activity(4, 50.0), activity(4, 50.0)).values()) == [(4, 50)]
    for number in (9, "9-A"):
        assert list(told(activity(4, 50.0, number=number), activity(4, 49.0, 1, number=number)).values()) == [(4, 49)]
