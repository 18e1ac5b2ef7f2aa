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
