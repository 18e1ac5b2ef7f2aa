"""TDA's and Schwab's accounts, holdings, quotes and candles in corro's words; nothing here talks to anyone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from models.reports import AccountReport, Bar, PositionReport, QuoteReport
from worker.brokers.oddities import Oddities
from worker.brokers.tda_shapes import name, rows_in, soft
from worker.brokers.values import UNREADABLE, Raw, count, epoch_ms, needed, number, positive, size


def account_number(row: Raw, account_key: str) -> str:
    """Return the number of an account, or of a row that names one.

    Raises:
        ValueError: it names none.
    """
    found = row.get(account_key)
    if isinstance(found, bool) or not isinstance(found, (str, int)) or not str(found).strip():
        raise ValueError(f"{account_key} is missing")
    return str(found).strip()


def account_report(raw: Raw, account_key: str) -> AccountReport:
    """Read the money of an account, USD; a cash account has cashAvailableForTrading instead of buyingPower.

    An amount that cannot be read is None.

    Raises:
        ValueError, KeyError, TypeError: it is no account.
    """
    account = raw["securitiesAccount"]
    found = account.get("currentBalances")
    now: Raw = found if isinstance(found, dict) else {}
    cash = soft(number, now.get("cashBalance", now.get("totalCash")))
    return AccountReport(
        account_id=account_number(account, account_key),
        buying_power=soft(number, now.get("buyingPower", now.get("cashAvailableForTrading"))),
        cash=cash,
        equity=soft(number, now.get("equity", now.get("liquidationValue"))),
        portfolio_value=soft(number, now.get("liquidationValue")),
        total_liquidity=cash,
        day_trade_count=soft(count, account.get("roundTrips")),
    )


def position_reports(raw: Raw, account_key: str, odd: Oddities) -> list[PositionReport]:
    """Read the holdings of an account; the key is absent when there are none.

    A holding whose size cannot be read has quantity None, never 0; a row that names nothing is skipped, and told of.

    Raises:
        ValueError, KeyError, TypeError: it is no account.
    """
    account = raw["securitiesAccount"]
    account_id = soft(lambda row: account_number(row, account_key), account)
    rows = account.get("positions")
    if not isinstance(rows, (list, type(None))):
        raise TypeError("positions are no list")
    return [held for row in rows_in(rows) if (held := _position(row, account_id, odd)) is not None]


def _position(row: Raw, account_id: str | None, odd: Oddities) -> PositionReport | None:
    symbol = name(row.get("instrument"))
    if symbol is None:
        odd.note("position without a name", row.get("instrument"))
        return None
    gains = [soft(number, row.get(key)) for key in ("longOpenProfitLoss", "shortOpenProfitLoss")]
    known = [gain for gain in gains if gain is not None]
    held = PositionReport(
        symbol=symbol,
        quantity=None,
        avg_price=soft(number, row.get("averagePrice")),
        market_value=soft(number, row.get("marketValue")),
        unrealized_pnl=sum(known, Decimal(0)) if known else None,
        account_id=account_id,
    )
    try:
        return replace(held, quantity=_held(row))
    except UNREADABLE as error:
        odd.note(f"position {symbol}", error)
        return held


def _held(row: Raw) -> Decimal:
    """Return the shares of a holding: two fields, of which at least one has to be there, and both be numbers."""
    sizes = [row.get(key) for key in ("longQuantity", "shortQuantity")]
    told = [needed(row, key, size) for key in ("longQuantity", "shortQuantity") if row.get(key) is not None]
    if not told or (len(told) == 1 and not told[0]):  # nothing of the one proves nothing of the other
        raise ValueError("a position without its size")
    return told[0] * (1 if sizes[0] is not None else -1) if len(told) == 1 else told[0] - told[1]


def quote_report(symbol: str, raw: Raw) -> QuoteReport:
    """Read a quote: flat at TDA, nested at Schwab, otherwise the same. What cannot be read is None."""
    found = raw.get("quote")
    inner: Raw = found if isinstance(found, dict) and found else raw
    price = {key: soft(positive, inner.get(key)) for key in ("bidPrice", "askPrice", "lastPrice")}
    sizes = {key: soft(positive, inner.get(key)) for key in ("bidSize", "askSize", "lastSize")}
    return QuoteReport(
        symbol=symbol,
        bid=price["bidPrice"],
        ask=price["askPrice"],
        last=price["lastPrice"],
        bid_size=sizes["bidSize"],
        ask_size=sizes["askSize"],
        last_size=sizes["lastSize"],
        volume=soft(size, inner.get("totalVolume")),
        at=soft(epoch_ms, inner.get("quoteTime") or inner.get("quoteTimeInLong")),
        delayed=bool(raw.get("delayed")) or raw.get("realtime") is False,
    )


def bars(rows: Iterable[Raw], start: datetime, end: datetime, odd: Oddities) -> list[Bar]:
    """Read candles with start <= bar.start < end, each start once; one without all its prices is skipped and noted."""
    found: dict[datetime, Bar] = {}
    for row in rows:
        try:
            at = epoch_ms(row["datetime"])
            if at is None:
                raise ValueError(f"datetime is {row['datetime']!r}")
            if start <= at < end:
                open_, high, low, close = (needed(row, key, positive) for key in ("open", "high", "low", "close"))
                volume = needed(row, "volume", size)
                found[at] = Bar(start=at, open=open_, high=high, low=low, close=close, volume=volume)
        except UNREADABLE as error:
            odd.note(f"candle {row.get('datetime') if isinstance(row, dict) else row!r}", error)
    return [found[at] for at in sorted(found)]
