"""Which brokers could take an order now: those with a live worker."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, select

from models.record.tables import workers


def alive_sessions(connection: Connection, broker: str, now: datetime, dead_after: float) -> frozenset[str]:
    """Return the sessions of a broker's workers that are connected and have a fresh heartbeat."""
    fresh = and_(workers.c.heartbeat_at >= now - timedelta(seconds=dead_after), workers.c.state == "ready")
    query = select(workers.c.session).where(workers.c.broker == broker, workers.c.session.is_not(None), fresh)
    return frozenset(connection.execute(query).scalars())


def alive_brokers(connection: Connection, now: datetime, dead_after: float, but: Collection[str] = ()) -> set[str]:
    """Return the brokers that have a worker with a fresh heartbeat, and is none of those that are known to be dead."""
    fresh = and_(workers.c.heartbeat_at >= now - timedelta(seconds=dead_after), workers.c.state != "stopped")
    if but:
        fresh = and_(fresh, workers.c.worker.not_in(but))
    return {broker for (broker,) in connection.execute(select(workers.c.broker).where(fresh).distinct())}
