"""The rows of data requests, as workers change them: claimed, moved on, put back, handed on, finished.

Every change but the claim is fenced: it touches a row only while this worker still has it, so a worker that was
suspended and wakes up writes nothing over the one that took its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Unpack

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from models.record.changes import FetchChanges
from models.record.database import Database
from models.record.fetches import BarsRequest, BarsSummary, store_bars, summary
from models.record.rows import FetchRow
from models.record.statements import fetch
from models.record.tables import fetches, workers
from models.record.told import changed
from models.reports import Bars
from models.settings import TimingSettings
from worker.fleet.liveness import alive_brokers
from worker.runtime.clock import utcnow

#: Requests taken from the table at one look.
BATCH = 20
#: Bars under way wait so long for a worker of their broker before another one begins them anew.
STARTED_PATIENCE_S = 60.0
#: A request of which the broker that is asked next has done nothing.
_UNBEGUN: FetchChanges = {"result": None, "cursor": None, "stored": 0, "tries": 0, "progress": None}


class Taken(Exception):
    """Another worker has this request now."""


def next_broker(row: FetchRow) -> str | None:
    """Return who follows on the route of a request."""
    route = list(row["route"])
    rest = route[route.index(row["broker"]) + 1 :] if row["broker"] in route else []
    return rest[0] if rest else None


def left_out(row: FetchRow) -> int:
    """Return how many bars were left out of what is stored, because they had no prices or no time."""
    return int((row["result"] or {}).get("left_out", 0))


def add_error(known: str | None, new: str) -> str:
    """Append what a broker said to what was said before."""
    return new if not known else known if new in known else f"{known}; {new}"


class FetchRows:
    """The statements of one worker on `fetches`.

    The row given to them is the one as claimed; `store` keeps its cursor, stored and tries up to date.
    """

    def __init__(self, database: Database, broker: str, worker: str, timing: TimingSettings) -> None:
        self.database, self.broker, self.worker, self.timing = database, broker, worker, timing

    # -- TAKE ---
    def waiting(self, now: datetime) -> list[tuple[str, str]]:
        """Return fetch_id and kind of what nobody works on though it is due: its message is lost, or its worker."""
        f = fetches.c
        late = f.updated_at < now - timedelta(seconds=self.timing.sweep_after)
        due = or_(and_(f.status == "queued", f.available_at <= now, late), self._orphan(now))
        query = select(f.fetch_id, f.kind).where(f.broker == self.broker, due).order_by(f.updated_at).limit(BATCH)
        with self.database.read() as connection:
            return [(fetch_id, kind) for fetch_id, kind in connection.execute(query)]

    def claim(self, fetch_id: str) -> FetchRow | None:
        """Take a request, unless it is done, another worker's, or has to wait; returns its row."""
        now, f = utcnow(), fetches.c
        mine = (f.fetch_id == fetch_id) & (f.broker == self.broker)
        free = or_(and_(f.status == "queued", f.available_at <= now), self._orphan(now))
        values = {
            "status": "running",
            "worker": self.worker,
            "lease_until": self._lease(now),
            "started_at": now,
            "updated_at": now,
            "attempt_no": f.attempt_no + 1,
        }

        def work(connection: Connection) -> FetchRow | None:
            if not connection.execute(update(fetches).where(mine & free).values(**values)).rowcount:
                return None
            (row,) = fetch(connection, select(fetches).where(mine), FetchRow)
            return row

        return self.database.transact(work)

    def _orphan(self, now: datetime) -> ColumnElement[bool]:
        f, w = fetches.c, workers.c
        fresh = and_(w.heartbeat_at >= now - timedelta(seconds=self.timing.dead_after), w.state != "stopped")
        dead = f.worker.not_in(select(w.worker).where(fresh))
        return and_(f.status == "running", or_(f.lease_until < now, dead))

    def stranded(self, now: datetime) -> Sequence[FetchRow]:
        """Return what waits at brokers without a living worker and has somewhere to go, or no time to wait."""
        f = fetches.c
        old = now - timedelta(seconds=self.timing.strand_after)
        very_old = now - timedelta(seconds=self.timing.strand_after + STARTED_PATIENCE_S)
        due = and_(
            f.status.in_(("queued", "running")),
            f.available_at <= old,
            or_(f.updated_at <= very_old, and_(f.updated_at <= old, f.cursor.is_(None))),
        )
        with self.database.read() as connection:
            alive = alive_brokers(connection, now, self.timing.dead_after)
            query = select(fetches).where(due, f.broker.not_in(alive)).order_by(f.updated_at).limit(BATCH)
            rows = fetch(connection, query, FetchRow)
        return [row for row in rows if row["kind"] != "bars" or next_broker(row) is not None]

    # -- WORK ---
    def renew(self, fetch_ids: Sequence[str]) -> None:
        """Say that this worker still works on these."""
        held = and_(fetches.c.fetch_id.in_(fetch_ids), self._held())
        with self.database.write() as connection:
            connection.execute(update(fetches).where(held).values(lease_until=self._lease(utcnow())))

    def store(self, row: FetchRow, wanted: BarsRequest, page: Bars, until: datetime) -> None:
        """Write a page and move the cursor behind it, in one transaction.

        Raises:
            Taken: nothing was written.
        """
        now = utcnow()
        moved: FetchChanges = {"cursor": until, "stored": row["stored"] + len(page), "tries": 0}
        if page.left_out:  # whoever goes on from the cursor goes on counting
            moved["result"] = {"left_out": left_out(row) + page.left_out}
        asked_at = wanted.asked_by(min(row["created_at"], now))
        values = {**moved, "progress": wanted.share_done(until), "updated_at": now, "lease_until": self._lease(now)}

        def work(connection: Connection) -> None:
            store_bars(connection, self.broker, wanted.symbol, wanted.frame, page, asked_at)
            if not connection.execute(update(fetches).where(self._mine(row)).values(**values)).rowcount:
                raise Taken(row["fetch_id"])

        self.database.transact(work)
        row.update(moved)

    def summary(self, wanted: BarsRequest) -> BarsSummary:
        """Return what is stored of a request for bars."""
        with self.database.read() as connection:
            return summary(connection, self.broker, wanted)

    # -- END ---
    def finish(self, row: FetchRow, **values: Unpack[FetchChanges]) -> None:
        """Write how a request ended."""
        self._write(row, {"ended_at": utcnow(), "lease_until": None, **values})

    def put_back(self, row: FetchRow, *, pause: float, **values: Unpack[FetchChanges]) -> None:
        """Leave a request to whoever of this broker's workers takes it after a pause; its cursor stays."""
        later = utcnow() + timedelta(seconds=pause)
        self._write(row, {"status": "queued", "lease_until": None, "available_at": later, **values})

    def release_all(self) -> None:
        """Put everything back that this worker has."""
        now = utcnow()
        with self.database.write() as connection:
            connection.execute(
                update(fetches)
                .where(self._held())
                .values(status="queued", worker=None, lease_until=None, available_at=now, updated_at=now)
            )

    def hand_on(self, row: FetchRow, error: str) -> str | None:
        """Queue a request for the next broker on its route, or let it fail; returns that broker."""
        following, errors, now = next_broker(row), add_error(row["error"], error), utcnow()
        if following is None:
            self._write(row, {"status": "failed", "error": errors, "ended_at": now, "lease_until": None})
            return None
        handed: FetchChanges = {
            "status": "queued",
            "broker": following,
            "error": errors,
            "available_at": now,
            "worker": None,
            "lease_until": None,
            **_UNBEGUN,
        }
        self._write(row, handed)
        return following

    def _write(self, row: FetchRow, values: FetchChanges) -> None:
        """Change a request that is still ours.

        Raises:
            Taken: somebody else has it by now.
        """
        put = update(fetches).where(self._mine(row)).values(updated_at=utcnow(), **values)

        def work(connection: Connection) -> int:
            changed(connection, [row["fetch_id"]])
            return connection.execute(put).rowcount

        if not self.database.transact(work):
            raise Taken(row["fetch_id"])

    def _mine(self, row: FetchRow) -> ColumnElement[bool]:
        """The row is as it was read: same claim, same holder, same broker."""
        f = fetches.c
        holder = f.worker.is_(None) if row["worker"] is None else f.worker == row["worker"]
        same = and_(f.fetch_id == row["fetch_id"], f.status == row["status"], f.broker == row["broker"])
        return and_(same, holder, f.attempt_no == row["attempt_no"])

    def _held(self) -> ColumnElement[bool]:
        return and_(fetches.c.worker == self.worker, fetches.c.status == "running")

    def _lease(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self.timing.lease)
