"""SQLite as corro needs it: what each connection is told, and whether the file is still the one that was opened.

The counterpart of `models.record.postgres`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sqlalchemy import URL, Connection, Engine

from models.errors import DatabaseUnavailable

#: Pages of 4 kB that SQLite's log may grow by before a commit has to clear it away; workers do that beside the work.
_WAL_PAGES = 10_000
#: What each connection keeps of the file; a worker has several, and the system keeps the file too.
CACHE_KB = 1000
#: Seconds between two looks at a lock that another process holds: the first, the longest, and how they grow.
_LOOK_S, _LONGEST_LOOK_S, _GROWTH = 0.0002, 0.004, 1.5
#: SQLite's names for a file that is none of its own, or is damaged.
_GARBLED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def must_be_plain(url: URL) -> None:
    """See that a URL names a file and nothing beside it.

    Raises:
        ValueError: it has parameters, which the driver would leave out, or names a folder.
    """
    if url.query:
        raise ValueError(f"an SQLite file has no parameters, had {', '.join(sorted(url.query))}")
    if url.database and Path(url.database).is_dir():
        raise ValueError(f"{url.database} is a folder; the name of a file is needed")


def pin(driver: sqlite3.Connection, patience_s: float) -> None:
    """Tell a new connection how to work.

    Args:
        driver: the driver's connection.
        patience_s: seconds that a statement waits for a lock.
    """
    driver.isolation_level = None  # we say BEGIN ourselves, so that a writer locks at its start
    cursor = driver.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={patience_s * 1000}",
        f"wal_autocheckpoint={_WAL_PAGES}",
        f"cache_size=-{CACHE_KB}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def be_patient(connection: Connection, patience_s: float) -> None:
    """Have SQLite itself wait so long for a lock; 0 leaves the waiting of a connection that writes to `begin`.

    SQLite sleeps 1, 2, 5, 10 ... up to 100 ms between two looks, while a commit takes a fraction of a millisecond: of
    several processes that write, one that was unlucky twice would be late by ten commits of the others.
    """
    _driver(connection).execute(f"PRAGMA busy_timeout={patience_s * 1000:.0f}")


def begin(connection: Connection, patience_s: float) -> None:
    """Begin a transaction: one that writes takes the lock at once, and waits for it so many seconds."""
    driver = _driver(connection)
    if connection.get_execution_options().get("corro_read"):
        driver.execute("BEGIN")
        return
    end, pause_s = time.monotonic() + patience_s, _LOOK_S
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > end:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * _GROWTH, _LONGEST_LOOK_S)


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def is_garbled(error: object) -> bool:
    """Tell whether an error of the driver means that the file is damaged, or no database at all."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(_GARBLED)


def objections(connection: Connection) -> list[str]:
    """Return why this file cannot hold the record; empty where it can."""
    state = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    return [] if state == "ok" else [f"the file is damaged: {state}"]


class Pen:
    """Writes to a file, for all threads of a process: they take turns, and share a connection.

    SQLite has one writer, and whoever finds the file locked has to look again and again; threads can wait better.

    Args:
        engine: of the file.
        file: seen to be there before each transaction; None for what is no file.
        shown: the database as words may name it.
        patience_s: seconds to wait for a turn, and for the lock.
    """

    def __init__(self, engine: Engine, file: DatabaseFile | None, shown: str, patience_s: float) -> None:
        self._engine, self._file, self._shown, self._patience_s = engine, file, shown, patience_s
        self._turn = threading.Lock()
        self._writer: Connection | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes; commits at the end, rolls back on an exception.

        Raises:
            DatabaseUnavailable: no turn came, or the file is not there any more.
        """
        if not self._turn.acquire(timeout=self._patience_s):
            raise DatabaseUnavailable(f"database {self._shown} is locked: another thread has been writing too long")
        try:
            if self._writer is None:
                self._writer = self._engine.connect()
                be_patient(self._writer, 0)
            if self._file is not None:
                self._file.must_be_there()
            with self._writer.begin():
                yield self._writer
        except BaseException:
            self._put_down()  # whatever state it is in, the next one begins anew
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """Wait for the transaction under way, and give the connection back."""
        with self._turn:
            self._put_down()

    def _put_down(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(Exception):  # one that is beyond help is thrown away
                be_patient(writer, self._patience_s)
            writer.close()


class DatabaseFile:
    """The file of a database, watched while it is used.

    Args:
        path: absolute.
        shown: the database as words may name it.
    """

    def __init__(self, path: Path, shown: str) -> None:
        self.path, self._shown = path, shown
        self._inode: tuple[int, int] | None = None
        #: Why nothing is written any more; only a new start ends it, since a person has to have looked.
        self._lost: str | None = None

    @classmethod
    def of(cls, url: URL) -> DatabaseFile | None:
        """Return the file of a URL; None in memory, or under a name that only SQLite can read."""
        path = url.database
        if path in (None, "", ":memory:") or path.startswith("file:"):
            return None
        return cls(Path(path).absolute(), repr(url))

    @property
    def is_missing(self) -> bool:
        """Whether the file is not there, or is empty."""
        return not (self.path.exists() and self.path.stat().st_size)

    def must_be_there(self) -> None:
        """Raise where the file was removed, emptied or replaced: we would go on writing where nobody looks.

        Raises:
            DatabaseUnavailable: it is not the file of the first look.
        """
        self._lost = self._lost or self._look()
        self._raise(self._lost)

    def must_still_be_there(self) -> None:
        """Raise where nothing may be written, or the file is not the one that was seen: nobody reads what was there.

        One that is yet to be made may be missing, and who only reads may go on once the right file is back.

        Raises:
            DatabaseUnavailable: as for `must_be_there`.
        """
        if self._inode is not None or self._lost is not None or not self.is_missing:
            self._raise(self._lost or self._look())

    def _raise(self, lost: str | None) -> None:
        if lost is not None:
            raise DatabaseUnavailable(
                f"database {self._shown} was {lost} while in use: put the right file there and start this process again"
            )

    def _look(self) -> str | None:
        """Return what has happened to the file; None while it is the one that was opened."""
        try:
            found_there = os.stat(self.path)
        except OSError:
            return "removed"
        if not stat.S_ISREG(found_there.st_mode):
            return "replaced"
        found = (found_there.st_dev, found_there.st_ino)
        self._inode = self._inode or found
        if found != self._inode:
            return "replaced"
        return None if found_there.st_size else "emptied"
