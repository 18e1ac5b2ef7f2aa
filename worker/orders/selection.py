"""Which queued orders somebody wants to be sent: those that a message names, or those that have waited too long."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import ColumnElement, bindparam, exists, or_, select

from models.messages import MAX_BATCH
from models.record.statements import Query, Row, among, unindexed
from models.record.tables import halts, orders, position_locks, risk_limits
from models.vocabulary import Status
from worker.positions.closing import Asked
from worker.risk.prices import Quotes
from worker.runtime.clock import utcnow

_o = orders.c
_Text = ColumnElement[str]


def _waiting(found_by: Callable[[_Text], _Text] = lambda column: column) -> ColumnElement[bool]:
    """An order that can be claimed for a broker: queued, there, and not put off."""
    mine = (found_by(_o.status) == str(Status.QUEUED)) & (found_by(_o.broker) == bindparam("broker"))
    return mine & (_o.available_at <= bindparam("now"))


#: A halt or drain is in force; a position is locked; somebody has set a limit. Asked with the orders: for most claims
#: the answer is no, three times.
_STOPPED = exists().where(halts.c.scope.in_(["*", bindparam("broker")])).label("stopped")
_LOCKED = exists().where(position_locks.c.broker == bindparam("broker")).label("locked")
_LIMITED = exists().where(risk_limits.c.name.is_not(None)).label("limited")
#: Their names: what a claim learns of its world beside the orders.
FLAGS = ("stopped", "locked", "limited")


def _claimable(*which: ColumnElement[bool]) -> Query[Row]:
    """The oldest first, leaving out what another claim holds just now."""
    oldest_first = (
        select(orders, _STOPPED, _LOCKED, _LIMITED).where(*which).order_by(_o.available_at, _o.client_order_id)
    )
    return Query(oldest_first.limit(MAX_BATCH).with_for_update(skip_locked=True))


#: Waited too long for its message, or its pause is over.
_LATE = or_(_o.available_at <= bindparam("late"), _o.available_at > _o.updated_at)
_NAMED = _claimable(_waiting(unindexed), among(_o.client_order_id, "ids"))
_OVERDUE = _claimable(_waiting(), _LATE)
IS_OVERDUE = Query(select(_o.client_order_id).where(_waiting(), _LATE).limit(1))


@dataclass(frozen=True, slots=True)
class Selection:
    """Orders to be sent, and what their claims find out on the way."""

    query: Query[Row]
    values: Mapping[str, object]
    #: So many at most.
    most: float = math.inf
    #: What was asked about positions, for orders that close one.
    asked: Asked = field(default_factory=Asked)
    #: What was asked about prices, for orders whose value is limited.
    quotes: Quotes = field(default_factory=Quotes)


def named(ids: Collection[str], asked: Asked | None = None, quotes: Quotes | None = None) -> Selection:
    """Orders that a message names."""
    return Selection(_NAMED, {"ids": list(ids)}, len(ids), asked or Asked(), quotes or Quotes())


def overdue(wait_s: float) -> Selection:
    """Orders that have waited so many seconds for their message, or whose pause is over."""
    return Selection(_OVERDUE, {"late": utcnow() - timedelta(seconds=wait_s)})
