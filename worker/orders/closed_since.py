"""A group whose exits have ended, and whose position somebody has closed since, is not broken any more.

`corro kill --flatten` cancels every exit and then sells what they protected; `corro close`, orders of the strategy and
the exits that `on_partial` makes do the same singly. Nobody has to settle each such group by hand.

| the group                                                                | what follows                         |
|--------------------------------------------------------------------------|--------------------------------------|
| a leg of it has not ended                                                | wait                                 |
| more is wrong with it than that nothing closes what is open              | nothing: a person deals with it      |
| its strategy holds some of it there by our executions                    | wait: the group says what is open    |
| an order of that strategy in that symbol is open there, or it is locked  | wait                                 |
| none is held, nothing of it is open                                      | closed, with the orders that did so  |

Only what was filled then is closed: another trouble, of a late fill, makes the group broken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import structlog
from sqlalchemy import ColumnElement, Connection, select, update

from models.destinations import destination_of
from models.groups import UNPROTECTED, GroupKind, GroupStatus, LegState, is_mere_exit, mark_of, troubles
from models.record.batch import OrderBatch
from models.record.destinations import is_at
from models.record.groups import IS_FOLLOWER, leg_state, members
from models.record.holders import holders
from models.record.rows import ReadableOrder, by_name
from models.record.statements import fetch
from models.record.tables import order_groups, orders, position_locks
from models.vocabulary import OPEN, TERMINAL, Side, signed
from worker.orders.batches import Batches

log = structlog.get_logger()

#: Closing orders that are named.
_NAMED = 3
_ZERO = Decimal(0)


class ClosedSince:
    """The broken groups of one broker; its leader's.

    Args:
        broker: its name.
        batches: for transactions.
    """

    def __init__(self, broker: str, batches: Batches) -> None:
        self.broker, self.batches = broker, batches

    def look(self) -> None:
        """Close each group that left a position open which is closed by now."""
        with self.batches.database.read() as connection:
            done = [legs for legs in self._broken(connection) if _is_flat(connection, legs)]
        for lead in (legs[0]["client_order_id"] for legs in done):
            words, effects = self.batches.change([lead], lambda batch, lead=lead: _close(batch, lead))  # type: ignore[misc]
            self.batches.follow_up(effects)
            if words:
                log.warning("group_closed_since", client_order_id=lead, broker=self.broker, why=words)

    def _broken(self, connection: Connection) -> list[list[ReadableOrder]]:
        """Return the legs of broken groups that are over, each group's lead first."""
        g, o = order_groups.c, orders.c
        broken = select(g.group_id).where(g.status == str(GroupStatus.BROKEN))
        query = select(orders).where(o.group_id.in_(broken), o.broker == self.broker)
        groups: dict[str | None, list[ReadableOrder]] = {}
        for row in fetch(connection, query.order_by(IS_FOLLOWER, o.client_order_id), ReadableOrder):
            groups.setdefault(row["group_id"], []).append(row)
        return [legs for legs in groups.values() if is_left_open(_states(legs), legs[0])]


def is_left_open(states: Sequence[LegState], lead: ReadableOrder) -> bool:
    """Tell whether nothing is wrong with a group that is over but that nothing closes what its lead has opened."""
    wrong = troubles(GroupKind(str(lead["group_kind"])), states)
    is_over = all(state.status in TERMINAL for state in states)
    return is_over and [trouble.kind for trouble in wrong] == [UNPROTECTED]


def _states(legs: Sequence[ReadableOrder]) -> list[LegState]:
    lead = by_name(legs[0])
    return [replace(leg_state(leg), is_exit=is_mere_exit(lead, by_name(leg))) for leg in legs]


def _alike(lead: ReadableOrder) -> ColumnElement[bool]:
    """Say that an order is of a lead's strategy, in its symbol, where that is."""
    o = orders.c
    mine = o.strategy.is_not_distinct_from(lead["strategy"])
    return mine & (o.symbol == lead["symbol"]) & is_at(orders, destination_of(lead))


def _is_flat(connection: Connection, legs: Sequence[ReadableOrder]) -> bool:
    """Tell whether a lead's strategy holds nothing of what that opened, and nothing on its way may change that."""
    lead, p = legs[0], position_locks.c
    where, symbol = destination_of(lead), lead["symbol"]
    held = holders(connection, where, symbol).get((lead["strategy"], symbol), _ZERO)
    if held * signed(Side(lead["side"])) > 0:
        return False
    open_ = select(orders.c.client_order_id).where(_alike(lead), orders.c.status.in_(sorted(OPEN)))
    locked = select(p.symbol).where(p.broker == where, p.symbol == symbol)
    return connection.execute(open_.limit(1)).first() is None and connection.execute(locked).first() is None


def _close(batch: OrderBatch, lead: str) -> str | None:
    """Close a group, if it is as it was seen without a lock; returns why it is closed."""
    legs = [leg.order for leg in members(batch[lead])]
    states = _states(legs)
    if not is_left_open(states, legs[0]) or not _is_flat(batch.connection, legs):
        return None
    g, kind = order_groups.c, GroupKind(str(legs[0]["group_kind"]))
    by = _closing(batch.connection, legs)
    ends = ", ".join(state.end for state in states[1:])
    since = f"what was left open has been closed since, by {', '.join(by)}"
    words = f"{ends}; {since if by else 'its strategy holds none of what it opened'}"
    batch[lead].note("closed_since", words)
    news = {"status": str(GroupStatus.CLOSED), "reason": words, "settled": mark_of(troubles(kind, states), states)}
    mine = (g.group_id == legs[0]["group_id"]) & (g.status == str(GroupStatus.BROKEN))
    batch.connection.execute(update(order_groups).where(mine).values(**news, closed_at=batch.now, updated_at=batch.now))
    return words


def _closing(connection: Connection, legs: Sequence[ReadableOrder]) -> list[str]:
    """Return the newest orders that have closed it, beside those of the group; none where they are archived."""
    o, turn = orders.c, -signed(Side(legs[0]["side"]))
    sides = sorted(side for side in Side if signed(side) == turn)
    theirs = o.group_id.is_distinct_from(legs[0]["group_id"]) & (o.filled_quantity > 0) & o.side.in_(sides)
    began = o.created_at >= legs[0]["created_at"]
    found = select(o.client_order_id).where(_alike(legs[0]), theirs, began)
    return list(connection.execute(found.order_by(o.created_at.desc()).limit(_NAMED)).scalars())
