"""Only one process at a time changes the schema of a database."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.private import private_file

if TYPE_CHECKING:
    from models.record.database import Database

_ADVISORY_LOCK = 0x636F72726F  # "corro"


@contextlib.contextmanager
def one_at_a_time(database: Database) -> Iterator[None]:
    """Let one process at a time change the schema."""
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
            try:
                yield
            finally:
                connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_ADVISORY_LOCK})")
        return
    path = database.url.database
    if not path or path == ":memory:":
        yield
        return
    with private_file(Path(f"{path}.migrate.lock")).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
