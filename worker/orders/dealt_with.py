"""A person has dealt with a group that is broken: it is closed on their word, and may be archived.

| the group                                      | `corro settle`                                                |
|------------------------------------------------|---------------------------------------------------------------|
| broken, and every leg has ended                | closed, with who and why; its legs and fills stay as they are |
| broken, with a leg that has not ended          | refused: cancel it first, or let it trade                     |
| not closed, and without a leg in the record    | closed                                                        |
| unresolved: nobody knows what became of a leg  | refused: `corro resolve` decides about that leg               |
| anything else                                  | refused: nothing is wrong with it                             |

Only what was filled then is dealt with: another trouble, of a late fill, makes it broken again, and closed if that goes
as it came. No lock is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from models.errors import InvalidOrder, NotFound
from models.groups import GroupKind, GroupStatus, mark_of, troubles
from models.record.batch import OrderBatch
from models.record.group_rows import GroupRow
from models.record.group_tables import order_groups
from models.record.groups import IS_FOLLOWER, members, states_of
from models.record.order import OrderRecord
from models.record.statements import fetch
from models.record.tables import orders
from models.vocabulary import TERMINAL
from producers.client import OrderClient
from worker.control.controls import journal
from worker.runtime.clock import utcnow


def deal_with(client: OrderClient, group_id: str, *, by: str, reason: str) -> GroupRow:
    """Close a broken group on somebody's word; kept in the journal, and as an event of its lead.

    Args:
        client: for the database.
        group_id: the group.
        by: who has dealt with it.
        reason: what was done about it.

    Raises:
        NotFound: there is no such group.
        InvalidOrder: nothing is wrong with it, or a leg of it has not ended.
        InvalidRequest: the name or the reason is blank.
    """

    def work(connection: Connection) -> GroupRow:
        o, g = orders.c, order_groups.c
        ids = list(
            connection.execute(
                select(o.client_order_id).where(o.group_id == group_id).order_by(IS_FOLLOWER, o.client_order_id)
            ).scalars()
        )
        batch = OrderBatch.open(connection, ids, utcnow())
        query = select(order_groups).where(g.group_id == group_id)
        row = next(iter(fetch(connection, query.with_for_update(), GroupRow)), None)
        if row is None:
            raise NotFound(f"no group has the id {group_id!r}")
        legs = members(batch[ids[0]]) if ids else []
        _must_be_over(row, legs)
        states = states_of(legs) if legs else []
        mark = mark_of(troubles(GroupKind(row["kind"]), states), states)
        wrong = row["reason"]
        detail = f"group {group_id}: {wrong or 'no leg of it is in the record'}"
        journal(connection, "resolve", "group", group_id, by=by, reason=reason, detail=detail)
        words = f"{wrong or 'no leg is in the record'}; dealt with by {by}: {reason}"
        if ids:
            batch[ids[0]].note("resolved", f"{detail}; dealt with, says {by}: {reason}")
        batch.write()
        news = {"status": str(GroupStatus.CLOSED), "settled": mark, "reason": words}
        connection.execute(
            update(order_groups)
            .where(g.group_id == group_id)
            .values(**news, closed_at=row["closed_at"] or batch.now, updated_at=batch.now)
        )
        return next(iter(fetch(connection, query, GroupRow)))

    return client.database.transact(work)


def _must_be_over(row: GroupRow, legs: Sequence[OrderRecord]) -> None:
    """Raise where a group is not a person's, or not over."""
    open_ = [f"{entry.order['leg']} {entry.id} is {entry.status}" for entry in legs if entry.status not in TERMINAL]
    if row["status"] == GroupStatus.UNRESOLVED:
        raise InvalidOrder(f"group {row['group_id']} is unresolved: `corro resolve` decides about {'; '.join(open_)}")
    if row["status"] == GroupStatus.CLOSED or (legs and row["status"] != GroupStatus.BROKEN):
        raise InvalidOrder(f"group {row['group_id']} is {row['status']}: nothing is wrong with it")
    if open_:
        raise InvalidOrder(f"group {row['group_id']} is not over, cancel what is left first: {'; '.join(open_)}")
