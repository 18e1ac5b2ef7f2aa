"""The rows of limits, as in `models.record.rows`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TypedDict


class RiskLimitRow(TypedDict):
    """A limit that somebody has set."""

    scope_kind: str
    scope: str
    name: str
    value: str
    until: datetime | None
    set_by: str
    reason: str
    set_at: datetime


class RiskTallyRow(TypedDict):
    """What is used of limits, by whom, where and on which day."""

    broker: str
    account: str
    strategy: str
    symbol: str
    key_id: str
    day: str
    sent: int
    sent_value: Decimal
    open_orders: int
    buying: Decimal
    selling: Decimal
    open_buy: Decimal
    open_sell: Decimal
    realized: Decimal


class ReferencePriceRow(TypedDict):
    """The price of a symbol, as it was last seen."""

    symbol: str
    price: Decimal
    currency: str
    at: datetime
    source: str
