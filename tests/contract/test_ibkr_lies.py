"""What IB says and takes back, through the adapter: executions corrected and withdrawn, a refusal that did not last."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from models.reports import BrokerStatus, CommissionReport, FillReport, OrderReport, Report
from tests.contract.tws_doors import TwsDoors, a_ref, an_order, found, gateway, place
from tests.kit.waiting import eventually

__all__ = ["gateway"]


def told_of(gateway: TwsDoors, kind: str, **options: Any) -> list[Report]:
    broker, told = gateway.broker(), list[Report]()
    broker.updates(told.append)
    gateway.fault(kind, **options)
    place(broker, "m1", an_order())
    return told


def executions(told: list[Report]) -> list[FillReport]:
    return [report for report in told if isinstance(report, FillReport)]


def test_a_corrected_price_comes_under_the_same_id_with_a_higher_revision(gateway: TwsDoors) -> None:
    told = told_of(gateway, "trade_correct", price="12.34", seconds=0.2)
    first, second = eventually(lambda: some if len(some := executions(told)) == 2 else None)
    assert (first.execution_id, first.revision, second.revision) == (second.execution_id, 1, 2)
    assert (second.quantity, second.price) == (10, Decimal("12.34"))
    eventually(lambda: len([r for r in told if isinstance(r, CommissionReport)]) == 2)
    after = found(gateway.brokers[0], "m1", an_order())
    assert after is not None
    assert after.avg_fill_price == Decimal("12.34")


def test_an_execution_that_is_withdrawn_comes_without_shares_and_is_listed_so(gateway: TwsDoors) -> None:
    told = told_of(gateway, "trade_bust", seconds=0.2)
    first, second = eventually(lambda: some if len(some := executions(told)) == 2 else None)
    assert (second.execution_id, second.revision, second.busted) == (first.execution_id, 2, True)
    later = gateway.broker(client_id=7)  # one that has heard nothing of it
    (listed,) = later.get_fills(first.filled_at)
    assert (listed.execution_id, listed.revision, listed.busted) == (first.execution_id, 2, True)


def test_an_order_that_was_refused_after_acceptance_and_lives_again_is_told_so(gateway: TwsDoors) -> None:
    told = told_of(gateway, "revive", after=0.2, seconds=0.6)
    reports = [BrokerStatus.REJECTED, BrokerStatus.FILLED]
    seen = lambda: [r.status for r in told if isinstance(r, OrderReport)]  # noqa: E731
    eventually(lambda: [status for status in seen() if status in reports] == reports)
    assert [fill.quantity for fill in executions(told)] == [10]


def test_acceptance_and_refusal_in_one_burst_are_no_refusal(gateway: TwsDoors) -> None:
    """Held back by the door, then told at once: its sender was not answered before, and the order is still there."""
    gateway.fault("slow", operation="place", seconds=0.5)
    told = told_of(gateway, "revive", after=0.1, seconds=60)  # would raise if that were a refusal
    assert [r for r in told if isinstance(r, OrderReport) and r.status is BrokerStatus.REJECTED] == []
    after = found(gateway.brokers[0], "m1", an_order())
    assert after is not None
    assert after.status is BrokerStatus.REJECTED  # as the next reading tells it


def test_an_order_that_was_refused_after_acceptance_can_be_canceled(gateway: TwsDoors) -> None:
    told = told_of(gateway, "revive", after=0.2, seconds=60)
    refused = eventually(lambda: [r for r in told if isinstance(r, OrderReport) and r.status is BrokerStatus.REJECTED])
    assert refused[0].code == "201"
    gateway.brokers[0].cancel_order(a_ref("m1", an_order(), refused[0].broker_order_id))
    eventually(lambda: told[-1].status is BrokerStatus.CANCELED)  # type: ignore[union-attr]
    assert not executions(told)
