"""Reads what an account was paid, charged or given, so that the record has it and a position that moved is explained.

Nothing waits for it: the leader reads it now and then, out of the data budget, and sooner while a position is locked.
A page is recorded before the next is asked for, so whoever goes on after a crash begins where the record ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

import structlog
from sqlalchemy import select

from models.errors import AccessLost, CorroError
from models.record.cash import book, newest
from models.record.database import Database
from models.record.destinations import is_behind
from models.record.tables import position_locks
from models.reports import CashEventReport
from models.settings import HistorySettings
from worker.brokers.base import BrokerInterface
from worker.pacing.budget import Use, using
from worker.runtime.clock import elapsed, utcnow
from worker.runtime.said import LastingTrouble

T = TypeVar("T")
log = structlog.get_logger()

#: Events may be told so long after their date.
OVERLAP = timedelta(days=7)
#: How far back the first reading goes.
FIRST = timedelta(days=90)
#: Seconds between readings while a position is locked: an event may explain it.
_WHILE_LOCKED_S = 60.0
#: Events that are recorded in one transaction.
_AT_ONCE = 100


class CashReader:
    """Reads the cash events of one broker.

    Args:
        database: the record.
        broker: the adapter.
        settings: how often.
    """

    def __init__(self, database: Database, broker: BrokerInterface, settings: HistorySettings) -> None:
        self.database, self.broker, self.every = database, broker, settings.cash_every
        self._read_at, self._trouble = -math.inf, LastingTrouble(broker=broker.name)
        #: When the last reading began that was complete; none of this process has been yet.
        self._complete: datetime | None = None

    def look(self) -> None:
        """Read what is new, where it is time to.

        Raises:
            AccessLost: the broker refuses us.
        """
        age = elapsed() - self._read_at
        if age < min(self.every, _WHILE_LOCKED_S) or (age < self.every and not self._is_locked()):
            return
        self._read_at = elapsed()
        try:
            with using(Use.DATA):
                new = self.read()
        except AccessLost:
            raise
        except CorroError as error:
            self._trouble.lasts("cash_unreadable", str(error))
            return
        self._trouble.is_over()
        if new:
            log.info("cash_events", broker=self.broker.name, new=new)

    def read(self) -> int:
        """Read and record what is new; returns how much.

        Raises:
            CorroError: the broker could not be read; what came before that is recorded.
        """
        begun = utcnow()
        told = self.broker.get_cash_events(self._since())
        if told is None:
            self.every = math.inf
            return 0
        new = sum(self._book(some) for some in _parts(told, _AT_ONCE))
        self._complete = begun
        return new

    def _book(self, told: Sequence[CashEventReport]) -> int:
        return self.database.transact(lambda connection: book(connection, self.broker.name, told))

    def _since(self) -> datetime:
        """Return since when to read: a long time without an event makes no reading longer than the one before."""
        if self._complete is not None:
            return self._complete - OVERLAP
        with self.database.read() as connection:
            last = newest(connection, self.broker.name)
        return (utcnow() - FIRST) if last is None else last - OVERLAP

    def _is_locked(self) -> bool:
        mine = select(position_locks.c.symbol).where(is_behind(position_locks.c.broker, self.broker.name)).limit(1)
        with self.database.read() as connection:
            return connection.execute(mine).first() is not None


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most so many items, each as soon as it is there."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
