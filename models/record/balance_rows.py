"""The rows of `models.record.balance_tables`, typed as those of `models.record.rows`."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import NotRequired, TypedDict


class _Key(TypedDict):
    source: str
    broker: str
    account: str
    strategy: str
    symbol: str
    currency: str


class PositionDayRow(_Key):
    """A day of a position."""

    day: date
    quantity: Decimal | None
    cost: Decimal | None
    cost_average: Decimal | None
    realized: Decimal | None
    realized_average: Decimal | None
    fees: Decimal | None
    fees_missing: int
    multiplier: Decimal


class PositionStateRow(_Key):
    """A position after its last execution that is kept."""

    quantity: Decimal | None
    cost: Decimal | None
    cost_average: Decimal | None
    multiplier: Decimal
    last_at: datetime


class PositionLotRow(_Key):
    """A lot that is open there."""

    no: int
    shares: Decimal
    price: Decimal | None
    multiplier: Decimal
    filled_at: datetime


class PositionProgressRow(TypedDict):
    """How far executions are kept."""

    source: str
    kept_id: int
    marked_id: int
    marked_at: datetime | None
    turn: int


class PositionChangeRow(TypedDict):
    """What has to be reckoned from the beginning."""

    id: NotRequired[int]
    source: str
    broker: str
    strategy: str
    symbol: str
