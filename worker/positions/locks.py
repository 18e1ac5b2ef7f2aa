"""Position locks: where the broker shows a position that nothing explains, no new order goes.

`judge` is the pure rule of one reading of positions, `may_pass` that of one order; `Locks` is what a claim looks at.
A lock is a row, so it holds for every worker at once and survives restarts; `worker.positions.reading` sets and clears
it.

| difference | ours under way there | the same in how many complete readings, for how long | verdict   |
|------------|----------------------|-------------------------------------------------------|-----------|
| any        | yes                  | any                                                   | wait      |
| none       | no                   | any                                                   | explained |
| some       | no                   | fewer than `READINGS`, or shorter than `lock_after`   | wait      |
| some       | no                   | `READINGS` or more, for `lock_after` or longer        | lock      |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from sqlalchemy import Connection, bindparam, func, or_, select

from models.destinations import destination_of
from models.errors import NotSent
from models.legs import stored_legs
from models.messages import plain
from models.record.destinations import is_at, is_behind
from models.record.rows import PositionLockRow, ReadableOrder
from models.record.statements import Query
from models.record.tables import orders, position_locks
from models.sizes import left_of
from models.vocabulary import CLOSING, OPEN, UNSENT, Side

Verdict = Literal["wait", "explained", "lock"]

#: Complete readings that have to show the same difference.
READINGS = 3
#: Closing orders that ended this long before the reading may not be in the position yet.
_LAG = timedelta(seconds=60)
#: Code of attempts that a lock has turned away.
LOCKED = "position_locked"
_LOCKS = Query(select(position_locks).where(is_behind(position_locks.c.broker, bindparam("broker"))), PositionLockRow)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A difference that nothing has explained so far."""

    #: Shares that the broker shows beyond what our books expect.
    difference: Decimal
    #: Readings that have shown it.
    readings: int
    #: When the first one did, on the elapsed clock.
    since: float


def judge(
    difference: Decimal,
    doubt: Doubt | None,
    *,
    restless: bool,
    complete: bool,
    now: float,
    lock_after: float,
) -> tuple[Verdict, Doubt | None]:
    """Judge one reading of one symbol's position.

    Args:
        difference: shares that the broker shows beyond what is expected.
        doubt: from the readings before.
        restless: an order of ours in this symbol is sending, unknown or was just filled: figures may be in motion.
        complete: executions were read after the position was; what they explain is in the books.
        now: on the elapsed clock, seconds.
        lock_after: how long a difference has to persist, seconds.

    Returns:
        The verdict, and the doubt to remember.
    """
    if restless:
        return "wait", doubt
    if not difference:
        return "explained", None
    if doubt is None or doubt.difference != difference:
        return "wait", Doubt(difference, 1, now)
    if not complete:
        return "wait", doubt
    doubt = replace(doubt, readings=doubt.readings + 1)
    ripe = doubt.readings >= READINGS and now - doubt.since >= lock_after
    return ("lock" if ripe else "wait"), doubt


def may_pass(side: Side, quantity: Decimal, found: Decimal, busy: Decimal) -> bool:
    """Tell whether an order passes a lock: it does if it can only make the position smaller.

    Args:
        side: of the order.
        quantity: shares of the order.
        found: the position as its broker shows it, negative when short.
        busy: shares that other closing orders of ours may still take from it.
    """
    if side not in CLOSING:
        return False
    return quantity <= (found if side is Side.SELL else -found) - busy


class Locks:
    """The locks in force at a broker, for the length of one claim."""

    def __init__(self, connection: Connection, broker: str) -> None:
        self.connection, self.broker = connection, broker
        #: By destination and symbol.
        self.rows = {(row["broker"], row["symbol"]): row for row in _LOCKS.rows(connection, broker=broker)}
        #: Shares of closing orders that this claim has let pass, by destination, symbol and side.
        self._passed: dict[tuple[str, str, Side], Decimal] = {}

    def refusal(self, order: ReadableOrder) -> NotSent | None:
        """Say why an order must not be sent here; None if it may."""
        where = destination_of(order)
        lock = self.rows.get((where, order["symbol"]))
        if order["legs"]:  # each leg has to be free: none of them may go without the others
            stuck = [lock for leg in stored_legs(order["legs"]) if (lock := self.rows.get((where, leg.symbol)))]
            return self._refused(stuck[0]) if stuck else None
        if lock is None:
            return None
        side, quantity = Side(order["side"]), left_of(order)
        key = (where, order["symbol"], side)
        if side in CLOSING:
            busy = self._busy(order, lock) + self._passed.get(key, Decimal(0))
            if may_pass(side, quantity, lock["found"], busy):
                self._passed[key] = self._passed.get(key, Decimal(0)) + quantity
                return None
        return self._refused(lock)

    def _refused(self, lock: PositionLockRow) -> NotSent:
        return NotSent(f"{lock['broker']}: {words(lock)}", broker=self.broker, code=LOCKED)

    def _busy(self, order: ReadableOrder, lock: PositionLockRow) -> Decimal:
        """Return how much of the found position other closing orders may still take."""
        o = orders.c
        moving = or_(o.status.in_([str(s) for s in OPEN]), o.updated_at >= lock["read_at"] - _LAG)
        others = (
            select(func.coalesce(func.sum(o.quantity), 0))
            .where(is_at(orders, destination_of(order)), o.symbol == order["symbol"], o.side == order["side"])
            .where(o.client_order_id != order["client_order_id"], o.status.not_in([str(s) for s in UNSENT]), moving)
        )
        return Decimal(str(self.connection.execute(others).scalar()))


def words(lock: PositionLockRow) -> str:
    """Say what is wrong with a position."""
    if lock["note"] is not None:
        return f"{lock['symbol']} is locked there: {lock['note']}; see `corro locks`"
    return (
        f"{lock['symbol']} is locked there: the broker shows {plain(lock['found'])}, our books explain "
        f"{plain(lock['expected'])}; see `corro locks`"
    )


def locked_at(connection: Connection, order: ReadableOrder) -> set[str]:
    """Return the destinations whose lock on the order's symbol stops it; none stops a closing order.

    Whether a lock lets a closing order pass is decided where it is claimed: see `may_pass`.
    """
    if Side(order["side"]) in CLOSING:
        return set()
    traded = [leg.symbol for leg in stored_legs(order["legs"])] or [order["symbol"]]
    query = select(position_locks.c.broker).where(position_locks.c.symbol.in_(traded))
    return set(connection.execute(query).scalars())
