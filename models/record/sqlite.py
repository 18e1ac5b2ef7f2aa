"""SQLite as corro needs it: what each connection is told, and whether the file is still the one that was opened.

The counterpart of `models.record.postgres`.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import cast

from sqlalchemy import URL, Connection

from models.errors import DatabaseUnavailable

#: Pages of 4 kB that SQLite's log may grow by before a commit has to clear it away; workers do that beside the work.
_WAL_PAGES = 10_000
#: What each connection keeps of the file; a worker has several, and the system keeps the file too.
CACHE_KB = 1000
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


def begin(connection: Connection) -> None:
    """Begin a transaction: one that writes takes the lock at once."""
    reading = connection.get_execution_options().get("corro_read")
    driver = cast(sqlite3.Connection, connection.connection.driver_connection)
    driver.execute("BEGIN" if reading else "BEGIN IMMEDIATE")


def is_garbled(error: object) -> bool:
    """Tell whether an error of the driver means that the file is damaged, or no database at all."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(_GARBLED)


def objections(connection: Connection) -> list[str]:
    """Return why this file cannot hold the record; empty where it can."""
    state = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    return [] if state == "ok" else [f"the file is damaged: {state}"]


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
