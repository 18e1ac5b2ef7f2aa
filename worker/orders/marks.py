"""Marks sends before their first byte, where no listing can prove later that nothing was sent.

What is claimed and not marked has provably not left this process, so a worker's death costs it nothing. A mark is a
commit: many orders that leave together are marked some at a time, at most as many as may be under way at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice

from sqlalchemy import select, update

from models.errors import Stale
from models.record.database import Database
from models.record.tables import attempts
from models.vocabulary import Outcome
from worker.orders.command import Claimed
from worker.runtime.clock import utcnow


class Marks:
    """The marks of orders that were claimed together; called by the threads that send them.

    Args:
        database: the record.
        broker: where they go.
        claimed: the orders, in the order in which they leave.
        ahead: how many are marked at once.
    """

    def __init__(self, database: Database, broker: str, claimed: Sequence[Claimed], ahead: int) -> None:
        self._database, self._broker, self._ahead = database, broker, ahead
        self._waiting = deque(claimed)
        self._seen: set[str] = set()
        self._marked: set[str] = set()
        self._lock = threading.Lock()

    def mark(self, one: Claimed) -> None:
        """Note that bytes may leave from now on.

        Raises:
            Stale: the attempt was settled by somebody else meanwhile.
            DatabaseUnavailable: it could not be noted, so nothing may be sent.
        """
        with self._lock:
            if one.id not in self._seen:
                self._write(one)
        if one.id not in self._marked:
            raise Stale(f"{self._broker}: the attempt was settled meanwhile", broker=self._broker)

    def _write(self, one: Claimed) -> None:
        """Mark one send, and those that will be next, in one commit; a mark without a send only delays an absence."""
        others = (c for c in self._waiting if c.id not in self._seen and c.id != one.id)
        batch = [one, *islice(others, self._ahead - 1)]
        numbers = {c.id: c.attempt_no for c in batch}
        at, a = utcnow(), attempts.c
        mine = a.client_order_id.in_(list(numbers)) & (a.outcome == Outcome.SENDING) & (a.broker == self._broker)
        with self._database.write() as connection:
            rows = connection.execute(select(a.client_order_id, a.attempt_no).where(mine).with_for_update()).all()
            found = [id_ for id_, number in rows if numbers[id_] == number]
            newest = mine & a.client_order_id.in_(found) & a.replaces.is_(None)
            connection.execute(update(attempts).where(newest).values(sent_at=at))
        self._marked.update(found)
        self._seen.update(numbers)
        while self._waiting and self._waiting[0].id in self._seen:
            self._waiting.popleft()
