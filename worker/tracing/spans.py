"""The trace of an order as plain values: which spans there are, from when to when, and what each says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from models.outward import is_id, outward, printable
from models.vocabulary import Outcome, Status

#: How an order ends that somebody will want to find.
_FAILED = {Status.REJECTED, Status.DENIED, Status.EXPIRED}
_FAILED_ATTEMPTS = {Outcome.REFUSED, Outcome.NOT_SENT, Outcome.UNKNOWN}
_OF_ORDER = (
    *("client_order_id", "strategy", "symbol", "asset_class", "side", "quantity", "notional", "order_type"),
    *("time_in_force", "status", "filled_quantity", "avg_fill_price", "broker", "account", "reason_code", "reason"),
    *("group_id", "leg"),
)
_OF_ATTEMPT = ("broker", "attempt_no", "broker_order_id", "outcome", "code", "message")

#: A row of the history, by the names of its columns.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SpanFacts:
    """One span of a trace.

    Args:
        name: what was done.
        key: unlike that of any other span of the order.
        begins: when.
        ends: when; never before it begins.
        parent: the key of the span it belongs to; None is the whole order.
        failed: it ended as nobody wished.
        words: why, of one that failed.
        attributes: by names with `corro.` before them.
        moments: what happened within: when, its name, its attributes.
    """

    name: str
    key: str
    begins: datetime
    ends: datetime
    parent: str | None = None
    failed: bool = False
    words: str = ""
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    moments: Sequence[tuple[datetime, str, Mapping[str, str | int]]] = ()


def trace_id(client_order_id: str) -> int:
    """Return the id of an order's trace: 128 bits that anybody can make from the order's id.

    The first 16 bytes of the SHA-256 of `corro:` and the client_order_id, so that a strategy can put its own spans into
    the same trace before the order exists.
    """
    return int.from_bytes(hashlib.sha256(f"corro:{client_order_id}".encode()).digest()[:16])


def span_id(client_order_id: str, key: str) -> int:
    """Return the id of a span, always the same 64 bits: a trace that is sent twice is the same trace."""
    return int.from_bytes(hashlib.sha256(f"corro:{client_order_id}:{key}".encode()).digest()[:8])


def spans_of(order: Row, attempts: Iterable[Row], fills: Iterable[Row]) -> Iterator[SpanFacts]:
    """Yield the spans of an order that has ended: the order, its wait in the queue, each attempt, its life there.

    Args:
        order: its row.
        attempts: its attempts.
        fills: its fills.
    """
    begins, ends = order["created_at"], order["closed_at"] or order["updated_at"]
    failed = order["status"] in _FAILED
    yield SpanFacts(
        f"order {order['symbol']}", "order", begins, max(begins, ends), failed=failed,
        words=outward(order["reason"] or "") if failed else "", attributes=_attributes(order, _OF_ORDER),
    )  # fmt: skip
    waits_since = begins
    for attempt in sorted(attempts, key=lambda row: row["attempt_no"]):
        number, started = attempt["attempt_no"], attempt["started_at"]
        yield SpanFacts("queued", f"queued {number}", waits_since, max(waits_since, started), parent="order")
        answered = max(started, attempt["ended_at"] or attempt["sent_at"] or started)
        bad = attempt["outcome"] in _FAILED_ATTEMPTS
        yield SpanFacts(
            f"attempt at {attempt['broker']}", f"attempt {number}", started, answered, parent="order", failed=bad,
            words=outward(attempt["message"] or "") if bad else "", attributes=_attributes(attempt, _OF_ATTEMPT),
            moments=[(attempt["sent_at"], "sent", {})] if attempt["sent_at"] else (),
        )  # fmt: skip
        waits_since = answered
    if (lives := order["accepted_at"]) is not None:
        yield SpanFacts(
            f"working at {order['broker']}", "working", lives, max(lives, ends), parent="order",
            attributes=_attributes(order, ("broker", "account", "broker_order_id")),
            moments=[(fill["filled_at"], "fill", _attributes(fill, ("execution_id", "quantity", "price", "leg")))
                     for fill in fills],
        )  # fmt: skip


def _attributes(row: Row, names: Iterable[str]) -> dict[str, str | int]:
    return {f"corro.{name}": _plain(name, row[name]) for name in names if row[name] is not None}


def _plain(name: str, value: object) -> str | int:
    """Return a value as a trace may carry it: an amount keeps its digits as text, a text tells no secret."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return printable(text) if is_id(name) else outward(text)
