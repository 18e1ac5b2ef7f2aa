"""An order that was replaced inside a group at TDA or Schwab, and the one that took its place there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.reports import BrokerStatus, OrderReport
from worker.brokers.tda.groups import LISTED_WITHIN, with_legs

LONG_AGO = datetime(2026, 1, 5, 15, tzinfo=UTC)


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S+0000")


def row(number: int, status: str, kind: str = "LIMIT", *, at: datetime = LONG_AGO, **more: Any) -> dict[str, Any]:
    """Return an exit of ten KO."""
    leg = {"legId": 1, "instruction": "SELL", "quantity": 10, "instrument": {"symbol": "KO", "assetType": "EQUITY"}}
    return {
        "orderId": number, "status": status, "quantity": 10, "filledQuantity": 0, "orderType": kind,
        "session": "NORMAL", "duration": "DAY", "enteredTime": stamp(at), "orderLegCollection": [leg],
        "price": 100 + number,
    } | more  # fmt: skip


def exits(*inside: dict[str, Any]) -> dict[str, OrderReport]:
    """Return what is told of the exits of a filled entry, by their ids."""
    group = {"orderId": 17, "orderStrategyType": "OCO", "status": "WORKING", "childOrderStrategies": list(inside)}
    entry = row(1, "FILLED", "MARKET", filledQuantity=10, orderStrategyType="TRIGGER", childOrderStrategies=[group])
    (lead,) = [OrderReport(broker_order_id="1", status=BrokerStatus.FILLED)]
    return {str(leg.broker_order_id): leg for leg in with_legs(lead, entry).legs}


LATER = LONG_AGO + timedelta(hours=2)
OLD = row(2, "REPLACED", closeTime=stamp(LATER))
NEW = row(5, "WORKING", at=LATER)
STOP = row(3, "WORKING", "STOP", price=None, stopPrice=50)


def test_the_order_beside_it_that_was_entered_as_it_ended_is_told_whole() -> None:
    told = exits(OLD, STOP, NEW)
    heir = told["2"].heir
    assert (told["2"].status, told["2"].replaced_by) == (BrokerStatus.REPLACED, "5")
    assert heir is not None
    assert (heir.broker_order_id, heir.limit_price, heir.status) == ("5", Decimal(105), BrokerStatus.ACCEPTED)
    assert told["3"].heir is None


def test_where_both_exits_were_replaced_at_once_each_is_told_by_its_type() -> None:
    stop = STOP | {"status": "REPLACED", "closeTime": stamp(LATER)}
    lower = row(6, "WORKING", "STOP", at=LATER, price=None, stopPrice=45)
    told = exits(OLD, stop, NEW, lower)
    assert [(told[id_].replaced_by, told[id_].heir is not None) for id_ in "23"] == [("5", True), ("6", True)]


def test_one_that_was_replaced_twice_leads_from_each_to_the_next() -> None:
    second = NEW | {"status": "REPLACED", "closeTime": stamp(LATER + timedelta(seconds=1))}
    told = exits(OLD, STOP, second, row(8, "WORKING", at=LATER + timedelta(seconds=1)))
    assert told["5"].replaced_by == "8"


def test_two_that_may_have_taken_its_place_are_no_proof() -> None:
    told = exits(OLD, STOP, NEW, row(7, "WORKING", at=LATER))["2"]
    assert (told.status, told.replaced_by, told.heir) == (BrokerStatus.REPLACED, None, None)


def test_the_brokers_own_word_of_its_successor_counts_before_any_likeness() -> None:
    named = OLD | {"replacingOrderCollection": [{"orderId": 7}]}
    told = exits(named, STOP, NEW, row(7, "WORKING", at=LATER))["2"]
    assert (told.replaced_by, told.heir and told.heir.broker_order_id) == ("7", "7")


@pytest.mark.parametrize(
    ("ago", "status"), [(timedelta(seconds=2), BrokerStatus.UNKNOWN), (2 * LISTED_WITHIN, BrokerStatus.REPLACED)]
)
def test_while_a_listing_may_lag_nothing_is_said_of_one_whose_successor_is_not_listed(
    ago: timedelta, status: BrokerStatus
) -> None:
    old = OLD | {"closeTime": stamp(datetime.now(UTC) - ago)}
    assert exits(old, STOP)["2"].status is status
    named = old | {"replacingOrderCollection": [{"orderId": 7}]}
    assert exits(named, STOP)["2"].status is status, "named, and not in the group's listing yet"
