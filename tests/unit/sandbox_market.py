"""A simulated market on its own loop, and short words for stories in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from worker.sandbox.market.market import Market, MarketEvent, MarketOrder

NOW = datetime(2026, 1, 15, 18, 0, tzinfo=UTC)  # a Thursday, 13:00 in New York


@asynccontextmanager
async def open_market(**options: Any) -> AsyncIterator[tuple[Market, list[MarketEvent]]]:
    """Give a market with AAPL at 100.00 and the events of its door `alpaca`."""
    market = Market(fill_delay=0.002, **options)
    events: list[MarketEvent] = []
    market.subscribe("alpaca", events.append)
    market.set_price("AAPL", Decimal(100))
    try:
        yield market, events
    finally:
        market.close()


def place(market: Market, **changes: Any) -> MarketOrder:
    fields: dict[str, Any] = {
        "door": "alpaca",
        "account": "A1",
        "client_order_id": None,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": Decimal(10),
        "order_type": "market",
        "time_in_force": "day",
    }
    return market.place(**{**fields, **changes})
