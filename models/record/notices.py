"""What notifications are made from, and the messages: read and written here, judged in `worker.notify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, delete, func, insert, select, tuple_, update

from models import encoding
from models.notify import OF_EVENTS, Concern
from models.record import tally
from models.record.controls import ControlRow, in_force
from models.record.notice_rows import IncidentRow, NotificationRow
from models.record.notice_tables import incidents, notifications
from models.record.reading import worker_rows
from models.record.rows import PositionLockRow, WorkerRow
from models.record.statements import fetch, insert_many, upsert
from models.record.stream import settled
from models.record.tables import attempts, control_events, order_events, orders, position_locks, tallies
from models.vocabulary import LIVE, Outcome

#: Events that are read at one look; the next goes on behind them.
_LOOK = 5_000
#: Messages are remembered for so long.
_KEPT_FOR = timedelta(days=7)
#: Names of the rows of `tallies` that say how far news were read.
_EVENTS, _LETTERS = "news.events", "news.dead_letters"


@dataclass(frozen=True)
class OpenQuestion:
    """An attempt that may be live without anybody knowing, or an order that its broker shows no more."""

    client_order_id: str
    broker: str
    since: datetime


@dataclass(frozen=True)
class Noted:
    """The record at one moment, as far as people are told of it.

    Args:
        doubts: outcomes that nobody knows, for long enough to be told.
        workers: every worker that is remembered.
        locks: symbols locked.
        controls: in force.
        tripped: generations of those that a limit has set.
        happened: events of orders since the last look that are news.
    """

    doubts: list[OpenQuestion] = field(default_factory=list)
    workers: list[WorkerRow] = field(default_factory=list)
    locks: list[PositionLockRow] = field(default_factory=list)
    controls: list[ControlRow] = field(default_factory=list)
    tripped: frozenset[int] = frozenset()
    happened: list[Concern] = field(default_factory=list)


# -- READING ---
def noted(connection: Connection, now: datetime, alert_after_s: float) -> Noted:
    """Read what people may have to be told, and move on behind the events that were read.

    Args:
        connection: of a transaction that writes; whoever has it is the only one (see `worker.notify.notifier`).
        now: the moment.
        alert_after_s: an outcome that is unknown for less is nobody's concern yet.
    """
    controls = in_force(connection)
    generations = [control["generation"] for control in controls]
    trips = select(control_events.c.id).where(control_events.c.id.in_(generations), control_events.c.kind == "trip")
    return Noted(
        doubts=_doubts(connection, now - timedelta(seconds=alert_after_s)),
        workers=worker_rows(connection),
        locks=fetch(connection, select(position_locks), PositionLockRow),
        controls=controls,
        tripped=frozenset(connection.execute(trips).scalars()) if generations else frozenset(),
        happened=_happened(connection),
    )


def _doubts(connection: Connection, old: datetime) -> list[OpenQuestion]:
    a, o = attempts.c, orders.c
    what = (a.client_order_id, a.broker, a.started_at)
    open_ = a.outcome.in_([str(Outcome.UNKNOWN), str(Outcome.SENDING)]) & (a.started_at < old)
    # The way to what was raised leads over the few orders that are live, not over all that were ever accepted.
    raised = o.status.in_([str(status) for status in LIVE]) & a.alerted_at.is_not(None) & (a.attempt_no == o.attempt_no)
    joined = select(*what[:2], a.alerted_at).join_from(attempts, orders, a.client_order_id == o.client_order_id)
    statements: tuple[Select[str, str, datetime], ...] = (select(*what).where(open_), joined.where(raised))
    found = {row[0]: OpenQuestion(*row) for statement in statements for row in connection.execute(statement)}
    return list(found.values())


def _happened(connection: Connection) -> list[Concern]:
    """Return the events since the last look that are news; the first look of all begins at the newest."""
    e, bound = order_events.c, settled(connection)
    after = _place(connection, _EVENTS)
    if after is None:
        _put_place(connection, _EVENTS, bound)
        return []
    upto = min(bound, int(after) + _LOOK)
    if upto <= after:
        return []
    news = select(order_events).where(e.id > after, e.id <= upto, e.kind.in_(list(OF_EVENTS))).order_by(e.id)
    _put_place(connection, _EVENTS, upto)
    return [
        Concern(OF_EVENTS[row.kind], row.client_order_id, row.at, row.detail or "") for row in connection.execute(news)
    ]


def new_dead_letters(connection: Connection, total: int) -> int:
    """Return how many messages were set aside since the last look, and remember it.

    Args:
        connection: of a transaction that writes.
        total: how many the queue has counted; fewer than before: it has lost its data.
    """
    before = _place(connection, _LETTERS)
    if before is None or before != total:
        _put_place(connection, _LETTERS, total)
    if before is None:
        return 0
    return total - int(before) if total >= before else total


def _place(connection: Connection, name: str) -> float | None:
    found: float | None = connection.execute(select(tallies.c.value).where(tallies.c.name == name)).scalar()
    return found


def _put_place(connection: Connection, name: str, value: int) -> None:
    put = upsert(connection, tallies).values(name=name, labels=encoding.text(()), value=value)
    connection.execute(put.on_conflict_do_update(index_elements=["name", "labels"], set_={"value": value}))


# -- WHAT STANDS ---
def incident_rows(connection: Connection) -> list[IncidentRow]:
    """Return what stands, the oldest first."""
    return fetch(connection, select(incidents).order_by(incidents.c.since, incidents.c.subject), IncidentRow)


def put_incidents(connection: Connection, rows: Sequence[IncidentRow], gone: Sequence[tuple[str, str]]) -> None:
    """Write what stands anew, and forget what is over.

    Args:
        connection: of a transaction that writes.
        rows: those that are new or have changed.
        gone: (kind, subject) of those to forget.
    """
    keys = [(row["kind"], row["subject"]) for row in rows]
    for part in (keys, list(gone)):
        if part:
            connection.execute(delete(incidents).where(tuple_(incidents.c.kind, incidents.c.subject).in_(part)))
    insert_many(connection, incidents, rows)


# -- MESSAGES ---
def last_made(connection: Connection) -> dict[str, datetime]:
    """Return when the last message of each kind was made."""
    made = func.max(notifications.c.made_at, type_=notifications.c.made_at.type)
    query = select(notifications.c.kind, made).group_by(notifications.c.kind)
    return {kind: at for kind, at in connection.execute(query)}  # noqa: C416 -- rows are no pairs to mypy


def put_messages(connection: Connection, rows: Sequence[NotificationRow]) -> None:
    """Record messages to be sent."""
    if rows:
        connection.execute(insert(notifications), list(rows))


def put_told(connection: Connection, row: NotificationRow, result: str) -> None:
    """Record a message that was sent while no row could be written; it is counted."""
    put_messages(connection, [row])
    tally.add(connection, "notifications", (row["kind"], result), 1)


def take_message(connection: Connection, now: datetime, busy_s: float) -> NotificationRow | None:
    """Take the oldest message that is due: nobody else takes it within `busy_s` seconds; None where there is none."""
    n = notifications.c
    due = select(n.id).where(n.done_at.is_(None), n.try_at <= now).order_by(n.id).limit(1)
    id_ = connection.execute(due).scalar()
    if id_ is None:
        return None
    mine = update(notifications).where(n.id == id_, n.done_at.is_(None), n.try_at <= now)
    taken = mine.values(try_at=now + timedelta(seconds=busy_s), tries=n.tries + 1)
    if connection.execute(taken).rowcount != 1:
        return None
    return next(iter(fetch(connection, select(notifications).where(n.id == id_), NotificationRow)), None)


def put_back(
    connection: Connection,
    row: NotificationRow,
    left: Sequence[str],
    *,
    result: str,
    now: datetime,
    pause_s: float | None,
) -> None:
    """Note what came of a try.

    Args:
        connection: of a transaction that writes.
        row: the message.
        left: digests of the URLs that have not taken it.
        result: sent, failed or given_up; it is counted.
        now: the moment.
        pause_s: seconds until it is tried again; None: it is done.
    """
    n = notifications.c
    then = {"done_at": now} if pause_s is None else {"try_at": now + timedelta(seconds=pause_s)}
    connection.execute(update(notifications).where(n.id == row["id"]).values(left=list(left), **then))
    tally.add(connection, "notifications", (row["kind"], result), 1)


def waiting_since(connection: Connection) -> datetime | None:
    """Return when the oldest message was made that nobody has taken yet; None where all were taken."""
    n = notifications.c
    made = select(func.min(n.made_at, type_=n.made_at.type)).where(n.done_at.is_(None))
    found: datetime | None = connection.execute(made).scalar()
    return found


def forget_old(connection: Connection, now: datetime) -> None:
    """Forget messages of a week ago."""
    connection.execute(delete(notifications).where(notifications.c.made_at < now - _KEPT_FOR))
