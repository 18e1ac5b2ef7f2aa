"""The columns of a row that change, for the type checker: as in `models.record.rows`, each may be missing.

`def set(self, **changes: Unpack[OrderChanges])` has the names and the types of its columns checked where it is called.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict

from models.record.rows import Json


class OrderChanges(TypedDict, total=False):
    """Columns of an order that change: of a `ReadableOrder`, since nothing changes the others."""

    client_order_id: str
    version: int
    strategy: str | None
    asset_class: str | None
    currency: str | None
    symbol: str
    side: str
    quantity: Decimal | None
    notional: Decimal | None
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_amount: Decimal | None
    trail_percent: Decimal | None
    decision_price: Decimal | None
    time_in_force: str
    extended_hours: bool
    tags: list[str] | dict[str, str] | None
    status: str
    route: list[str]
    broker: str
    account: str | None
    broker_order_id: str | None
    broker_status: str | None
    attempt_no: int
    filled_quantity: Decimal
    avg_fill_price: Decimal | None
    reason: str | None
    reason_code: str | None
    not_before: datetime | None
    session: str | None
    held_for: str | None
    group_id: str | None
    group_kind: str | None
    leg: str | None
    good_till: datetime | None
    limit_offset: Decimal | None
    display_quantity: Decimal | None
    hidden: bool | None
    algo: dict[str, str] | None
    legs: list[Json] | None
    body_hash: str
    cancel_requested_at: datetime | None
    cancel_sent_at: datetime | None
    replace_request: Json | None
    key_id: str | None
    signed_text: str | None
    signature: str | None
    amended_at: datetime | None
    wishes: list[Json] | None
    available_at: datetime
    created_at: datetime
    expires_at: datetime | None
    submitted_at: datetime | None
    accepted_at: datetime | None
    closed_at: datetime | None
    updated_at: datetime


class AttemptChanges(TypedDict, total=False):
    """Columns of an attempt that change."""

    client_order_id: str
    attempt_no: int
    broker: str
    account: str | None
    broker_client_order_id: str
    broker_order_id: str | None
    outcome: str
    code: str | None
    message: str | None
    worker: str
    session: str | None
    session_order_id: str | None
    started_at: datetime
    sent_at: datetime | None
    ended_at: datetime | None
    lease_until: datetime
    baseline: list[str] | None
    replaces: int | None
    terms: Json | None
    next_check_at: datetime | None
    checks: int
    missing: int
    alerted_at: datetime | None
    stray_at: datetime | None
    evidence: Json | None
    reserved: Json | None
    decision_price: Decimal | None
    arrival_bid: Decimal | None
    arrival_ask: Decimal | None
    arrival_at: datetime | None


class FillChanges(TypedDict, total=False):
    """Columns of an execution that a later word of its broker changes: no execution moves to another order.

    `deploy/roles.sql` lets workers write these, and no others.
    """

    quantity: Decimal
    price: Decimal | None
    cumulative_quantity: Decimal | None
    currency: str | None
    multiplier: Decimal | None
    commission: Decimal | None
    commission_currency: str | None
    revision: int
    voided_at: datetime | None
    filled_at: datetime


class FetchChanges(TypedDict, total=False):
    """Columns of a request for data that change."""

    fetch_id: str
    kind: str
    request: Json
    route: list[str]
    broker: str
    status: str
    attempt_no: int
    tries: int
    progress: Decimal | None
    cursor: datetime | None
    stored: int
    result: Any
    error: str | None
    worker: str | None
    lease_until: datetime | None
    available_at: datetime
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime
