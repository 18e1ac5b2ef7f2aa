"""An order book of IB's messages, and one line and execution for it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from models.reports import FillReport
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.ibkr import reports
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.reports import OrderLine


# -- THE BOOK ---
def a_line(**changes: object) -> OrderLine:
    values: dict[str, object] = {
        "perm_id": 55, "order_id": 7, "client_id": 1, "ref": "r1", "account": "DU1", "symbol": "AAPL",
        "status": "PreSubmitted", "side": Side.BUY, "order_type": OrderType.MARKET,
        "time_in_force": TimeInForce.DAY, "quantity": Decimal(100), "limit_price": None, "stop_price": None,
    }  # fmt: skip
    return OrderLine(**{**values, **changes})  # type: ignore[arg-type]


def an_execution(number: int, shares: int, cumulative: int) -> reports.WireExecution:
    fill = FillReport(
        execution_id=f"e{number}",
        quantity=Decimal(shares),
        price=Decimal(10),
        filled_at=datetime(2026, 1, 5, 15, 0, tzinfo=UTC),
        broker_client_order_id="r1",
        broker_order_id="55",
        cumulative_quantity=Decimal(cumulative),
    )
    return reports.WireExecution(fill=fill, perm_id=55, order_id=7, client_id=1, account="DU1", avg_price=Decimal(10))


def a_book() -> tuple[OrderBook, list[object]]:
    told: list[object] = []
    book = OrderBook("ib", told.append, lambda: 0.0)
    book.client_id = 1
    return book, told
