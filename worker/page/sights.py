"""What each page shows beside how everything stands: rows for its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal

from models.destinations import broker_of
from models.errors import CorroError
from models.history import History, v_external_orders
from models.history.blotter import Choice, blotter, turned_away
from models.record.controls import ControlRow
from models.record.database import Database
from models.record.tables import control_events
from models.risk.strictness import ONLY_TIGHTENED
from models.settings import Settings
from models.vocabulary import Status
from worker.control.scopes import scope_of
from worker.fleet.picture import NO_WORKER, UNREAD, present
from worker.messaging.dead_letters import DeadLetters
from worker.page.overview import Overview
from worker.positions.ledger import locks
from worker.positions.told import told_positions
from worker.risk.report import limits_report

Row = Mapping[str, object]
Told = dict[str, object]

#: Rows of a list that is not the page's own subject.
_ROWS = 50
#: How far back is looked for what brokers refused, and for other people's orders.
_LATELY, _DAY = timedelta(minutes=10), timedelta(days=1)
#: Seconds that the queue has to answer a page.
_ANSWER_S = 0.5
#: The worst state of a broker's workers first, but for those that matter only where there is no better one.
_WORST_FIRST = (UNREAD, "ready", "starting", "disconnected", "silent", "stopped", NO_WORKER)


def steps(events: Sequence[Row]) -> list[Told]:
    """Return an order's events, each with the milliseconds since the one before: pure."""
    found: list[Told] = []
    for event, before in zip(events, [None, *events], strict=False):
        at, earlier = event["at"], before and before["at"]
        found.append({**event, "after_ms": _ms(earlier, at)})
    return found


def _ms(begin: object, end: object) -> float | None:
    if not isinstance(begin, datetime) or not isinstance(end, datetime):
        return None
    return (end - begin).total_seconds() * 1000


def controls(in_force: Sequence[ControlRow]) -> list[Told]:
    """Return controls as a person reads them: pure."""
    return [{**row, "where": scope_of(row).words, "kill": _kill(row)} for row in in_force]


def _kill(row: ControlRow) -> str:
    if (kill := row["kill"]) is None:
        return ""
    waits = [f"{broker}: {why}" for broker, why in sorted(kill.get("troubles", {}).items())]
    done = f"done at {', '.join(kill.get('done', [])) or 'no broker yet'}"
    return "; ".join([done, *waits])


def fleet(database: Database, settings: Settings, overview: Overview) -> Told:
    """Return what the fleet's page shows."""
    workers, gone = present(overview.seen.rows, overview.at)
    there = brokers(overview, list(settings.all_brokers))
    stopped = [scope_of(row).names.get("broker") for row in overview.now.controls]
    return {
        "brokers": there,
        "stoppable": list(dict.fromkeys([*(row["broker"] for row in there), *filter(None, stopped)])),
        "workers": [row for row in workers if row["worker"] is not None],
        "gone": gone,
        "controls": controls(overview.now.controls),
        "turned_away": turned_away(database, list(settings.all_brokers), overview.at - _LATELY),
    }


def brokers(overview: Overview, configured: Sequence[str]) -> list[Told]:
    """Return one line for each broker that is configured or still has open orders: pure."""
    now, rows = overview.now, overview.seen.rows
    elsewhere = {broker for broker, _ in now.open_orders if broker} - set(configured)
    found: list[Told] = []
    for broker in (*configured, *sorted(elsewhere)):
        mine = sorted((r for r in rows if r["broker"] == broker), key=lambda r: _WORST_FIRST.index(str(r["state"])))
        opened = {status: count for (name, status), count in now.open_orders.items() if name == broker}
        found.append(
            {
                "broker": broker,
                "state": mine[0]["state"] if mine else NO_WORKER,
                "stopped": mine[0]["stopped"] if mine else None,
                "since": mine[0].get("state_since") if mine else None,
                "workers": sum(r["state"] not in ("stopped", "silent", NO_WORKER) for r in mine),
                "queued": opened.get(str(Status.QUEUED), 0),
                "oldest": now.oldest_queued.get(broker),
                "open": sum(opened.values()),
                "unresolved": now.unresolved.get(broker, 0),
                "locks": now.locks.get(broker, 0),
            }
        )
    return found


def attention(history: History, settings: Settings, overview: Overview) -> Told:
    """Return what needs a person, but for what is unresolved."""
    return {
        "locks": locks(history.database),
        "held": blotter(history.database, Choice(statuses=(str(Status.HELD),), limit=_ROWS)).rows,
        "letters": _letters(settings) if overview.queue.up and overview.queue.waiting else [],
        "external": history.rows(v_external_orders, since=overview.at - _DAY, limit=_ROWS),
    }


def _letters(settings: Settings) -> list[dict[str, object]]:
    try:
        with closing(DeadLetters.of(settings, _ANSWER_S)) as letters:
            return letters.kept(_ROWS)
    except CorroError:  # it has answered a moment ago; the next look tells
        return []


def risk(history: History, settings: Settings, overview: Overview) -> Told:
    """Return limits with their use, controls, and who did what."""
    with history.database.read() as connection:
        limits = limits_report(connection, settings.risk, overview.at)
    return {
        "limits": [row | {"share": share(row)} for row in limits],
        "limit_names": ONLY_TIGHTENED,
        "controls": controls(overview.now.controls),
        "journal": history.rows(control_events, limit=_ROWS),
    }


def share(limit: Row) -> float | None:
    """Return what part of a limit is used, 1 at most where it was lowered below its use: pure."""
    used = limit["used"]
    if not isinstance(used, Decimal):
        return None
    value = Decimal(str(limit["value"]))
    return min(float(used / value), 1.0) if value > 0 else 1.0


def holdings(history: History, settings: Settings) -> Told:
    """Return positions: as our executions explain them, and as the brokers told them, with those that are not known."""
    told = told_positions(history.database, settings)
    unknown = {broker_of(str(row["broker"])): row["error"] for row in told.rows if row["error"]}
    return {
        "positions": history.positions(),
        "told": [row for row in told.rows if row["symbol"] is not None],
        "read": [(broker, at) for broker, at in told.read_at.items() if at is not None and broker not in unknown],
        "unknown": [f"{broker}: {words}" for broker, words in unknown.items()],
    }
