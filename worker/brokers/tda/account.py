"""TDA's and Schwab's accounts and holdings in corro's words; nothing here talks to anyone.

Neither tells a currency; both keep accounts in USD (docs/facts/schwab.md#4.3).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from models.reports import AccountReport, PositionReport
from worker.brokers.oddities import Oddities
from worker.brokers.tda.shapes import name
from worker.brokers.values import UNREADABLE, Raw, count, identity, needed, number, positive, size, soft

_CURRENCY = "USD"
#: Schwab's hash of an account has 64 characters.
_LONGEST_NUMBER = 128


def account_number(row: Raw, account_key: str) -> str:
    """Return the number of an account, or of a row that names one.

    Raises:
        ValueError: it names none.
    """
    found = identity(row.get(account_key))
    if found is None or len(found) > _LONGEST_NUMBER:
        raise ValueError(f"{account_key} is missing")
    return found


def account_report(raw: Raw, account_key: str) -> AccountReport:
    """Read the money of an account, USD; a cash account has cashAvailableForTrading instead of buyingPower.

    An amount that cannot be read is None.

    Raises:
        ValueError, KeyError, TypeError: it is no account.
    """
    account = raw["securitiesAccount"]
    found = account.get("currentBalances")
    now: Raw = found if isinstance(found, dict) else {}
    cash = _first(now, "cashBalance", "totalCash")
    return AccountReport(
        account_id=account_number(account, account_key),
        currency=_CURRENCY,
        buying_power=_first(now, "buyingPower", "cashAvailableForTrading"),
        cash=cash,
        equity=_first(now, "equity", "liquidationValue"),
        portfolio_value=soft(number, now.get("liquidationValue")),
        total_liquidity=cash,
        day_trade_count=soft(count, account.get("roundTrips")),
    )


def _first(balances: Raw, *keys: str) -> Decimal | None:
    """Return the first of several amounts that can be read: margin and cash accounts call the same otherwise."""
    found = (soft(number, balances.get(key)) for key in keys)
    return next((amount for amount in found if amount is not None), None)


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
    return [held for row in rows or () if (held := _position(row, account_id, odd)) is not None]


def _position(row: object, account_id: str | None, odd: Oddities) -> PositionReport | None:
    """Return one position; None, and a remark, where the row does not say in what."""
    symbol = name(row.get("instrument")) if isinstance(row, dict) else None
    if symbol is None or not isinstance(row, dict):
        odd.note("position without a name", str(row)[:200])
        return None
    gains = [soft(number, row.get(key)) for key in ("longOpenProfitLoss", "shortOpenProfitLoss")]
    known = [gain for gain in gains if gain is not None]
    held = PositionReport(
        symbol=symbol,
        quantity=None,
        avg_price=soft(positive, row.get("averagePrice")),
        market_value=soft(number, row.get("marketValue")),
        unrealized_pnl=sum(known, Decimal(0)) if known else None,
        account_id=account_id,
        currency=None if ":" in symbol else _CURRENCY,  # plain tickers and OCC symbols trade in USD
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
    if not told or (len(told) == 1 and not told[0]):  # 0 long proves nothing about short
        raise ValueError("a position without its size")
    return told[0] * (1 if sizes[0] is not None else -1) if len(told) == 1 else told[0] - told[1]
