"""The journal of all orders as a stream: by rising ids, none left out, whoever writes at the same time.

SQLite has one writer, so ids become visible in their order. PostgreSQL draws an id when a row is written and shows it
when its transaction commits: id 7 may be seen before id 6, and 6 may never come. Every transaction that writes events
says so before it draws its first id, by an advisory lock that carries the newest id of that moment (a trigger, see the
migration `stream`): all of its ids are higher. So no id can still appear that is at most

* the newest one seen before the locks are read (whoever locks later draws a higher one), and
* the lowest number in the locks of the writers that are open.

The rows are read after the locks, by a snapshot of their own: a writer that has let go by then is seen, or was rolled
back. Readers hold nothing, so no analyst's transaction holds the stream; a transaction id would be no bound, since a
newer transaction can draw a smaller id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from sqlalchemy import Connection, bindparam, func, select, text

from models.errors import InvalidRequest
from models.record.database import Database
from models.record.statements import Query, unindexed
from models.record.tables import order_events, orders

#: The upper 16 of the 64 bits of a writer's lock; the others are an id.
WRITERS = 0x4556
#: Events that are read at one look.
LOOK = 1000
_E = order_events.c
#: Advisory locks of one key show its halves as classid and objid, and objsubid 1.
_OPEN_WRITERS = f"""
    pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid::bigint >> 16 = {WRITERS}
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608
_NUMBER = "((l.classid::bigint & 65535) << 32) | l.objid::bigint"
_SETTLED = text(f"SELECT max(id), (SELECT min({_NUMBER}) FROM {_OPEN_WRITERS}) FROM order_events")  # noqa: S608
_OLDEST_WRITER = text(f"""
    SELECT l.pid, a.xact_start, a.usename, a.application_name, clock_timestamp() AS now
    FROM (SELECT l.pid, {_NUMBER} AS number FROM {_OPEN_WRITERS}) l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    ORDER BY l.number, a.xact_start LIMIT 1
""")  # noqa: S608
_WAITING_SINCE = text("SELECT min(at) FROM order_events WHERE id > :settled").columns(at=_E.at.type)
_BETWEEN = (
    select(*_E, orders.c.strategy)
    .join_from(order_events, orders, _E.client_order_id == orders.c.client_order_id, isouter=True)
    .where(_E.id > bindparam("after"), _E.id <= bindparam("settled"))
    .order_by(_E.id)
    .limit(LOOK)
)


class EventRow(TypedDict):
    """A step of an order as it is handed out: with its id, and whose order it is."""

    id: int
    client_order_id: str
    at: datetime
    kind: str
    from_status: str | None
    to_status: str | None
    detail: str | None
    strategy: str | None


#: Among the few new events; not by way of all orders of a strategy, which SQLite would take.
_STRATEGY = unindexed(orders.c.strategy) == bindparam("strategy")
_NEXT = {False: Query(_BETWEEN, EventRow), True: Query(_BETWEEN.where(_STRATEGY), EventRow)}


@dataclass(frozen=True, slots=True)
class Holdup:
    """What keeps events from being handed out.

    Args:
        seconds: how long for: the age of the oldest transaction that writes events, or of the oldest event behind it.
        words: which transaction that is; empty where there is none.
    """

    seconds: float = 0.0
    words: str = ""


class EventStream:
    """A reader's place in the journal.

    Args:
        database: the record.
        since: the id of the last event that the reader has seen; 0 begins at the first.
        strategy: only events of its orders.
    """

    def __init__(self, database: Database, since: int = 0, strategy: str | None = None) -> None:
        self.database, self.since, self.strategy = database, since, strategy

    def look(self) -> list[EventRow]:
        """Return the events that follow, by id, at most `LOOK`; the next look goes on behind them.

        Raises:
            DatabaseUnavailable: nothing was read; the place is as before.
        """
        with self.database.read() as connection:
            bound = settled(connection)
            if bound <= self.since:
                return []
            whose = {} if self.strategy is None else {"strategy": self.strategy}
            found = _NEXT[bool(whose)].rows(connection, after=self.since, settled=bound, **whose)
        self.since = found[-1]["id"] if len(found) == LOOK else bound
        return found

    def latest(self, most: int) -> None:
        """Move on to before the newest so many events."""
        newest = select(_E.id).order_by(_E.id.desc()).offset(most).limit(1)
        if self.strategy is not None:
            newest = newest.join_from(order_events, orders).where(orders.c.strategy == self.strategy)
        with self.database.read() as connection:
            self.since = connection.execute(newest.where(_E.id <= settled(connection))).scalar() or 0


def must_have_been(database: Database, since: int) -> None:
    """See that a place is one that this record has handed out: behind any other, events would be left out unseen.

    Args:
        database: the record.
        since: the id of the last event that a reader has seen; 0 for none.

    Raises:
        InvalidRequest: it is no number, below 0, or no event can have had that id yet.
        DatabaseUnavailable: nobody can say.
    """
    if not hasattr(since, "__index__") or isinstance(since, bool):  # numpy's whole numbers are welcome
        raise InvalidRequest(f"since: must be the id of an event, a whole number, was {since!r:.100}")
    if since == 0:
        return
    with database.read() as connection:
        newest = settled(connection)
    if not 0 < since <= newest:
        raise InvalidRequest(
            f"since: {since} is the id of no event yet, the newest is {newest}; was the place kept for another record? "
            "0 begins at the first event"
        )


def settled(connection: Connection) -> int:
    """Return the id up to which every event that will ever be there can be seen by the next statement; 0 for none."""
    if connection.dialect.name == "sqlite":
        return connection.execute(select(func.max(_E.id))).scalar() or 0
    newest, below = connection.execute(_SETTLED).one()
    return int(newest or 0) if below is None else min(int(newest or 0), int(below))


def holdup(connection: Connection) -> Holdup:
    """Return what holds the stream now: a transaction that writes events and has not ended."""
    if connection.dialect.name == "sqlite":  # its one writer holds all other writers, and no event
        return Holdup()
    bound = settled(connection)
    writer = connection.execute(_OLDEST_WRITER).one_or_none()
    if writer is None:
        return Holdup()
    waiting: datetime | None = connection.execute(_WAITING_SINCE, {"settled": bound}).scalar()
    begun = [at for at in (writer.xact_start, waiting) if at is not None]
    age = max((writer.now - min(begun, default=writer.now)), timedelta()).total_seconds()
    who = f"of {writer.usename} ({writer.application_name or 'no name'})" if writer.usename else "of somebody else"
    return Holdup(age, f"process {writer.pid} {who}")
