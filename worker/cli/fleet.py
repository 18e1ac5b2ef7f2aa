"""`corro fleet`: who is at work, what is stopped, whether every broker takes orders; its exit status says so too."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.vocabulary import CANNOT_READ
from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, opened, tell

if TYPE_CHECKING:
    from models.record.database import Database
    from models.record.rows import HaltRow, WorkerRow
    from models.settings import Settings

Row = Mapping[str, Any]

_COLUMNS = ("broker", "worker", "state", "leader", "heartbeat_at", "started_at", "positions_at", "stopped", "detail")
#: A worker that died so recently has a line of its own beside the others of its broker.
_FRESHLY_DEAD = timedelta(minutes=10)
#: Events that a transaction has held back for longer are a remark, seconds.
_HELD_S = 1.0
#: State of a line for a configured broker that nobody works for.
NO_WORKER = "no worker"
#: State of a worker that is connected and sends, and cannot read what happens at its broker.
UNREAD = "unread"


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


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(fleet)


def fleet(
    check: Annotated[bool, typer.Option("--check", help="one line: whether every broker takes orders")] = False,
    out: Out = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Show the workers, what is stopped, and what is wrong; exit 1 unless every configured broker takes orders."""
    form = Form(json, out, wide)
    with opened() as (settings, database):
        seen = _look(settings, database, remarks=json or not check)
        configured = ", ".join(settings.all_brokers)
    ok = not seen.troubles
    if check:
        line = f"ok: {configured} take orders" if ok else f"not ok: {'; '.join(seen.troubles)}"
        told = {"ok": ok, "troubles": seen.troubles, "remarks": seen.remarks}
        show.document(told) if json else show.say((line, "green" if ok else "bold red"))
    else:
        shown, gone = (seen.rows, []) if json or out is not None else present(seen.rows, datetime.now(UTC))
        tell(shown, _COLUMNS, form, title="workers")
        if not json:
            for line in gone:
                show.note((line, "dim"))
            for line in seen.troubles:
                show.note((line, "bold red"))
            for line in seen.remarks:
                show.note((line, "yellow"))
    raise typer.Exit(0 if ok else 1)


def _dead(rows: Sequence["WorkerRow"]) -> set[str]:
    """Return the workers of this host whose process is gone."""
    from worker.fleet.identity import Identity, is_on_this_host, process_is_over

    here = Identity("nobody")
    return {row["worker"] for row in rows if is_on_this_host(row, here) and process_is_over(row)}


def _look(settings: "Settings", database: "Database", remarks: bool) -> Picture:
    from models.record.reading import count_of_locks, halt_rows, lease_holders, worker_rows

    now, timing = datetime.now(UTC), settings.timing
    with database.read() as connection:
        rows, stops = worker_rows(connection), halt_rows(connection)
        leaders = set(lease_holders(connection, now).values())
        locked = count_of_locks(connection)
    silent = timedelta(seconds=timing.dead_after)
    seen = picture(rows, leaders, stops, list(settings.all_brokers), now, silent, _dead(rows))
    if not remarks:  # a line for a monitor: the queue is not asked, and its client not imported
        return seen
    from models.record.evidence import unresolved
    from models.record.stream import holdup
    from worker.cli.dead_letters import hint

    if unknown := len(unresolved(database, timing.alert_after)):
        seen.remarks.append(f"outcomes nobody knows: {unknown}; `corro unresolved` lists them")
    if locked:
        seen.remarks.append(f"symbols locked: {locked}; `corro locks` lists them")
    with database.read() as connection:
        held = holdup(connection)
    if held.seconds > _HELD_S:
        words = f"a transaction that has been open for {held.seconds:.0f} s, {held.words}"
        seen.remarks.append(f"events are held back by {words}; they come when it ends")
    if said := hint(settings):
        seen.remarks.extend(said.splitlines())
    return seen


def picture(
    rows: Sequence["WorkerRow"],
    leaders: Collection[str],
    stops: Sequence["HaltRow"],
    configured: Sequence[str],
    now: datetime,
    silent_after: timedelta,
    dead: Collection[str] = (),
) -> Picture:
    """Judge the fleet: pure.

    Args:
        rows: of the table `workers`.
        leaders: workers that hold a lease.
        stops: halts and drains in force.
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
    troubles = [_said(stop, now) for stop in stops]
    for broker in configured:
        states = {row["state"]: row for row in listed if row["broker"] == broker and row["state"] != "stopped"}
        if UNREAD in states:  # whoever else is ready: what it does is not seen
            troubles.append(f"{broker}: {states[UNREAD]['detail']}")
        elif "ready" in states:
            continue
        elif not states:
            blank = dict.fromkeys(rows[0]) if rows else {}
            gone = {"broker": broker, "worker": None, "state": NO_WORKER, "leader": None, "stopped": None}
            listed.append({**blank, **gone, "stopped": _stopped(gone, stops)})
            troubles.append(f"{broker}: {NO_WORKER}; `corro worker {broker}` or `corro up`")
        elif set(states) == {"silent"}:
            age = (now - states["silent"]["heartbeat_at"]).total_seconds()
            troubles.append(f"{broker}: its worker is dead, heard {age:.0f} s ago")
        else:
            seen = next(row for state, row in states.items() if state != "silent")
            troubles.append(f"{broker}: {seen['state']}" + (f", {seen['detail']}" if seen["detail"] else ""))
    return Picture(listed, troubles)


def _state(row: Row, now: datetime, silent_after: timedelta) -> tuple[str, str | None]:
    """Return state and detail as they are now: of a dead worker, its detail is what it once said."""
    state, detail = row["state"], row["detail"]
    if state != "stopped" and row["heartbeat_at"] < now - silent_after:
        age = (now - row["heartbeat_at"]).total_seconds()
        return "silent", f"said {_lapse(age)} ago: {detail}" if detail else detail
    if state == "ready" and (detail or "").startswith(CANNOT_READ):
        return UNREAD, detail
    return state, detail


def _lapse(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


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


def _stopped(row: Row, stops: Sequence["HaltRow"]) -> str | None:
    kinds = [stop["kind"] for stop in stops if stop["scope"] in ("*", row["broker"])]
    return ", ".join(kinds) or None


def _said(stop: "HaltRow", now: datetime) -> str:
    scope = "all brokers" if stop["scope"] == "*" else stop["scope"]
    ends = "corro resume" if stop["scope"] == "*" else f"corro resume --broker {stop['scope']}"
    since = (now - stop["at"]).total_seconds()
    return (
        f"{stop['kind']} of {scope} since {stop['at']:%Y-%m-%d %H:%M:%S} UTC ({since:.0f} s) by {stop['by']}: "
        f"{stop['reason']}; `{ends}` ends it"
    )
