"""What SQLite was asked to do, whoever asked: SQLAlchemy, or a prepared statement at the driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from models.record.database import Database

_FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA")
_LITERAL = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b|\bNULL\b")


@contextmanager
def traced(database: Database) -> Iterator[list[str]]:
    """Collect the statements of a block, their values written out."""
    seen: list[str] = []

    def note(statement: str) -> None:
        if not statement.startswith(_FRAME):
            seen.append(statement)

    def checkout(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(note)

    def checkin(connection: Any, *_: Any) -> None:
        connection.set_trace_callback(None)

    event.listen(database.engine, "checkout", checkout)
    event.listen(database.engine, "checkin", checkin)
    try:
        yield seen
    finally:
        event.remove(database.engine, "checkout", checkout)
        event.remove(database.engine, "checkin", checkin)


def executions(statements: list[str]) -> list[str]:
    """Return the texts without their values; one that ran for many rows counts once."""
    found: list[str] = []
    for statement in statements:
        text = _LITERAL.sub("?", statement)
        if not found or found[-1] != text:
            found.append(text)
    return found
