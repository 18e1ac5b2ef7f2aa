"""How things stand, in numbers: what is open, waits or is unknown, and who is alive; read for a page or a scrape."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from models.destinations import broker_of
from models.record.columns import UtcTime
from models.record.controls import ControlRow, in_force
from models.record.reading import worker_rows
from models.record.rows import WorkerRow
from models.record.stream import Holdup, holdup
from models.record.tables import attempts, orders, position_locks
from models.vocabulary import OPEN, Outcome, Status


@dataclass(frozen=True)
class Gauges:
    """The record at one moment; counts and times by broker, where it has any.

    Args:
        at: the moment.
        open_orders: by broker and status.
        oldest_queued: since when the oldest queued order of a broker has been there.
        unresolved: attempts that may be live at a broker without anybody knowing.
        oldest_unresolved: since when the oldest of them.
        locks: symbols locked.
        workers: every worker that is remembered.
        controls: what is stopped.
        held: what holds the stream of events.
    """

    at: datetime
    open_orders: dict[tuple[str, str], int]
    oldest_queued: dict[str, datetime]
    unresolved: dict[str, int]
    oldest_unresolved: datetime | None
    locks: dict[str, int]
    workers: list[WorkerRow]
    controls: list[ControlRow]
    held: Holdup


def gauges(connection: Connection, now: datetime, alert_after_s: float) -> Gauges:
    """Read them.

    Args:
        connection: of a reading transaction.
        now: the moment.
        alert_after_s: a send that has been under way for longer is as good as unknown.
    """
    o, a = orders.c, attempts.c
    is_open = o.status.in_([str(status) for status in OPEN])
    by_status = select(o.broker, o.status, func.count()).where(is_open).group_by(o.broker, o.status)
    waiting = select(o.broker, func.min(o.created_at, type_=UtcTime())).where(o.status == str(Status.QUEUED))
    old = now - timedelta(seconds=alert_after_s)
    doubtful: ColumnElement[bool] = or_(
        a.outcome == str(Outcome.UNKNOWN), and_(a.outcome == str(Outcome.SENDING), a.started_at < old)
    )
    unknown = select(a.broker, func.count(), func.min(a.started_at, type_=UtcTime())).where(doubtful)
    locked = select(position_locks.c.broker)
    doubts = connection.execute(unknown.group_by(a.broker)).all()
    return Gauges(
        at=now,
        open_orders={(broker, status): count for broker, status, count in connection.execute(by_status)},
        oldest_queued={broker: at for broker, at in connection.execute(waiting.group_by(o.broker))},  # noqa: C416
        unresolved={broker: count for broker, count, _ in doubts},
        oldest_unresolved=min((at for _, _, at in doubts), default=None),
        locks=Counter(map(broker_of, connection.execute(locked).scalars())),
        workers=worker_rows(connection),
        controls=in_force(connection),
        held=holdup(connection),
    )
