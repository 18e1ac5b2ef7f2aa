"""Who is alive: one predicate for each question, since a mistake costs something else each time.

| question                                   | predicate           | by                           | a mistake costs   |
|--------------------------------------------|---------------------|------------------------------|-------------------|
| can it certainly send nothing more?        | `is_gone`           | process, `sender_gone_after` | a double          |
| has it missed its heartbeats?              | `is_silent`         | `dead_after`                 | one look too many |
| is it provably dead: may queued orders go? | `proof.decide_dead` | process, lock, heartbeat     | a fallback        |
| which sessions change what they placed?    | `alive_sessions`    | `dead_after`, connected      | a late cancel     |
| which brokers could take an order now?     | `alive_brokers`     | `dead_after`, not stopped    | a fallback        |

The pages and `corro fleet` show what these say; nothing else decides about an order by a heartbeat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, select

from models.record.rows import WorkerRow
from models.record.tables import workers
from models.vocabulary import CANNOT_READ
from worker.fleet.identity import Identity, is_on_this_host, process_is_over


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


def is_gone(worker: WorkerRow | None, here: Identity, now: datetime, silence_s: float) -> bool:
    """Tell whether a worker can certainly send nothing more.

    Stopped, or its process is not there any more on this very machine, or silent for so long that it counts as gone.
    A process that is merely suspended is not gone: it may wake up in the middle of a send.
    """
    if worker is None or worker["state"] == "stopped":
        return True
    if worker["worker"] == here.name:
        return False
    if is_on_this_host(worker, here):
        return process_is_over(worker, here)
    return bool(worker["heartbeat_at"] < now - timedelta(seconds=silence_s))


def is_silent(worker: WorkerRow | None, now: datetime, dead_after: float) -> bool:
    """Tell whether a worker has missed its heartbeats."""
    return (
        worker is None or worker["state"] == "stopped" or worker["heartbeat_at"] < now - timedelta(seconds=dead_after)
    )


def is_unread(worker: Mapping[str, object]) -> bool:
    """Tell whether a connected worker says that it cannot read its broker."""
    return worker["state"] == "ready" and str(worker["detail"] or "").startswith(CANNOT_READ)
