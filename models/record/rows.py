"""The rows of `models.record.tables`, as SQLAlchemy and `Query` hand them over: for the type checker, free at run time.

Money and sizes are Decimal, times aware UTC, JSON its lists and dicts; what may be null may be None. What the database
fills in (an `id`) is missing in a row that was not inserted yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NotRequired, TypedDict, cast

from models.record.group_rows import _OfGroup
from models.record.kind_tables import _OfKind

Json = dict[str, Any]  #: An object, with the fields that its writer gave it.


def by_name(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row as what it is at run time, for code that goes over the names of columns."""
    return cast("dict[str, Any]", row)


class _NewOrder(_OfGroup, _OfKind):
    client_order_id: str
    version: int
    strategy: str | None
    asset_class: str | None
    currency: str | None
    #: None: an order of money, `notional` says how much; or it could not be read.
    quantity: Decimal | None
    notional: Decimal | None
    account: str | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_amount: Decimal | None
    trail_percent: Decimal | None
    decision_price: Decimal | None
    extended_hours: bool
    tags: list[str] | dict[str, str] | None
    status: str
    attempt_no: int
    filled_quantity: Decimal
    reason: str | None
    reason_code: str | None
    not_before: datetime | None
    session: str | None
    held_for: str | None
    legs: list[Json] | None
    body_hash: str
    available_at: datetime
    created_at: datetime
    expires_at: datetime | None
    closed_at: datetime | None
    updated_at: datetime


class _Order(_NewOrder):
    broker_order_id: str | None
    broker_status: str | None
    avg_fill_price: Decimal | None
    cancel_requested_at: datetime | None
    cancel_sent_at: datetime | None
    replace_request: Json | None
    key_id: str | None
    signed_text: str | None
    signature: str | None
    amended_at: datetime | None
    wishes: list[Json] | None
    submitted_at: datetime | None
    accepted_at: datetime | None


class _Terms(TypedDict):
    symbol: str | None
    side: str | None
    order_type: str | None
    time_in_force: str | None
    route: list[str] | None
    broker: str | None


class NewOrder(_NewOrder, _Terms):
    """The columns that an order is recorded with; all others are null. Every `OrderRow` is one as well."""


class OrderRow(_Order, _Terms):
    """An order, whether or not its message could be read: its terms are None where it could not."""


class ReadableOrder(_Order):
    """An order whose message could be read: all but those that were denied for their form."""

    symbol: str
    side: str
    order_type: str
    time_in_force: str
    route: list[str]
    broker: str


#: A row of `orders`, as new, as stored, or as one that can be read.
AnyOrder = NewOrder | OrderRow | ReadableOrder


class AttemptRow(TypedDict):
    """One try of an order at one broker, or one replace of it."""

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


class FillRow(TypedDict):
    """An execution of one of our orders; `id` is the database's."""

    id: NotRequired[int]
    broker: str
    account: str | None
    execution_id: str
    client_order_id: str
    attempt_no: int
    symbol: str | None
    leg: int | None
    side: str | None
    strategy: str | None
    quantity: Decimal
    price: Decimal | None
    cumulative_quantity: Decimal | None
    currency: str | None
    multiplier: Decimal | None
    commission: Decimal | None
    commission_currency: str | None
    revision: int
    voided_at: datetime | None
    inferred: bool
    filled_at: datetime
    recorded_at: datetime
    late: bool


class OrderEventRow(TypedDict):
    """A step of an order, in the order in which they happened."""

    id: NotRequired[int]
    client_order_id: str
    at: datetime
    kind: str
    from_status: str | None
    to_status: str | None
    detail: str | None


class FetchRow(TypedDict):
    """A request for data."""

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


class BarRow(TypedDict):
    """A bar of a symbol's history."""

    broker: str
    symbol: str
    timeframe: str
    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    complete: bool | None


class AccountRow(TypedDict):
    """What a broker said last about an account."""

    broker: str
    account_id: str
    currency: str
    buying_power: Decimal | None
    cash: Decimal | None
    equity: Decimal | None
    portfolio_value: Decimal | None
    total_liquidity: Decimal | None
    day_trade_count: int | None
    paper: bool | None
    taken_at: datetime


class PositionRow(TypedDict):
    """What a broker said last about a position."""

    broker: str
    symbol: str
    quantity: Decimal
    avg_price: Decimal | None
    market_value: Decimal | None
    unrealized_pnl: Decimal | None
    account_id: str | None
    currency: str | None
    taken_at: datetime


class WorkerRow(TypedDict):
    """A worker, and how it stands."""

    worker: str
    broker: str
    host: str
    boot: str
    pid: int
    session: str | None
    lifeline: int | None
    state: str
    state_since: datetime | None
    detail: str | None
    started_at: datetime
    heartbeat_at: datetime
    positions_at: datetime | None


class LeaseRow(TypedDict):
    """Who may do now what one process alone may do."""

    name: str
    holder: str
    until: datetime
    since: datetime | None


class TallyRow(TypedDict):
    """A counter as far as it has been counted."""

    name: str
    labels: str
    value: float


class ExternalOrderRow(TypedDict):
    """An order at a broker that corro did not send."""

    broker: str
    account: str | None
    broker_order_id: str
    broker_client_order_id: str | None
    symbol: str | None
    side: str | None
    order_type: str | None
    time_in_force: str | None
    quantity: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    filled_quantity: Decimal | None
    avg_fill_price: Decimal | None
    status: str
    raw_status: str | None
    submitted_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime


class ExternalFillRow(TypedDict):
    """An execution that corro did not cause."""

    id: NotRequired[int]
    broker: str
    account: str | None
    execution_id: str
    broker_order_id: str | None
    symbol: str | None
    side: str | None
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
    recorded_at: datetime


class PositionLedgerRow(TypedDict):
    """How far the positions of a broker are added up."""

    broker: str
    fills_id: int
    external_fills_id: int
    pending: list[str]
    opened_at: datetime
    fills_read_at: datetime | None


class PositionBaselineRow(TypedDict):
    """A position as it was before the fills that came later."""

    broker: str
    symbol: str
    quantity: Decimal
    updated_at: datetime


class PositionLockRow(TypedDict):
    """A position that nothing explains."""

    broker: str
    symbol: str
    expected: Decimal
    found: Decimal
    since: datetime
    read_at: datetime
    note: str | None
