"""How the fleet stands: who is at work, what is stopped, and what keeps a broker from taking orders."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from models.clock import utcnow
from models.record.controls import NOUNS, ControlRow, in_force
from models.record.database import Database
from models.record.reading import count_of_locks, lease_holders, worker_rows
from models.record.rows import WorkerRow
from models.settings import Settings
from worker.control.scopes import scope_of
from worker.fleet.identity import Identity, is_on_this_host, process_is_over
from worker.fleet.liveness import is_unread

Row = Mapping[str, Any]

#: State of a line for a configured broker that nobody works for.
NO_WORKER = "no worker"
#: State of a worker that is connected and sends, and cannot read what happens at its broker.
UNREAD = "unread"
#: A worker that died so recently has a line of its own beside the others of its broker.
_FRESHLY_DEAD = timedelta(minutes=10)
#: Events that a transaction has held back for longer are a remark, seconds.
_HELD_S = 1.0
#: So is a notification that was not taken for longer, seconds.
_UNTOLD_S = 30.0


@dataclass
class Picture:
    """The fleet at one moment.

    Args:
        rows: one for each worker, and one for each broker without any.
        troubles: what keeps a broker from taking orders, one line each; none means that every one of them does.
        remarks: what a person should see beside it.
    """

    rows: list[dict[str, object]]
    troubles: list[str]
    remarks: list[str] = field(default_factory=list)


def look(settings: Settings, database: Database) -> Picture:
    """Return the fleet as it is now.

    Raises:
        DatabaseUnavailable: nobody can say.
    """
    now, silent = utcnow(), timedelta(seconds=settings.timing.dead_after)
    with database.read() as connection:
        rows, stops = worker_rows(connection), in_force(connection)
        leaders = set(lease_holders(connection, now).values())
    return picture(rows, leaders, stops, list(settings.all_brokers), now, silent, dead_here(rows))


def remarks_of_the_record(settings: Settings, database: Database) -> list[str]:
    """Return what a person should see beside the fleet: unknown outcomes, locked symbols, events that are held back."""
    from models.record.evidence import unresolved  # a line for a monitor needs none of them, and has to be quick
    from models.record.notices import waiting_since
    from models.record.stream import holdup

    found = []
    if unknown := len(unresolved(database, settings.timing.alert_after)):
        found.append(f"outcomes nobody knows: {unknown}; `corro unresolved` lists them")
    with database.read() as connection:
        locked, held, waiting = count_of_locks(connection), holdup(connection), waiting_since(connection)
    if locked:
        found.append(f"symbols locked: {locked}; `corro locks` lists them")
    if waiting is not None and (late := (utcnow() - waiting).total_seconds()) > _UNTOLD_S:
        found.append(f"notifications that no service has taken for {late:.0f} s; `corro notify test` says why")
    if held.seconds > _HELD_S:
        words = f"a transaction that has been open for {held.seconds:.0f} s, {held.words}"
        found.append(f"events are held back by {words}; they come when it ends")
    return found


def dead_here(rows: Sequence[WorkerRow]) -> set[str]:
    """Return the workers of this host whose process is gone."""
    here = Identity("nobody")
    return {row["worker"] for row in rows if is_on_this_host(row, here) and process_is_over(row, here)}


def picture(
    rows: Sequence[WorkerRow],
    leaders: Collection[str],
    stops: Sequence[ControlRow],
    configured: Sequence[str],
    now: datetime,
    silent_after: timedelta,
    dead: Collection[str] = (),
) -> Picture:
    """Judge the fleet: pure.

    Args:
        rows: of the table `workers`.
        leaders: workers that hold a lease.
        stops: controls in force.
        configured: the brokers that should take orders.
        now: the moment.
        silent_after: a worker without a heartbeat for this long is dead.
        dead: workers that are, however short their silence.
    """
    listed: list[dict[str, Any]] = []
    for row in rows:
        state, detail = _state(row, now, timedelta() if row["worker"] in dead else silent_after)
        listed.append(
            {
                **row,
                "state": state,
                "detail": detail,
                "leader": row["worker"] in leaders,
                "stopped": _stopped(row, stops),
            }
        )
    troubles = [_said(stop, now) for stop in stops if _is_a_brokers(stop)]
    for broker in configured:
        states = {row["state"]: row for row in listed if row["broker"] == broker and row["state"] != "stopped"}
        if UNREAD in states:  # whoever else is ready: what it does is not seen
            troubles.append(f"{broker}: {(states[UNREAD]['detail'] or '').removeprefix(f'{broker}: ')}")
        elif "ready" in states:
            continue
        elif not states:
            blank = dict.fromkeys(rows[0]) if rows else {}
            gone = {"broker": broker, "worker": None, "state": NO_WORKER, "leader": None, "stopped": None}
            listed.append({**blank, **gone, "stopped": _stopped(gone, stops)})
            troubles.append(f"{broker}: {NO_WORKER}; `corro worker {broker}` or `corro up`")
        elif set(states) == {"silent"}:
            troubles.append(f"{broker}: {_silence(states['silent'], now, dead)}")
        else:
            seen = next(row for state, row in states.items() if state != "silent")
            words = (seen["detail"] or "").removeprefix(f"{broker}: ")
            troubles.append(f"{broker}: {seen['state']}" + (f", {words}" if words else ""))
    return Picture(listed, troubles, [_said(stop, now) for stop in stops if not _is_a_brokers(stop)])


def _silence(row: Row, now: datetime, dead: Collection[str]) -> str:
    """Say what is known of a worker that is not heard: it may live, unless there is proof that it does not."""
    age = (now - row["heartbeat_at"]).total_seconds()
    return f"its worker is {'dead' if row['worker'] in dead else 'silent'}, heard {age:.0f} s ago"


def _state(row: Row, now: datetime, silent_after: timedelta) -> tuple[str, str | None]:
    """Return state and detail as they are now: of a dead worker, its detail is what it once said."""
    state, detail = row["state"], row["detail"]
    if state != "stopped" and row["heartbeat_at"] < now - silent_after:
        age = (now - row["heartbeat_at"]).total_seconds()
        return "silent", f"said {_lapse(age)} ago: {detail}" if detail else detail
    if is_unread(row):
        return UNREAD, detail
    return state, detail


def _lapse(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _is_a_brokers(stop: ControlRow) -> bool:
    """Tell whether a control keeps a broker from taking orders: that of a symbol is no trouble of the fleet's."""
    return stop["scope_kind"] in ("*", "broker")


def _stopped(row: Row, stops: Sequence[ControlRow]) -> str | None:
    kinds = [NOUNS[stop["state"]] for stop in stops if _is_a_brokers(stop) and stop["scope"] in ("*", row["broker"])]
    return ", ".join(kinds) or None


def _said(stop: ControlRow, now: datetime) -> str:
    scope, since = scope_of(stop), (now - stop["at"]).total_seconds()
    return (
        f"{NOUNS[stop['state']]} of {scope.words} since {stop['at']:%Y-%m-%d %H:%M:%S} UTC ({since:.0f} s) by "
        f"{stop['by']}: {stop['reason']}; `{scope.resume}` ends it"
    )


def present(rows: Sequence[dict[str, Any]], now: datetime) -> tuple[list[dict[str, object]], list[str]]:
    """Fold what is long gone, so that a table shows who is there: pure.

    Args:
        rows: of a picture.
        now: the moment.

    Returns:
        The rows of workers that live, that died a moment ago, or that are the last of their broker; and a line for each
        broker with others.
    """
    there: list[dict[str, object]] = []
    gone: list[dict[str, Any]] = []
    for row in rows:
        if row["state"] == "silent":
            others = [r["heartbeat_at"] for r in rows if r["broker"] == row["broker"] and r["state"] != "stopped"]
            is_last = row["heartbeat_at"] == max(others)
            (there if is_last or now - row["heartbeat_at"] < _FRESHLY_DEAD else gone).append(row)
        elif row["state"] != "stopped":
            there.append(row)
    lines = []
    for broker in dict.fromkeys(row["broker"] for row in gone):
        heard = [row["heartbeat_at"] for row in gone if row["broker"] == broker]
        several = f"{len(heard)} workers" if len(heard) > 1 else "1 worker"
        lines.append(f"{broker}: {several} gone, last heard {max(heard):%Y-%m-%d %H:%M} UTC; --json has all")
    return there, lines
