"""The plain case of a claim: chosen, marked and journaled by one statement, which is one round trip on PostgreSQL.

The rule is that of `worker.orders.claiming`. This is as much of it as a statement can decide: an order for which every
condition of CONDITIONS holds is one that the careful way would take as well, and would write down the same (a property
holds the two equal over all states). What is not plain is left alone: the careful way knows what to do with it.

Whoever adds a reason not to send an order, or to look at it first (a limit, a control, a signature), adds a condition
that is false as soon as there may be such a reason: better once too often false than once too often true. Each is asked
in the same statement, so what is not set has to be cheap to see: `~exists()` of a small table, or a setting bound as a
value by `PlainClaims`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from weakref import proxy

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    FromClause,
    Insert,
    Integer,
    Select,
    Table,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from models.lifecycle import Event, Fact, State, apply
from models.messages import MAX_BATCH
from models.record.batch import OrderBatch
from models.record.changes import AttemptChanges
from models.record.database import Database
from models.record.keys import GUARDED
from models.record.order import OrderRecord
from models.record.rows import ReadableOrder
from models.record.soundness import deny, unsound
from models.record.statements import Query, among, unindexed
from models.record.tables import attempts, order_events, orders
from models.record.told import changed
from models.vocabulary import CLOSING, Denial, Outcome, Status
from worker.orders.selection import LIMITED, LOCKED, STOPPED, waiting
from worker.runtime.clock import utcnow

_o = orders.c

#: What makes an order plain, each with the words for it.
CONDITIONS: dict[str, ColumnElement[bool]] = {
    "it is queued for this broker, and due": waiting(unindexed),
    "it is not too old": or_(_o.expires_at.is_(None), _o.expires_at > bindparam("now")),
    "nobody wants it canceled": _o.cancel_requested_at.is_(None),
    "nobody has tried it": _o.attempt_no == 0,
    "it is for no account by name": _o.account.is_(None),
    "the broker takes its id as it is": func.length(_o.client_order_id) <= bindparam("longest_id", type_=Integer),
    "it is no leg of a group": unindexed(_o.group_id) == "",  # SQLite would find all that ever was none by its index
    "it trades one instrument": _o.legs.is_(None),
    "it closes no position": or_(
        bindparam("closing_is_plain", type_=Boolean), and_(*(_o.side != str(side) for side in sorted(CLOSING)))
    ),
    "nothing is stopped here": ~STOPPED,
    "no position is locked here": ~LOCKED,
    "nobody has set a limit": ~LIMITED,
    "nobody has to be asked who stands behind it": ~GUARDED,
    "no limit has made it wait": _o.reason_code.is_(None),
}

#: What the lifecycle makes of a queued order that is claimed for the first time.
_CLAIMED = apply(State(Status.QUEUED, Decimal(1)), Event(Fact.CLAIMED, attempt_no=1)).state
_FIRST = {"attempt_no": _CLAIMED.attempt_no, "checks": 0, "missing": 0}
_STEP = {"kind": str(Fact.CLAIMED), "from_status": str(Status.QUEUED), "to_status": str(_CLAIMED.status)}
#: Characters of the longest client_order_id.
_LONGEST_ID = 64
#: An attempt's columns that are the same for all orders of a claim.
_BEGUN = ("broker", "outcome", "worker", "session", "started_at", "lease_until")


def begun_words(attempt_no: int, broker: str) -> str:
    """Return what the journal says of an attempt that begins."""
    return f"attempt {attempt_no} at {broker}"


def _chosen() -> Select[tuple[str]]:
    oldest_first = select(_o.client_order_id).where(among(_o.client_order_id, "ids"), *CONDITIONS.values())
    oldest_first = oldest_first.order_by(_o.available_at, _o.client_order_id)
    return oldest_first.limit(MAX_BATCH).with_for_update(skip_locked=True, key_share=True)


def _marked(which: ColumnElement[bool]) -> ReturningUpdate[tuple[object, ...]]:
    now = bindparam("now", type_=_o.updated_at.type)
    news = {"status": str(_CLAIMED.status), "attempt_no": _CLAIMED.attempt_no, "updated_at": now}
    return update(orders).where(which).values(submitted_at=func.coalesce(_o.submitted_at, now), **news).returning(*_o)


def _attempts(of: FromClause) -> Insert:
    id_ = of.c.client_order_id
    told: dict[str, ColumnElement[object]] = {"client_order_id": id_, "broker_client_order_id": id_}
    told["decision_price"] = of.c.decision_price
    told |= {name: literal(value) for name, value in _FIRST.items()}
    told |= {name: bindparam(name, type_=attempts.c[name].type) for name in _BEGUN}
    return _inserted(attempts, told)


def _events(of: FromClause) -> Insert:
    e = order_events.c
    told: dict[str, ColumnElement[object]] = {"client_order_id": of.c.client_order_id}
    told |= {"at": bindparam("now", type_=e.at.type), "detail": bindparam("detail", type_=e.detail.type)}
    told |= {name: literal(value) for name, value in _STEP.items()}
    return _inserted(order_events, told)


def _inserted(table: Table, told: Mapping[str, ColumnElement[object]]) -> Insert:
    return insert(table).from_select(list(told), select(*told.values()), include_defaults=False)


def _in_one() -> Query[ReadableOrder]:
    chosen = _chosen().cte("chosen")
    taken = _marked(_o.client_order_id == chosen.c.client_order_id).cte("taken")
    journaled = (_attempts(taken).cte("begun"), _events(taken).cte("told"))
    return Query(select(taken).add_cte(*journaled), ReadableOrder)


#: PostgreSQL: everything; SQLite, which cannot write to two tables in one statement: the orders alone.
_IN_ONE = _in_one()
_MARK = Query(_marked(_o.client_order_id.in_(_chosen())), ReadableOrder)


class PlainClaims:
    """Takes plain orders for one broker.

    Args:
        database: the record.
        longest_id: characters of a client_order_id that the broker takes.
        closing_is_plain: closing orders are sent as they are ordered, wherever the position is.
    """

    def __init__(self, database: Database, longest_id: int | None, *, closing_is_plain: bool) -> None:
        self.database = database
        self._fixed = {"longest_id": longest_id or _LONGEST_ID, "closing_is_plain": closing_is_plain}

    def take(self, ids: Collection[str], begun: AttemptChanges, now: datetime) -> list[OrderRecord]:
        """Take those of these orders that are plain; the others stay as they are.

        Args:
            ids: client_order_ids.
            begun: what the attempts of a claim have in common.
            now: the time of the claim.

        Returns:
            The orders, each with its attempt, as they are now recorded; the oldest first.

        Raises:
            DatabaseUnavailable: none was taken, or nobody knows: what was is reconciled once its lease is over.
        """
        detail = begun_words(_CLAIMED.attempt_no, begun["broker"])
        values = {"ids": list(ids), "now": now, "detail": detail, **begun, **self._fixed}

        def work(connection: Connection) -> list[OrderRecord]:
            batch = OrderBatch(connection, now)
            for row in (_MARK if self.database.is_sqlite else _IN_ONE).rows(connection, **values):
                entry = batch.entries[row["client_order_id"]] = OrderRecord(proxy(batch), row)
                mine = begun.copy()
                mine["broker_client_order_id"], mine["decision_price"] = entry.id, row["decision_price"]
                entry.begin(_CLAIMED.attempt_no, **mine)
                entry.note(str(Fact.CLAIMED), detail, Status.QUEUED)
            if self.database.is_sqlite:
                batch.write()
            else:
                changed(connection, batch.entries)
                batch.tell()
            return sorted(batch.entries.values(), key=lambda one: (one.order["available_at"], one.id))

        return self._sound(self.database.at_once(work))

    def _sound(self, taken: list[OrderRecord]) -> list[OrderRecord]:
        """Return the orders that may be sent; a row that is no order was chosen by a statement, and is denied here."""
        wrong = {entry.id: why for entry in taken if (why := unsound(entry.order)) is not None}
        if wrong:
            self.database.transact(partial(_deny, wrong))
        return [entry for entry in taken if entry.id not in wrong]


def _deny(wrong: Mapping[str, str], connection: Connection) -> None:
    batch = OrderBatch.open(connection, wrong, utcnow())
    for id_, why in wrong.items():
        entry = batch[id_]
        told: AttemptChanges = {"code": str(Denial.INVALID), "message": why, "ended_at": entry.now}
        told["outcome"] = str(Outcome.NOT_SENT)
        entry.set_attempt(entry.order["attempt_no"], **told)
        deny(entry, why)
    batch.write()
