"""The tasks: their names are the contract, their bodies hand over to the engine.

None of them raises for a bad message: what is wrong with an order is written on the order.
"""

from __future__ import annotations

from typing import Any

import structlog

from producers.bell import RING
from worker.celery import app
from worker.steps import engine

log = structlog.get_logger()
_LONGEST_ID = 64


@app.task(name="orders.submit", bind=True)
def submit(self: Any, orders: Any) -> None:
    """Execute a batch of order objects."""
    recorded = bool((self.request.headers or {}).get(RING))
    engine().patiently(lambda: engine().execution.submit(orders, recorded=recorded))


@app.task(name="orders.cancel")
def cancel(client_order_ids: Any) -> None:
    """Cancel orders by their ids."""
    ids = _ids(client_order_ids)
    engine().patiently(lambda: engine().cancel(ids))


@app.task(name="orders.replace")
def replace(client_order_ids: Any) -> None:
    """Carry out replaces. The new terms are on the rows: a copy of this message, or a late one, changes nothing."""
    ids = _ids(client_order_ids)
    engine().patiently(lambda: engine().replace(ids))


def _ids(given: Any) -> list[str]:
    """Return what may be ids of orders: a database would refuse anything else, and the whole message with it."""
    texts = [str(i) for i in (given if isinstance(given, list) else [given])]
    ids = [text for text in texts if text.isprintable() and 0 < len(text) <= _LONGEST_ID]
    if len(ids) < len(texts):
        log.warning("not_an_id", found=[text[:_LONGEST_ID] for text in texts if text not in ids])
    return ids


def _data_task(kind: str) -> None:
    @app.task(name=f"data.{kind}")
    def fetch(fetch_id: str, **request: Any) -> None:
        engine().patiently(lambda: engine().fetcher.take(kind, fetch_id, request))


for _kind in ("quote", "bars", "account", "positions", "orders"):
    _data_task(_kind)
