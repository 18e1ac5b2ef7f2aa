"""The rows of `models.record.history_tables`, typed as those of `models.record.rows`."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import NotRequired, TypedDict


class AccountHistoryRow(TypedDict):
    """An account as it was read."""

    id: NotRequired[int]
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
    day: date
    at: datetime


class PositionHistoryRow(TypedDict):
    """A position as it was read."""

    id: NotRequired[int]
    broker: str
    symbol: str
    quantity: Decimal
    avg_price: Decimal | None
    market_value: Decimal | None
    unrealized_pnl: Decimal | None
    account_id: str | None
    currency: str | None
    day: date
    at: datetime


class CashEventRow(TypedDict):
    """Something that an account was paid, charged or given."""

    broker: str
    event_id: str
    account: str | None
    kind: str
    amount: Decimal | None
    currency: str | None
    symbol: str | None
    quantity: Decimal | None
    price: Decimal | None
    client_order_id: str | None
    detail: str | None
    at: datetime


class PositionEventRow(TypedDict):
    """A step of a baseline or a lock."""

    id: NotRequired[int]
    broker: str
    symbol: str
    at: datetime
    kind: str
    expected: Decimal | None
    found: Decimal | None
    by: str | None
    reason: str | None
    event_id: str | None


class ToldExecutionRow(TypedDict):
    """A line of lots that is no trade."""

    id: NotRequired[int]
    source: str
    broker: str
    account: str | None
    strategy: str | None
    symbol: str
    currency: str
    shares: Decimal
    price: Decimal | None
    average_price: Decimal | None
    multiplier: Decimal
    fee: Decimal | None
    fee_currency: str | None
    filled_at: datetime
    kind: str
    event_id: str
    replaces: int | None
    revision: int
    moved: Decimal
    reason: str | None
    recorded_at: datetime
