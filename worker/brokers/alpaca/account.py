"""Alpaca's account and holdings in corro's words; nothing here talks to anyone."""

from __future__ import annotations

import re
from decimal import Decimal

from models.reports import AccountReport, PositionReport
from worker.brokers.alpaca.reports import id_in
from worker.brokers.alpaca.symbols import symbol_of
from worker.brokers.values import Raw, count, number, positive, soft

_CURRENCY = re.compile(r"[A-Z]{3}")


def currency_of(raw: Raw) -> str:
    """Return in which currency the amounts of a message are; dollars where it tells none.

    Raises:
        ValueError: it tells something that is no currency: its amounts would be told in a unit that nobody knows.
    """
    currency = raw.get("currency") or "USD"
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise ValueError(f"currency is {str(currency)[:60]!r}")
    return currency


def account_report(raw: Raw, *, paper: bool) -> AccountReport:
    """Read the account; the day trading fields are absent since 2026 (docs/facts/alpaca.md#1.6).

    An amount that cannot be read is None.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no account, or its currency cannot be read.
    """
    equity, worth = soft(number, raw.get("equity")), soft(number, raw.get("portfolio_value"))
    cash = soft(number, raw.get("cash"))
    return AccountReport(
        account_id=soft(lambda row: id_in(row, "account_number"), raw) or id_in(raw, "id"),
        currency=currency_of(raw),
        buying_power=soft(number, raw.get("buying_power")),
        cash=cash,
        equity=equity,
        portfolio_value=equity if worth is None else worth,
        total_liquidity=cash,
        day_trade_count=soft(count, raw.get("daytrade_count")),
        paper=paper,
    )


def position_report(raw: Raw) -> PositionReport:
    """Read one holding; its quantity is None where its size or its direction cannot be read, never 0.

    Short ones are negative whichever way Alpaca writes them.

    Raises:
        ValueError, AttributeError: it names nothing.
    """
    symbol = symbol_of(raw)
    if symbol is None:
        raise ValueError(f"a position without a symbol: {raw.get('symbol')!r}")
    return PositionReport(
        symbol=symbol,
        quantity=_held(raw),
        avg_price=soft(positive, raw.get("avg_entry_price")),
        market_value=soft(number, raw.get("market_value")),
        unrealized_pnl=soft(number, raw.get("unrealized_pl")),
        currency="USD",
    )


def _held(raw: Raw) -> Decimal | None:
    quantity, side = soft(number, raw.get("qty")), raw.get("side")
    if quantity is None or (side == "long" and quantity < 0):
        return None
    if quantity > 0 and side not in ("long", "short"):
        return None
    return -abs(quantity) if side == "short" else quantity
