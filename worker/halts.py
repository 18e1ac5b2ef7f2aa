"""Halts and drains: rows that every claim looks at, so they hold for every worker at once and survive everything."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from models.database import Database
from models.tables import halts
from worker.clock import utcnow


def stop(database: Database, scope: str, kind: str, reason: str, by: str) -> None:
    """Put a halt or a drain in force.

    Args:
        database: the record.
        scope: a broker's name, or * for all.
        kind: `halt` (nothing is sent) or `drain` (nothing new is taken).
        reason: kept with the orders it denies.
        by: who.
    """
    with database.write() as connection:
        connection.execute(delete(halts).where(halts.c.scope == scope, halts.c.kind == kind))
        connection.execute(insert(halts).values(scope=scope, kind=kind, reason=reason, by=by, at=utcnow()))


def resume(database: Database, broker: str | None) -> list[str]:
    """End halts and drains of one broker, or all; returns what was ended."""
    which = halts.c.scope == broker if broker else halts.c.scope.is_not(None)
    with database.write() as connection:
        ended = [
            f"{kind} {scope}" for kind, scope in connection.execute(select(halts.c.kind, halts.c.scope).where(which))
        ]
        connection.execute(delete(halts).where(which))
    return ended
