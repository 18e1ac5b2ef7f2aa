"""Whose an execution is, and what a total of nothing is worth: an id of ours alone books no shares."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from models.reports import BrokerStatus, FillReport, OrderReport
from models.vocabulary import OrderType, Side
from tests.unit.fills import GUESS, Record, execution, total
from tests.unit.test_succession import Contest, contest, shown
from tests.unit.words import NOW, Put
from worker.brokers.tda.reports import order_report, status_of

__all__ = ["contest"]
D = Decimal
FILLED, UNKNOWN = BrokerStatus.FILLED, BrokerStatus.UNKNOWN


def stranger(quantity: str = "500", **more: Any) -> tuple[FillReport, OrderReport]:
    """An event of Alpaca's stream: an execution, and its order, under our client_order_id and another broker's id."""
    ids = {"broker_order_id": "b9", "broker_client_order_id": "o-1", "symbol": "AAPL", "side": Side.BUY}
    told = FillReport(execution_id="e9", quantity=D(quantity), price=D(100), filled_at=NOW, **ids, **more)  # type: ignore[arg-type]
    return told, OrderReport(status=FILLED, quantity=D(quantity), filled_quantity=D(quantity), **ids)  # type: ignore[arg-type]


# -- WHOSE ---
@pytest.mark.parametrize("together", [True, False])
def test_an_execution_under_our_id_of_another_order_on_other_terms_is_not_booked(
    contest: Contest, put: Put, together: bool
) -> None:
    """Alpaca's stream: 500 of our 10; our own order goes on, and is not canceled as a stray."""
    put(
        status="accepted",
        broker="alpaca",
        broker_order_id="b1",
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )
    for batch in [stranger()] if together else [(report,) for report in stranger()]:
        assert contest.told(*batch).unmatched == list(batch)
    assert (contest.order["status"], contest.order["filled_quantity"]) == ("accepted", 0)
    after = contest.told(shown(1, BrokerStatus.ACCEPTED, quantity=D(10)), infer=True)
    assert not after.strays
    assert contest.order["broker_order_id"] == "b1"


@pytest.mark.parametrize("outcome", ["sending", "unknown"])
def test_before_our_order_is_known_an_execution_needs_an_order_on_our_terms(
    contest: Contest, put: Put, outcome: str
) -> None:
    put(broker="alpaca", attempt={"outcome": outcome})
    contest.told(*stranger())
    assert (contest.order["status"], contest.order["filled_quantity"], contest.row(1)["outcome"]) == (
        "submitted", 0, outcome,
    )  # fmt: skip
    contest.told(*stranger("10"))
    assert (contest.order["status"], contest.order["filled_quantity"]) == ("filled", 10)
    assert contest.order["broker_order_id"] == "b9"


def test_an_execution_of_our_order_is_booked_by_the_brokers_id_alone(contest: Contest, put: Put) -> None:
    put(status="accepted", broker="alpaca", attempt={"outcome": "accepted", "broker_order_id": "b9"})
    activity = replace(stranger("10")[0], broker_client_order_id=None)
    assert not contest.told(activity).unmatched
    assert contest.order["status"] == "filled"


def test_a_second_order_that_a_change_in_place_may_have_left_trades_for_ours(contest: Contest, put: Put) -> None:
    put(
        status="accepted", broker="alpaca", order_type=OrderType.LIMIT, limit_price=D(50),
        attempt={"outcome": "accepted", "broker_order_id": "b1"},
    )  # fmt: skip
    contest.attempt(2, replaces=1, terms={"limit_price": "51"}, broker_client_order_id="o-1", outcome="unknown")
    contest.told(stranger("10")[0])
    assert contest.order["filled_quantity"] == 10


# -- A TOTAL OF NOTHING ---
@pytest.mark.parametrize("read", [True, False])
def test_filled_with_a_told_total_of_nothing_is_no_fill(record: Record, read: bool) -> None:
    (record.read if read else record.pushed)(total(0))
    assert (record.order["status"], record.order["filled_quantity"]) == ("accepted", 0)
    assert record.standing == []
    (record.read if read else record.pushed)(total(10))
    assert (record.order["status"], record.standing) == ("filled", [(GUESS, 10, None)])


def test_filled_without_a_told_total_counts_the_whole_order(record: Record) -> None:
    record.read(total(None))
    assert (record.order["status"], record.standing) == ("filled", [(GUESS, 10, None)])


def test_a_told_total_of_nothing_takes_no_execution_back(record: Record) -> None:
    record.pushed(execution("a", 4, 50))
    record.read(total(0))
    assert (record.order["status"], record.standing) == ("partially_filled", [("a", 4, 50)])


def test_schwab_s_filled_with_nothing_is_read_again() -> None:
    leg = {"instrument": {"assetType": "EQUITY", "symbol": "AAPL"}, "instruction": "BUY", "quantity": 10}
    raw: dict[str, Any] = {"orderId": 1, "status": "FILLED", "quantity": 10.0, "orderLegCollection": [leg]}
    raw |= {"filledQuantity": 0.0, "enteredTime": "2026-01-05T14:30:00+0000"}
    assert (status_of(raw), order_report(raw).status) == (UNKNOWN, UNKNOWN)
    one = {"quantity": 10.0, "price": 50.0, "time": "2026-01-05T14:30:01+0000", "legId": 1}
    done = {"orderActivityCollection": [{"activityType": "EXECUTION", "activityId": 5, "executionLegs": [one]}]}
    assert status_of(raw | done) is FILLED
    assert status_of(raw | {"filledQuantity": 10.0}) is FILLED
