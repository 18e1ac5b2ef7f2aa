"""The row of an order that cannot be read, or recorded: what can be read of it, and why not the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import cast

from models import encoding
from models.messages import denied_id, exact, is_id
from models.record.rows import NewOrder, by_name
from models.vocabulary import Status

#: What a denied row has from outside, beside its reason.
GIVEN = (
    "strategy", "symbol", "side", "quantity", "notional", "order_type", "limit_price", "stop_price", "time_in_force",
    "tags",
)  # fmt: skip


def denied_row(body: object, reason: str, broker: str, now: datetime, *, code: str | None = None) -> NewOrder:
    """Return the row of an order that cannot be read: what can be read of it, and why not the rest.

    It never has the id that it claims: an order that can be read may come under that, and must find it free.
    """
    given = content_of(body)
    claimed = given.get("client_order_id")
    if isinstance(claimed, str) and is_id(claimed):
        reason += claim_of(claimed)
    raw = _raw(body)
    row: NewOrder = {
        "client_order_id": denied_id(body),
        "version": 1,
        "strategy": _text(given.get("strategy"), 128),
        "symbol": _text(given.get("symbol"), 32),
        "side": _text(given.get("side"), 16),
        "quantity": _number(given.get("quantity")),
        "notional": _number(given.get("notional")),
        "order_type": _text(given.get("order_type"), 16),
        "limit_price": _number(given.get("limit_price")),
        "stop_price": _number(given.get("stop_price")),
        "trail_amount": None,
        "trail_percent": None,
        "time_in_force": _text(given.get("time_in_force"), 8),
        "extended_hours": False,
        "tags": {"message": raw},
        "decision_price": None,
        "asset_class": None,
        "currency": None,
        "expires_at": None,
        "status": str(Status.DENIED),
        "route": [broker],
        "broker": broker,
        "account": None,
        "body_hash": denied_id(body),
        "available_at": now,
        "created_at": now,
        "updated_at": now,
        "closed_at": now,
        "attempt_no": 0,
        "filled_quantity": Decimal(0),
        "reason": reason,
        "reason_code": None,
        "not_before": None,
        "session": None,
        "held_for": None,
        "group_id": None,
        "group_kind": None,
        "leg": None,
        "legs": None,
        "good_till": None,
        "limit_offset": None,
        "display_quantity": None,
        "hidden": None,
        "algo": None,
    }
    return cast("NewOrder", by_name(row) | {"reason_code": str(code)}) if code else row


def claim_of(client_order_id: str) -> str:
    """Return with which words the reason of a denied order ends that called itself so."""
    return f" (in an order that called itself {client_order_id})"


def content_of(body: object) -> Mapping[str, object]:
    """Return the fields of an order object, or of the text in an envelope, as far as they can be read."""
    if not isinstance(body, Mapping):
        return {}
    if "signed" in body:
        try:
            found = encoding.exactly(body["signed"])
        except (ValueError, TypeError, RecursionError):
            return {}
        return found if isinstance(found, Mapping) else {}
    return body


def without_given(row: NewOrder) -> NewOrder:
    """Return a denied row without anything that came from outside but its reason."""
    return cast("NewOrder", by_name(row) | dict.fromkeys(GIVEN))


def _raw(body: object) -> str:
    try:
        return json.dumps(body, default=str)[:1000]
    except (ValueError, TypeError, RecursionError):
        return "not to be written as JSON"


def _text(value: object, longest: int) -> str | None:
    """Readable text: no database takes a lone surrogate, and PostgreSQL no NUL."""
    if not isinstance(value, str):
        return None
    return "".join(c if c.isprintable() else "\ufffd" for c in value[:longest])


def _number(value: object) -> Decimal | None:
    try:
        number = exact(value)
    except ValueError:
        return None
    return number if -(10**15) < number < 10**15 and number.adjusted() > -10 else None
