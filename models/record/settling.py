"""A limit that is being set: until every order counts that was claimed without it, nobody counts orders together.

A claim sees the limits of the moment at which its statement began, and its order can be counted once it is committed.
So on PostgreSQL a limit can be set between the two: the claim does not know of it, and whoever asks next does not see
the order. Therefore whoever sets a limit

1. lets nobody count orders together from before the limit is there until it is done (`nobody_counts`); claims that
   meet this put their orders off and wait for nothing, so that they can end;
2. waits, once the limit is there, for every transaction that held the table of orders for writing (`claims_end`). A
   statement takes that lock before it takes its snapshot, so whoever does not know of the limit is among them;
3. counts what those have sent.

Plain claims pay nothing for it. SQLite has one writer: what is counted in the transaction that writes the limit is all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from sqlalchemy import literal_column, select, text

from models.record.database import Database
from models.record.statements import Query

#: The longest that claims are waited for, seconds: one takes milliseconds.
PATIENCE_S = 5.0
_PAUSE_S = 0.01
_BEING_SET = "hashtext('corro.limit_is_set')"
_HOLD = text(f"SELECT pg_advisory_xact_lock({_BEING_SET})")
_TOGETHER = "pg_advisory_xact_lock(hashtext('corro.risk'))"
#: Taken by whoever counts several orders together.
LOCK = text(f"SELECT {_TOGETHER}")


class Together(TypedDict):
    """Whether everything can be seen that was sent without a limit; otherwise one is being set, and nothing is sent."""

    is_known: bool


#: The same by whoever wants to send them. What is asked after it, be it in the same round trip, sees what all have
#: sent who took the lock before: each statement reads what is committed when it begins.
COUNT_TOGETHER = Query(
    select(
        literal_column(_TOGETHER).label("waited"),
        literal_column(f"pg_try_advisory_xact_lock_shared({_BEING_SET})").label("is_known"),
    ),
    Together,
)
#: Transactions that read rows of orders for a change, or change them.
_WRITERS = text("""
    SELECT l.virtualtransaction, l.pid FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.relation = 'orders'::regclass AND l.granted
    AND l.mode IN ('RowShareLock', 'RowExclusiveLock') AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")


@contextmanager
def nobody_counts(database: Database) -> Iterator[None]:
    """Let nobody count orders together for the length of a block; who does already is waited for.

    Raises:
        DatabaseUnavailable: somebody else did not end.
    """
    with database.translated(), database.engine.begin() as connection:
        connection.execute(_HOLD)
        yield


def claims_end(database: Database, within_s: float = PATIENCE_S) -> list[int]:
    """Wait for the claims of before this moment; returns the server's process ids of those that have not ended."""
    end = time.monotonic() + within_s
    left = _writers(database)
    while left and time.monotonic() < end:
        time.sleep(_PAUSE_S)
        writers = _writers(database)
        left = {name: pid for name, pid in left.items() if name in writers}
    return sorted(set(left.values()))


def _writers(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {row.virtualtransaction: row.pid for row in connection.execute(_WRITERS)}
