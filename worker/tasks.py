"""The tasks: their names are the contract, their bodies hand over to the engine.

None of them raises for a bad message: what is wrong with an order is written on the order.
"""

from __future__ import annotations

from typing import Any

from producers.bell import RING
from worker.celery import app
from worker.steps import engine


@app.task(name="orders.submit", bind=True)
def submit(self: Any, orders: Any) -> None:
    """Execute a batch of order objects."""
    recorded = bool((self.request.headers or {}).get(RING))
    engine().patiently(lambda: engine().execution.submit(orders, recorded=recorded))


@app.task(name="orders.cancel")
def cancel(client_order_ids: Any) -> None:
    """Cancel orders by their ids."""
    ids = [str(i) for i in _ids(client_order_ids)]
    engine().patiently(lambda: engine().cancel(ids))


@app.task(name="orders.replace")
def replace(client_order_ids: Any) -> None:
    """Carry out replaces. The new terms are on the rows: a copy of this message, or a late one, changes nothing."""
    ids = [str(i) for i in _ids(client_order_ids)]
    engine().patiently(lambda: engine().replace(ids))


def _ids(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _data_task(kind: str) -> None:
    @app.task(name=f"data.{kind}")
    def fetch(fetch_id: str, **request: Any) -> None:
        engine().patiently(lambda: engine().fetcher.take(kind, fetch_id, request))


for _kind in ("quote", "bars", "account", "positions", "orders"):
    _data_task(_kind)
