"""Proof that a worker is dead, where there is one before its silence is long enough to be believed.

| what is seen of a worker                                                        | it is   |
|---------------------------------------------------------------------------------|---------|
| it said good-bye                                                                | stopped |
| its process is not on this host and boot any more, or is a zombie               | dead    |
| its process is on this host and boot, running or suspended                      | alive   |
| another host or boot: its lifeline is there                                     | alive   |
| the same: its lifeline is gone, it has missed a heartbeat, and ours has stood   | dead    |
| anything else                                                                   | alive   |

A lifeline is a lock of PostgreSQL that a worker's own connection holds; the kernel closes the connection of a process
that dies, and the server lets go of the lock at once. A slow or suspended worker keeps both. A connection can also be
cut: then its worker takes the lock again with its next heartbeat, so a missed heartbeat has to come on top; and where
the server was restarted or failed over, every lifeline went at once, ours too, and none of them says anything for as
long as silence would take. "Alive" is the benefit of the doubt: silence decides, as it does everywhere else.

This is for queued orders, which are provably not sent. Whether a worker can still send is another question
(`worker.fleet.liveness.is_gone`), to which no lock is an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import SQLAlchemyError

from models.errors import DatabaseUnavailable
from models.record.database import Database
from models.record.rows import WorkerRow
from models.record.statements import fetch
from models.record.tables import workers
from models.settings import TimingSettings
from models.troubles import trouble
from worker.fleet.identity import Identity, is_on_this_host, process_is_over
from worker.runtime.clock import elapsed

log = structlog.get_logger()

#: The upper 16 of the 64 bits of a lifeline; the others come from the worker's name.
_LIFELINES = 0x574B
#: A heartbeat is missed when it is later than its period by this factor.
_LATE = 1.25
_HELD = text(f"""
    SELECT (l.classid::bigint << 32) | l.objid::bigint FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.classid::bigint >> 16 = {_LIFELINES}
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Lines:
    """What the locks say.

    Args:
        held: numbers of the lifelines that are there.
        tell: whether a missing one says anything.
    """

    held: Collection[int] = ()
    tell: bool = False


def decide_dead(row: WorkerRow, here: Identity, lines: Lines, now: datetime, timing: TimingSettings) -> bool:
    """Tell whether a worker is provably dead: the table above; pure but for a look at this host's processes."""
    if row["state"] == "stopped" or row["worker"] == here.name:
        return False
    if is_on_this_host(row, here):
        return process_is_over(row, here)
    missed = row["heartbeat_at"] < now - timedelta(seconds=_LATE * timing.heartbeat_every)
    return lines.tell and missed and row["lifeline"] is not None and row["lifeline"] not in lines.held


class Lifeline:
    """This worker's own; `hold` is called with every heartbeat.

    Args:
        database: the record.
        name: the worker's.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        digest = hashlib.sha256(name.encode()).digest()
        self._number = (_LIFELINES << 48) | int.from_bytes(digest[:6])
        #: psycopg's connection.
        self._driver: Any = None
        self._since = 0.0

    def hold(self) -> int | None:
        """See that it is there, or take it; returns its number, None where the database has or gives none."""
        if self.database.is_sqlite:
            return None
        try:
            with self.database.translated():
                if self._driver is not None:
                    self._driver.execute("SELECT 1")
                elif not self._take():  # the server has not noticed yet that the connection before was cut
                    self.close()
                    return None
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            log.info("lifeline_lost", error=trouble(error))
            self.close()
            return None
        return self._number

    def _take(self) -> bool:
        connection = self.database.engine.raw_connection()
        self._driver = connection.driver_connection
        connection.detach()  # beside the pool, which has its bounds
        self._driver.autocommit = True
        self._since = elapsed()
        return bool(self._driver.execute("SELECT pg_try_advisory_lock(%s)", (self._number,)).fetchone()[0])

    def look(self, connection: Connection, trusted_after: float) -> Lines:
        """Return the lifelines that there are; those that are missing say something once ours has stood for a while."""
        if self._driver is None:
            return Lines()
        held = frozenset(int(number) for number in connection.execute(_HELD).scalars())
        return Lines(held, self._number in held and elapsed() - self._since > trusted_after)

    def close(self) -> None:
        """Let go."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()


class Witness:
    """Tells which workers are provably dead.

    Args:
        lifeline: this worker's own.
        here: this worker.
        timing: how often hearts beat.
    """

    def __init__(self, lifeline: Lifeline, here: Identity, timing: TimingSettings) -> None:
        self.lifeline, self.here, self.timing = lifeline, here, timing

    def dead(self, connection: Connection, brokers: Collection[str], now: datetime) -> dict[str, str]:
        """Return the workers of some brokers that are dead, each with its broker."""
        lines = self.lifeline.look(connection, self.timing.dead_after)
        rows = fetch(connection, select(workers).where(workers.c.broker.in_(brokers)), WorkerRow)
        return {row["worker"]: row["broker"] for row in rows if decide_dead(row, self.here, lines, now, self.timing)}
