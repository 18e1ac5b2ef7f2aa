"""Who is alive, and who leads: heartbeats and leases, both rows in the database.

A heartbeat says "this process runs and reaches the database", nothing more; whether its broker answers is `state`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, delete, insert, literal, select, update
from sqlalchemy.exc import IntegrityError

from models.outward import discreet
from models.record.columns import UtcTime
from models.record.database import Database
from models.record.tables import leases, workers
from models.settings import TimingSettings
from worker.fleet.identity import Identity
from worker.fleet.proof import Lifeline, Witness
from worker.runtime.clock import utcnow

#: Seconds that the clocks of two machines may be apart before they are believed to be wrong.
_CLOCKS_APART_S = 60.0


class Heartbeat:
    """Writes this worker's heartbeat and holds, or tries for, its broker's leadership."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        timing: TimingSettings,
        remark: Callable[[], str] = str,
        trouble: Callable[[], str] = str,
    ) -> None:
        self.database, self.me, self.timing = database, identity, timing
        self.lifeline = Lifeline(database, identity.name)
        self.witness = Witness(self.lifeline, identity, timing)
        #: What is told of a worker that has nothing to complain about.
        self.remark = remark
        #: What is wrong beside the broker; told before everything else.
        self.trouble = trouble
        self.state, self.detail = "starting", ""
        #: The session of this worker's orders; None where it has none.
        self.session: str | None = None
        self.leads = False
        #: Since when this worker has led without a break; None if it does not.
        self.tenure: datetime | None = None
        self._started = utcnow()
        #: The state as it was last written, and since when it is so.
        self._said, self._since = "", self._started

    def beat(self) -> None:
        """Write the heartbeat and renew the lease, in one transaction."""
        lifeline = self.lifeline.hold()
        now, detail = utcnow(), discreet("; ".join(filter(None, (self.trouble(), self.detail or self.remark()))))
        with self.database.write() as connection:
            if self.state != self._said:
                self._said, self._since = self.state, now
            values: dict[str, object] = {"state": self.state, "detail": detail, "heartbeat_at": now}
            values |= {"state_since": self._since, "session": self.session, "lifeline": lifeline}
            # The lease before the worker's row, as in every write that is fenced: else the two wait for each other.
            leads = take_lease(connection, self._lease, self.me.name, now, self.timing.leader_lease)
            tenure = self._tenure(connection) if leads else None
            mine = workers.c.worker == self.me.name
            if not connection.execute(update(workers).where(mine).values(**values)).rowcount:
                connection.execute(insert(workers).values(**self._row(), **values))
        self.leads, self.tenure = leads, tenure

    @property
    def _lease(self) -> str:
        return f"leader.{self.me.broker}"

    def _tenure(self, connection: Connection, *, lock: bool = False) -> datetime | None:
        mine = (leases.c.name == self._lease) & (leases.c.holder == self.me.name) & (leases.c.until > utcnow())
        query = select(leases.c.since).where(mine)
        return connection.execute(query.with_for_update() if lock else query).scalar()

    def still_leads(self, connection: Connection, tenure: datetime | None) -> bool:
        """Fence a write that only the leader may do: tell, inside its transaction, whether it still leads.

        `leads` is what the last heartbeat found; a process that was suspended since then believes it still. The lease's
        row stays locked until the transaction ends, so nobody becomes leader in the middle of it.

        Args:
            connection: of the transaction.
            tenure: as `self.tenure` was before it read what it is about to write. Who lost the lease and won it back
                has another one.
        """
        return tenure is not None and self._tenure(connection, lock=True) == tenure

    def _row(self) -> dict[str, object]:
        """Return this worker's row."""
        return {
            "worker": self.me.name,
            "broker": self.me.broker,
            "host": self.me.host,
            "boot": f"{self.me.boot}/{self.me.processes.started(self.me.pid)}",
            "pid": self.me.pid,
            "started_at": self._started,
        }

    def stop(self) -> None:
        """Say good-bye: the heartbeat ends as `stopped` and the lease is free at once."""
        self.lifeline.close()
        with self.database.write() as connection:
            connection.execute(delete(leases).where(leases.c.holder == self.me.name))
            connection.execute(
                update(workers)
                .where(workers.c.worker == self.me.name)
                .values(state="stopped", detail="", heartbeat_at=utcnow(), state_since=utcnow())
            )
            old = utcnow() - timedelta(days=7)
            connection.execute(delete(workers).where(workers.c.heartbeat_at < old))


def take_lease(connection: Connection, name: str, holder: str, now: datetime, seconds: float) -> bool:
    """Take or renew a lease; returns whether `holder` has it.

    One that ends later than any clock would have written it is free: its holder's clock was wrong, and if the holder
    is gone, nobody would lead for as long as that.
    """
    too_far = now + timedelta(seconds=seconds + _CLOCKS_APART_S)
    over = (leases.c.until < now) | (leases.c.until > too_far)
    free = (leases.c.name == name) & ((leases.c.holder == holder) | over)
    values = {"holder": holder, "until": now + timedelta(seconds=seconds)}
    unbroken = (leases.c.holder == holder) & (leases.c.until >= now)
    since = case((unbroken, leases.c.since), else_=literal(now, UtcTime()))
    if connection.execute(update(leases).where(free).values(**values, since=since)).rowcount:
        return True
    if connection.execute(select(leases.c.name).where(leases.c.name == name)).first():
        return False
    try:
        with connection.begin_nested():
            connection.execute(insert(leases).values(name=name, since=now, **values))
    except IntegrityError:
        return False
    return True
