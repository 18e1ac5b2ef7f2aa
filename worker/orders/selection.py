"""Which queued orders somebody wants to be sent: those that a message names, or those that have waited too long."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import cast

from sqlalchemy import ColumnElement, bindparam, exists, or_, select

from models.messages import MAX_BATCH
from models.record.controls import ANY_IN_FORCE
from models.record.destinations import is_behind
from models.record.groups import IS_LED
from models.record.keys import GUARDED
from models.record.statements import Query, Row, among, unindexed
from models.record.tables import orders, position_locks, risk_limits
from models.vocabulary import Status
from worker.positions.closing import Asked
from worker.risk.prices import Quotes
from worker.runtime.clock import utcnow

_o = orders.c
_Text = ColumnElement[str]


def waiting(found_by: Callable[[_Text], _Text] = lambda column: column) -> ColumnElement[bool]:
    """An order that can be claimed for a broker: queued, there, and not put off."""
    mine = (found_by(_o.status) == str(Status.QUEUED)) & (found_by(_o.broker) == bindparam("broker"))
    return mine & (_o.available_at <= bindparam("now"))


#: A control is in force; a position is locked; somebody has set a limit. Asked with the orders: for most claims
#: the answer is no, three times.
STOPPED = ANY_IN_FORCE
LOCKED = exists().where(is_behind(position_locks.c.broker, bindparam("broker")))
LIMITED = exists().where(risk_limits.c.name.is_not(None))
_LOOKS = {"stopped": STOPPED, "locked": LOCKED, "limited": LIMITED, "guarded": GUARDED}
#: Their names: what a claim learns of its world beside the orders.
FLAGS = tuple(_LOOKS)


def _claimable(*which: ColumnElement[bool]) -> Query[Row]:
    """The oldest first, leaving out what another claim holds just now."""
    looks = (look.label(name) for name, look in _LOOKS.items())
    oldest_first = select(orders, *looks).where(*which, ~IS_LED).order_by(_o.available_at, _o.client_order_id)
    return Query(oldest_first.limit(MAX_BATCH).with_for_update(skip_locked=True, key_share=True))


#: Waited too long for its message, or its pause is over.
_LATE = or_(_o.available_at <= bindparam("late"), _o.available_at > _o.updated_at)
_NAMED = _claimable(waiting(unindexed), among(_o.client_order_id, "ids"))
_OVERDUE = _claimable(waiting(), _LATE)
IS_OVERDUE = Query(select(_o.client_order_id).where(waiting(), _LATE, ~IS_LED).limit(1))


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

    #: Of those that it names, which may be plain (worker/orders/plain.py) as far as their message tells.
    may_be_plain: Collection[str] = ()

    @property
    def ids(self) -> Collection[str]:
        """Those that it names; empty where it goes by how long they have waited."""
        return cast("Collection[str]", self.values.get("ids", ()))

    def but(self, ids: Collection[str]) -> Selection:
        """Return the same without these."""
        without = set(ids)
        return self.only([id_ for id_ in self.ids if id_ not in without])

    def only(self, ids: Sequence[str]) -> Selection:
        """Return the same with these ids alone."""
        these = set(ids)
        plain = [id_ for id_ in self.may_be_plain if id_ in these]
        return replace(self, values={**self.values, "ids": ids}, most=len(ids), may_be_plain=plain)


def named(
    ids: Collection[str],
    asked: Asked | None = None,
    quotes: Quotes | None = None,
    may_be_plain: Collection[str] | None = None,
) -> Selection:
    """Orders that a message names.

    Args:
        ids: client_order_ids.
        asked: what was asked about positions.
        quotes: what was asked about prices.
        may_be_plain: those that are worth a try; by default all of them.
    """
    plain = ids if may_be_plain is None else may_be_plain
    return Selection(_NAMED, {"ids": list(ids)}, len(ids), asked or Asked(), quotes or Quotes(), plain)


def overdue(wait_s: float) -> Selection:
    """Orders that have waited so many seconds for their message, or whose pause is over."""
    return Selection(_OVERDUE, {"late": utcnow() - timedelta(seconds=wait_s)})
