"""What was asked about an attempt whose outcome is unknown, and what came back: one bounded document per attempt.

    {"query": "by the id we gave it", "times": 7, "first_at": "...", "last_at": "...",
     "answers": {"missing":   {"times": 4, "at": "...", "words": "..."},
                 "ambiguous": {"times": 2, "at": "...", "words": "...", "candidates": [{...}, ...]},
                 "error":     {"times": 1, "at": "...", "words": "..."}}}

Of every kind of answer the last one is kept, with how often that kind came; so it does not grow with the looking.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select

from models.database import Database
from models.history import to_json
from models.messages import utcnow
from models.reports import MOST_CANDIDATES, Ambiguous, Found, Missing, OrderReport, Sighting
from models.tables import attempts, orders
from models.vocabulary import Outcome

Row = dict[str, Any]

#: Characters of an answer's words that are kept.
_LONGEST = 500
_TERMS = (
    "symbol", "side", "quantity", "order_type", "limit_price", "stop_price", "trail_amount", "trail_percent",
    "time_in_force", "filled_quantity", "submitted_at",
)  # fmt: skip
_SENT = (
    "symbol", "side", "quantity", "order_type", "limit_price", "stop_price", "trail_amount", "trail_percent",
    "time_in_force", "extended_hours",
)  # fmt: skip


def fold(before: Mapping[str, Any] | None, answer: Sighting | Exception, at: datetime, query: str) -> Row:
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
    told = {"times": times, "at": to_json(at), "words": _words(answer)[:_LONGEST]}
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
    if isinstance(answer, Missing):
        return answer.evidence
    if isinstance(answer, Found):
        return f"order {answer.report.broker_order_id} is {answer.report.status}"
    if isinstance(answer, Ambiguous):
        return answer.text
    return f"{type(answer).__name__}: {answer}"


def candidate(report: OrderReport) -> Row:
    """Return an order at the broker as it is kept and shown."""
    row: Row = {"broker_order_id": report.broker_order_id, "status": str(report.status)}
    row |= {name: to_json(getattr(report, name)) for name in _TERMS}
    return {name: value if value is None else str(value) for name, value in row.items()}


def latest(evidence: Mapping[str, Any] | None) -> str:
    """Say in one line what came back last."""
    answers = (evidence or {}).get("answers", {})
    if not answers:
        return "not asked yet"
    kind, told = max(answers.items(), key=lambda item: str(item[1]["at"]))
    return f"{kind} ({told['times']} times): {told['words']}"


# -- OPEN ATTEMPTS ---
def unresolved(database: Database, longest_send_s: float) -> list[Row]:
    """Return attempts that may be live without our knowing, oldest first, each with the evidence about it.

    Args:
        database: the record.
        longest_send_s: an attempt that is being sent for longer than this is listed as well.

    Returns:
        The columns of the attempt, with `sent` (what was sent, when, by whom, under which id), `asked` (how, how often,
        when last, when next) and `answers` (what came back, by kind).
    """
    late = attempts.c.started_at < utcnow() - timedelta(seconds=longest_send_s)
    open_ = or_(attempts.c.outcome == Outcome.UNKNOWN, (attempts.c.outcome == Outcome.SENDING) & late)
    terms = [orders.c[name] for name in (*_SENT, "strategy", "status", "expires_at")]
    query = (
        select(attempts, *terms)
        .join_from(attempts, orders, attempts.c.client_order_id == orders.c.client_order_id)
        .where(open_)
        .order_by(attempts.c.started_at)
    )
    with database.read() as connection:
        return [_shown(dict(row)) for row in connection.execute(query).mappings()]


def _shown(row: Row) -> Row:
    evidence = row.pop("evidence") or {}
    terms = {name: row[name] for name in _SENT} | (row["terms"] or {})
    plain = {name: value for name, value in row.items() if name not in _SENT or name in ("symbol", "side", "quantity")}
    for internal in ("baseline", "terms", "lease_until", "missing", "alerted_at"):
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
        "latest": latest(evidence),
    }
