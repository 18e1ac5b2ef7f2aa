"""corro's own producer, driven like the peers': a strategy that builds a request and submits it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import common
from null_call import Commits, NullMarks
from sqlalchemy import event
from sqlalchemy.engine import Engine

from models import crash_points
from producers import OrderClient, OrderRequest

_client = OrderClient()
event.listen(Engine, "commit", Commits(common.CONFIG["stamps"]).add)
if common.CONFIG["marks"]:
    crash_points._armed_points = NullMarks(common.CONFIG["stamps"])  # type: ignore[assignment]


def new_order() -> OrderRequest:
    """The order that everybody sends; it may wait in the queue for as long as a measurement lasts."""
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    return OrderRequest(
        symbol="AAPL",
        side="buy",
        quantity=10,
        order_type="limit",
        limit_price="1.00",
        strategy="bench",
        expires_at=expires_at,
    )


def identity(order: OrderRequest) -> str:
    return order.client_order_id


def enqueue(order: OrderRequest) -> None:
    _client.submit(order)


def cancel(client_order_id: str) -> None:
    _client.cancel(client_order_id)


def replace(client_order_id: str) -> None:
    _client.replace(client_order_id, quantity=9)


def enqueue_and_wait(order: OrderRequest) -> None:
    _client.submit(order).wait(30)


def enqueue_many(orders: list[OrderRequest]) -> None:
    _client.submit_many(orders)
