"""The tasks: their names are the contract, their bodies hand over to the engine.

None of them raises for a bad message: what is wrong with an order is written on the order, and a message that no task
can work on is set aside.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import structlog
from celery.exceptions import Reject

from models.errors import NotRecorded
from producers.bell import RING, envelope
from worker.celery import app
from worker.dead_letters import DeadLetters
from worker.steps import engine

log = structlog.get_logger()
_LONGEST_ID = 64


@app.task(name="orders.submit", bind=True, shared=False)
def submit(self: Any, orders: Any) -> None:
    """Execute a batch of order objects."""
    recorded = bool((self.request.headers or {}).get(RING))
    _do(self, lambda: engine().execution.submit(orders, recorded=recorded))


@app.task(name="orders.cancel", bind=True, shared=False)
def cancel(self: Any, client_order_ids: Any) -> None:
    """Cancel orders by their ids."""
    ids = _ids(client_order_ids)
    _do(self, lambda: engine().cancel(ids))


@app.task(name="orders.replace", bind=True, shared=False)
def replace(self: Any, client_order_ids: Any) -> None:
    """Carry out replaces. The new terms are on the rows: a copy of this message, or a late one, changes nothing."""
    ids = _ids(client_order_ids)
    _do(self, lambda: engine().replace(ids))


def _do(task: Any, work: Callable[[], None]) -> None:
    """Do what a message asks; one that makes the work fail is kept for a person, because nobody else has it."""
    try:
        engine().patiently(work)
    except Reject:
        raise
    except Exception as error:
        request, foreign = task.request, isinstance(error, NotRecorded)
        if not foreign:
            log.exception("task_failed", task=task.name, id=request.id)
        queue = str((request.delivery_info or {}).get("routing_key", ""))
        given = dict(request.kwargs or {}) | ({"args": list(request.args)} if request.args else {})
        with closing(DeadLetters.of(engine().settings)) as letters:
            reason = "not_recorded" if foreign else "task_failed"
            letters.put(queue, envelope(task.name, queue, given), reason, f"{type(error).__name__}: {error}")


def _ids(given: Any) -> list[str]:
    """Return what may be ids of orders: a database would refuse anything else, and the whole message with it."""
    texts = [str(i) for i in (given if isinstance(given, list) else [given])]
    ids = [text for text in texts if text.isprintable() and 0 < len(text) <= _LONGEST_ID]
    if len(ids) < len(texts):
        log.warning("not_an_id", found=[text[:_LONGEST_ID] for text in texts if text not in ids])
    return ids


def _data_task(kind: str) -> None:
    @app.task(name=f"data.{kind}", bind=True, shared=False)
    def fetch(self: Any, /, fetch_id: str, **request: Any) -> None:
        _do(self, lambda: engine().fetcher.take(kind, fetch_id, request))


for _kind in ("quote", "bars", "account", "positions", "orders"):
    _data_task(_kind)
