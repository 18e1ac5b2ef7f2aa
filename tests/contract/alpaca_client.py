"""Alpaca as the tests of its door reach it: the SDK the project uses, and the orders they place again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import alpaca_trade_api
import pytest

from tests.kit.waiting import eventually
from worker.sandbox.alpaca.door import AlpacaDoor

KEYS = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}


def words(text: str) -> list[str]:
    return sorted(text.split())


# Recorded paper traffic, 2026-10-08 (docs/facts/alpaca.md).
ORDER_KEYS = words(
    """
    asset_class asset_id canceled_at client_order_id created_at expired_at expires_at extended_hours failed_at
    filled_at filled_avg_price filled_qty hwm id legs limit_price notional order_class order_type position_intent
    qty replaced_at replaced_by replaces side source status stop_price submitted_at subtag symbol time_in_force
    trail_percent trail_price type updated_at
    """
)


@contextmanager
def alpaca_sdk(door: AlpacaDoor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give alpaca-trade-api as the project sets it up: no retries, a timeout, plain documents."""
    monkeypatch.setenv("APCA_RETRY_MAX", "0")
    monkeypatch.setenv("APCA_API_DATA_URL", door.url)
    rest = alpaca_trade_api.REST("k", "s", door.url, raw_data=True)
    rest._session.request = partial(rest._session.request, timeout=3.0)
    yield rest
    rest._session.close()


def bought(api: Any, symbol: str = "AAPL", qty: str = "10", **more: Any) -> Any:
    return api.submit_order(symbol, qty, "buy", "market", "day", **more)


def resting(api: Any, **more: Any) -> Any:
    """Place a limit order far from the market and wait until it works."""
    order = api.submit_order("AAPL", "10", "buy", "limit", "day", limit_price="1.50", **more)
    eventually(lambda: api.get_order(order["id"])["status"] == "new")
    return order


def filled(api: Any, order: Any) -> Any:
    eventually(lambda: api.get_order(order["id"])["status"] == "filled")
    return api.get_order(order["id"])


def impatient(api: Any) -> None:
    """Let the SDK give up after a moment from here on."""
    api._session.request = partial(api._session.request, timeout=0.4)
