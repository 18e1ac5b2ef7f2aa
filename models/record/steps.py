"""What the journal tells of orders: where their steps have led to, when each was, which terms they were given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import TypedDict, cast

from sqlalchemy import Connection, or_, select

from models.record.batch import OrderBatch
from models.record.replaces import tell
from models.record.statements import Query, among
from models.record.tables import order_events
from models.trust import Journaled


class _Step(TypedDict):
    client_order_id: str
    kind: str
    at: datetime
    from_status: str | None
    to_status: str | None
    detail: str | None


_REMARKS = ("approved", "cancel_requested", "replaced", "replace_refused")
_e = order_events.c
#: Events that changed a status, and some that change none and are more than a remark.
_STEPS = Query(
    select(_e.client_order_id, _e.kind, _e.at, _e.from_status, _e.to_status, _e.detail)
    .where(
        among(_e.client_order_id, "ids"),
        or_(_e.from_status.is_(None), _e.from_status != _e.to_status, *(_e.kind == kind for kind in _REMARKS)),
    )
    .order_by(_e.id),
    _Step,
)


def journal_of(connection: Connection, ids: Iterable[str], batch: OrderBatch | None = None) -> dict[str, Journaled]:
    """Return what the journal tells of each of these orders.

    Args:
        connection: to read by.
        ids: client_order_ids.
        batch: what has happened in this transaction counts too.
    """
    told = {id_: Journaled(None, {}, {}) for id_ in ids}
    changes: dict[str, list[tuple[int, dict[str, str]]]] = {id_: [] for id_ in told}
    entries = batch.entries.values() if batch is not None else ()
    news = cast("Iterable[_Step]", chain.from_iterable(entry.events for entry in entries))
    for step in chain(_STEPS.rows(connection, ids=list(told)), news):
        id_ = step["client_order_id"]
        before, moves = told[id_], step["to_status"] is not None and step["from_status"] != step["to_status"]
        tell(changes[id_], step["kind"], step["detail"])
        told[id_] = Journaled(
            step["to_status"] if moves else before.status,
            {**before.at, step["kind"]: step["at"]},
            {name: text for _, terms in changes[id_] for name, text in terms.items()},
        )
    return told
