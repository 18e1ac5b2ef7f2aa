"""What was asked about an attempt whose outcome is unknown, and what came back: one bounded document per attempt.

    {"query": "by the id we gave it", "times": 7, "first_at": "...", "last_at": "...",
     "answers": {"missing":   {"times": 4, "at": "...", "words": "..."},
                 "ambiguous": {"times": 2, "at": "...", "words": "...", "candidates": [{...}, ...]},
                 "error":     {"times": 1, "at": "...", "words": "..."}}}

Of every kind of answer the last one is kept, with how often that kind came; so it does not grow with the looking.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, and_, case, exists, func, literal_column, or_, select

from models.encoding import to_json
from models.kinds import EXTRAS
from models.outward import discreet
from models.record.database import Database
from models.record.rows import Json
from models.record.statements import unindexed
from models.record.tables import STRAY, attempts, fills, order_events, orders, workers
from models.reports import MOST_CANDIDATES, Ambiguous, BrokerStatus, Found, Missing, OrderReport, Sighting
from models.troubles import trouble
from models.vocabulary import (
    LIVE,
    UNCLEAR,
    UNEXPLAINED,
    WAITS_FOR_OWNER,
    OrderType,
    Outcome,
    Side,
    Status,
    TimeInForce,
)

Row = dict[str, Any]

#: Looks in vain after which a live order is a question; word for word as the index has it.
LOST_AFTER = 3
_LOST = attempts.c.missing >= literal_column(str(LOST_AFTER))

#: Characters of an answer's words that are kept.
_LONGEST = 500
_TERMS = (
    "symbol", "side", "quantity", "notional", "order_type", "limit_price", "stop_price", "trail_amount",
    "trail_percent", "time_in_force", "filled_quantity", "submitted_at", "account",
)  # fmt: skip
#: How the terms of a kept order are read again.
_READ: dict[str, Callable[[str], object]] = {
    "symbol": str, "account": str, "side": Side, "order_type": OrderType, "time_in_force": TimeInForce,
    "submitted_at": datetime.fromisoformat,
    **dict.fromkeys(("quantity", "notional", "limit_price", "stop_price", "trail_amount", "trail_percent"), Decimal),
}  # fmt: skip
_SENT = (
    "symbol", "side", "quantity", "notional", "order_type", "limit_price", "stop_price", "trail_amount",
    "trail_percent", "time_in_force", "extended_hours", *EXTRAS,
)  # fmt: skip


def fold(before: Json | None, answer: Sighting | Exception, at: datetime, query: str) -> Json:
    """Add one look to the evidence.

    Args:
        before: the evidence so far; None at the first look.
        answer: what came back; an exception where the broker could not be asked.
        at: when it was asked.
        query: how the order was looked for.
    """
    found = dict(before or {"times": 0, "first_at": to_json(at), "answers": {}})
    kind = _kind(answer)
    times = found["answers"].get(kind, {}).get("times", 0) + 1
    told = {"times": times, "at": to_json(at), "words": discreet(_words(answer))[:_LONGEST]}
    if isinstance(answer, Ambiguous):
        told["candidates"] = [candidate(report) for report in answer.candidates[:MOST_CANDIDATES]]
    if isinstance(answer, Found):
        told["candidates"] = [candidate(answer.report)]
    return found | {
        "query": query,
        "times": found["times"] + 1,
        "last_at": to_json(at),
        "answers": {**found["answers"], kind: told},
    }


def _kind(answer: Sighting | Exception) -> str:
    return "error" if isinstance(answer, Exception) else type(answer).__name__.lower()


def _words(answer: Sighting | Exception) -> str:
    """Say what an answer was."""
    if isinstance(answer, Missing):
        return answer.evidence
    if isinstance(answer, Found):
        return f"order {answer.report.broker_order_id} is {answer.report.status}"
    if isinstance(answer, Ambiguous):
        return answer.text
    return trouble(answer)


def candidate(report: OrderReport) -> Row:
    """Return an order at the broker as it is kept and shown."""
    row: Row = {"broker_order_id": report.broker_order_id, "status": str(report.status)}
    row |= {name: to_json(getattr(report, name)) for name in _TERMS}
    return {name: value if value is None else str(value) for name, value in row.items()}


def reported(kept: Row) -> OrderReport:
    """Return an order at the broker as `candidate` has kept it: its terms, which is all that is asked of it."""
    told = {name: read(kept[name]) for name, read in _READ.items() if kept.get(name) is not None}
    return OrderReport(status=BrokerStatus.UNKNOWN, broker_order_id=kept["broker_order_id"], **told)  # type: ignore[arg-type]


def latest(evidence: Json | None) -> str:
    """Say in one line what came back last."""
    answers = (evidence or {}).get("answers", {})
    if not answers:
        return "not asked yet"
    kind, told = max(answers.items(), key=lambda item: str(item[1]["at"]))
    return f"{kind} ({told['times']} times): {told['words']}"


# -- OPEN ATTEMPTS ---
def unresolved(
    database: Database,
    longest_send_s: float,
    *,
    cancel_alert_s: float = 120.0,
    dead_after_s: float = 10.0,
    unexplained_since: datetime | None = None,
) -> list[Row]:
    """Return what may be live, or ended, without our knowing, oldest first, each with the evidence about it.

    Attempts whose outcome is unknown; live orders that no listing of their broker has any more, or whose status there
    says nothing; cancels that had no effect; wishes that wait for the worker that alone may carry them out; attempts
    that are alive though given up; orders of which the broker changed an execution that the record does not have, and
    live ones whose row was changed by hand.

    Args:
        database: the record.
        longest_send_s: an attempt that is being sent for longer than this is listed as well.
        cancel_alert_s: so is an order whose cancel was asked for longer ago and that has not ended.
        dead_after_s: a worker without a heartbeat for this long is dead.
        unexplained_since: changes of unknown executions count from here on, until a person has noted them; None: not.
            They are found among all events since then.

    Returns:
        The columns of the attempt, with `sent` (what was sent, when, by whom, under which id), `asked` (how, how often,
        when last, when next), `answers` (what came back, by kind); or null: `waits_for` (who has to be alive for its
        cancel or replace), `unclear` (a status that says nothing), `unexplained` (a change that fits no execution),
        `altered` (what somebody has written into its row), `cannot_ask` (why its broker cannot be asked now).
    """
    now, a, o = datetime.now(UTC), attempts.c, orders.c
    late = a.started_at < now - timedelta(seconds=longest_send_s)
    unclear = o.reason_code == UNCLEAR
    canceling = o.cancel_requested_at < now - timedelta(seconds=cancel_alert_s)
    waiting = o.reason_code == WAITS_FOR_OWNER
    # The way to loose ends leads over the few orders that are live, not over all that were ever accepted.
    live = [str(status) for status in LIVE]
    newest = and_(a.attempt_no == o.attempt_no, unindexed(a.outcome) == str(Outcome.ACCEPTED))
    at_brokers = o.status.in_([*live, str(Status.SUBMITTED)])
    ends = and_(at_brokers, newest, or_(canceling, waiting, unclear))
    lost = and_(_LOST, unindexed(o.status).in_(live), newest)
    tries = attempts.alias()
    of_it = select(func.max(tries.c.attempt_no)).where(tries.c.client_order_id == o.client_order_id)
    is_at_it = exists().where(tries.c.client_order_id == o.client_order_id, tries.c.attempt_no == o.attempt_no)
    open_ = or_(a.outcome == str(Outcome.UNKNOWN), (a.outcome == str(Outcome.SENDING)) & late)
    terms = [o[name] for name in (*_SENT, "strategy", "status", "expires_at")]
    told = [case((which, o.reason)).label(name) for name, which in (("waits_for", waiting), ("unclear", unclear))]
    told.append(case((and_(at_brokers, ~is_at_it), o.attempt_no)).label("altered"))
    joined = select(attempts, *terms, *told).join_from(attempts, orders, a.client_order_id == o.client_order_id)
    with database.read() as connection:
        changes = _unexplained(connection, unexplained_since) if unexplained_since else {}
        asks = and_(a.client_order_id.in_(changes), a.attempt_no == o.attempt_no)
        # By themselves first: there are hardly any, and of each live order only whether it is one is looked up.
        at_none = connection.execute(select(o.client_order_id).where(at_brokers, ~is_at_it)).scalars().all()
        altered = and_(a.client_order_id.in_(at_none), a.attempt_no == of_it.scalar_subquery())
        ways = (open_, ends, STRAY, altered, lost, *([asks] if changes else []))
        found = [connection.execute(joined.where(which)).mappings().all() for which in ways]
    by_key = {(row["client_order_id"], row["attempt_no"]): dict(row) for part in found for row in part}
    rows = sorted(by_key.values(), key=lambda row: row["started_at"])
    why = {name: unreachable(database, name, dead_after_s) for name in {row["broker"] for row in rows}}
    return [
        _shown(row | {"unexplained": changes.get(row["client_order_id"]), "altered": _altered(row)})
        | {"cannot_ask": why[row["broker"]]}
        for row in rows
    ]


def _altered(row: Row) -> str | None:
    """Say that somebody has changed an order's row, and what is to be done; None where nobody has."""
    if row["altered"] is None:
        return None
    words = f"its row was changed by hand: it names attempt {row['altered']}, that it was never at"
    return f"{words}, and nothing its broker tells of it is booked; see `corro db verify`, write attempt_no back"


def _unexplained(connection: Connection, since: datetime) -> dict[str, str]:
    """Return the orders, and why, of which a change was told that fits no execution, and that nobody has noted."""
    e, f = order_events.c, fills.c
    asked = select(e.client_order_id, e.id, e.detail).where(e.at >= since, e.kind == UNEXPLAINED)
    told = connection.execute(asked.order_by(e.at)).all()
    ids = {row.client_order_id for row in told}
    if not ids:
        return {}
    noted = select(e.client_order_id, func.max(e.id)).where(e.client_order_id.in_(ids), e.kind == "resolved")
    until = {id_: last for id_, last in connection.execute(noted.group_by(e.client_order_id))}  # noqa: C416
    booked = connection.execute(select(f.client_order_id, f.execution_id).where(f.client_order_id.in_(ids))).all()
    open_: dict[str, str] = {}
    for id_, number, words in told:
        known = any(one.client_order_id == id_ and f" execution {one.execution_id}: " in words for one in booked)
        if number > until.get(id_, 0) and not known:
            open_[id_] = words
    return open_


def _shown(row: Row) -> Row:
    """Return an open attempt as people and programs see it: what was sent, what was asked, what came back."""
    evidence = row.pop("evidence") or {}
    terms = {name: row[name] for name in _SENT} | (row["terms"] or {})
    plain = {name: value for name, value in row.items() if name not in _SENT or name in ("symbol", "side", "quantity")}
    for internal in ("baseline", "terms", "lease_until", "missing", "alerted_at", "stray_at"):
        plain.pop(internal)
    return plain | {
        "sent": {
            **terms,
            "broker_client_order_id": row["broker_client_order_id"],
            "at": row["sent_at"] or row["started_at"],
            "worker": row["worker"],
            "replaces": row["replaces"],
        },
        "asked": {
            "query": evidence.get("query"),
            "times": evidence.get("times", 0),
            "first_at": evidence.get("first_at"),
            "last_at": evidence.get("last_at"),
            "next_at": row["next_check_at"],
        },
        "answers": evidence.get("answers", {}),
        "latest": row["altered"] or row["waits_for"] or row["unclear"] or row["unexplained"] or latest(evidence),
    }


def unreachable(database: Database, broker: str, dead_after: float) -> str | None:
    """Say why a broker cannot be asked now, from what its workers last said; None while one of them can."""
    with database.read() as connection:
        query = select(workers).where(workers.c.broker == broker).order_by(workers.c.heartbeat_at.desc())
        rows = list(connection.execute(query).mappings())
    fresh = [row for row in rows if row["heartbeat_at"] > datetime.now(UTC) - timedelta(seconds=dead_after)]
    if any(row["state"] == "ready" for row in fresh):
        return None
    if not fresh:
        return f"no worker of {broker} is alive" + (f" since {rows[0]['heartbeat_at']:%H:%M:%SZ}" if rows else "")
    return f"{broker} is {fresh[0]['state']}: {fresh[0]['detail']}"
