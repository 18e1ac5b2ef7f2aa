"""What a transaction has changed: noted in it, and told once it is committed (`Database.after_commit`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Connection

_KEY = "corro.changed"


def changed(connection: Connection, ids: Iterable[str]) -> None:
    """Note ids of orders, or of data requests, that a transaction changes."""
    connection.info.setdefault(_KEY, set()).update(ids)


def taken(connection: Connection) -> Collection[str]:
    """Take what was noted; after a rollback it may be told with the next transaction: a wake-up for nothing."""
    found: Collection[str] = connection.info.pop(_KEY, ())
    return found
