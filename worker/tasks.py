"""The tasks: their names are the contract, their bodies hand over to the engine.

None of them raises for a bad message: what is wrong with an order is written on the order, and a message that no task
can work on is set aside. So is one that Celery gives up by itself: its arguments fit no task, or it has expired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from celery import Task, signals
from celery.app.task import Context

from models.explaining import shown
from models.messages import FetchKind
from producers.bell import RING
from worker.bootstep import engine
from worker.celery import app
from worker.messaging.asked import AskedFor

_LONGEST_ID = 64


@app.task(name="orders.submit", bind=True, shared=False)
def submit(self: Task[..., None], orders: Sequence[Mapping[str, object]]) -> None:
    """Execute a batch of order objects."""
    recorded = bool((self.request.headers or {}).get(RING))
    _do(self, lambda: engine().submit(orders, recorded=recorded))


@app.task(name="orders.cancel", bind=True, shared=False)
def cancel(self: Task[..., None], /, client_order_ids: object = None, **envelope: object) -> None:
    """Cancel orders by their ids, or by a signed text that has them."""
    if envelope:
        _do(self, lambda: engine().take_signed("cancel", envelope))
        return
    ids = _ids(self.request, client_order_ids)
    _do(self, lambda: engine().cancel(ids))


@app.task(name="orders.replace", bind=True, shared=False)
def replace(self: Task[..., None], /, client_order_ids: object = None, **envelope: object) -> None:
    """Carry out replaces: the new terms are on the rows, so a copy of this message, or a late one, changes nothing.

    A signed text brings the new terms of one order.
    """
    if envelope:
        _do(self, lambda: engine().take_signed("replace", envelope))
        return
    ids = _ids(self.request, client_order_ids)
    _do(self, lambda: engine().replace(ids))


def _do(task: Task[..., None], work: Callable[[], None]) -> None:
    """Do what a message asks."""
    engine().do(_asked(task.request), work)


def _asked(request: Context) -> AskedFor:
    queue = str((request.delivery_info or {}).get("routing_key", ""))
    given = dict(request.kwargs or {}) | ({"args": list(request.args)} if request.args else {})
    return AskedFor(str(request.get("task")), queue, given, request.id)


def _set_aside(request: Context, reason: str, why: Exception | str) -> None:
    """Keep the message of a request for a person."""
    _asked(request).set_aside(engine().settings, reason, why)


@signals.task_failure.connect
def _unfit(sender: Task[..., None], exception: Exception, **_: object) -> None:
    """Keep a message that failed before its task could begin: what a task lets out, it has set aside itself."""
    _set_aside(sender.request, "task_failed", exception)


@signals.task_revoked.connect
def _expired(request: Context, expired: bool, **_: object) -> None:
    """Keep a message whose `expires` had passed when it was read: Celery drops it without a word."""
    if expired:
        _set_aside(request, "expired", f"its header expires was {request.expires}; it was read after that")


def _ids(request: Context, given: object) -> list[str]:
    """Return what may be ids of orders: a database would refuse anything else, and the whole message with it."""
    found = given if isinstance(given, list) else [given]
    ids = [str(each) for each in found if _is_id(each)]
    if len(ids) < len(found):
        strange = [each for each in found if not _is_id(each)]
        _set_aside(
            request, "not_an_id", f"{len(strange)} of {len(found)} are no ids, the others were taken: {shown(strange)}"
        )
    return ids


def _is_id(given: object) -> bool:
    return isinstance(given, str) and given.isprintable() and 0 < len(given) <= _LONGEST_ID


def _data_task(kind: str) -> None:
    @app.task(name=f"data.{kind}", bind=True, shared=False)
    def fetch(self: Task[..., None], /, fetch_id: str, **request: object) -> None:
        _do(self, lambda: engine().fetcher.take(kind, fetch_id, request))


for _kind in get_args(FetchKind):
    _data_task(_kind)
