"""A look at the record for a question of several statements, or one that reads most of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from models.record.database import Database
from models.record.sqlite import CACHE_KB

#: What SQLite keeps of the file for such a question: every index by id of a million orders, so that to find each of
#: them is no read of the file, and what is sorted, which otherwise goes through files of its own.
_LARGE_CACHE_KB = 200_000


@contextmanager
def one_look(database: Database) -> Iterator[Connection]:
    """Open a transaction that only reads, and in which each statement sees the record as it was at the first.

    Raises:
        DatabaseUnavailable: as for `Database.read`.
    """
    with database.read() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection
            return
        connection.exec_driver_sql(f"PRAGMA cache_size=-{_LARGE_CACHE_KB}")
        try:
            yield connection
        finally:
            connection.exec_driver_sql(f"PRAGMA cache_size=-{CACHE_KB}")
