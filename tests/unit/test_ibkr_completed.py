"""Which size a completed order of IB's tells, and when it is ours (docs/facts/ibkr.md#2.10)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from models.messages import OrderRequest
from models.terms import contradictions
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.listings import completed_report
from worker.brokers.ibkr.reports import OrderLine

LINE = OrderLine(
    perm_id=77, order_id=5, client_id=1, ref="s-1", account="DU1", symbol="AAPL", status="Cancelled", side=Side.BUY,
    order_type=OrderType.LIMIT, time_in_force=TimeInForce.DAY, quantity=Decimal(100), limit_price=Decimal(50),
    stop_price=None, session="1",
)  # fmt: skip


@pytest.mark.parametrize(
    ("status", "prose", "listed", "filled"),
    [
        ("Cancelled", "Cancelled by Trader", 70, 30),  # what was left
        ("Cancelled", "Cancelled by Trader", 100, 30),  # its size
        ("Cancelled", "Cancelled by System:\n", 100, 0),
        ("Filled", "Filled Size: 100", 0, 100),
        ("Filled", "Filled Size: 100", 100, 100),
    ],
)
def test_a_completed_order_is_ours_whatever_its_quantity_counts(
    status: str, prose: str, listed: int, filled: int
) -> None:
    """Recorded are 0 of filled ones and the whole of unfilled ones, so of others it may be what was left."""
    size = Decimal(listed) or None
    line = replace(LINE, status=status, completed_status=prose, quantity=size, filled=Decimal(filled))
    report = completed_report(OrderBook("ib", [].append, lambda: 0.0), line)
    ours = OrderRequest(symbol="AAPL", side="buy", quantity=100, order_type="limit", limit_price="50")
    assert contradictions(ours, report) == []
    assert (report.filled_quantity or 0) == filled


def test_a_completed_order_of_another_size_that_was_not_filled_is_another_one() -> None:
    line = replace(LINE, status="Cancelled", completed_status="Cancelled by Trader", filled=Decimal(0))
    report = completed_report(OrderBook("ib", [].append, lambda: 0.0), line)
    ours = OrderRequest(symbol="AAPL", side="buy", quantity=70, order_type="limit", limit_price="50")
    assert contradictions(ours, report) == ["quantity 100 instead of 70"]
