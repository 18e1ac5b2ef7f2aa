"""The curve of equity: per account as `v_equity` has it, or of all accounts together, and its falls from a peak. Pure.

An account counts with its last reading until the next: a weekend, or a broker that could not be read, is no fall.
Deposits and withdrawals move equity as gains and losses do; `v_cash` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby

from models.history.views import Row
from models.record.lots import money

_ZERO, _HUNDRED = Decimal(0), Decimal(100)
_PERCENT_PLACES = 4


def together(rows: Iterable[Row]) -> list[Row]:
    """Add up the accounts of each currency, day by day.

    Args:
        rows: of `v_equity`, each account from its first day.

    Returns:
        Rows with the same columns, by currency and day; broker and account are None.
    """
    found = []
    for currency, of_currency in groupby(sorted(rows, key=_by_currency), key=lambda row: row["currency"]):
        last: dict[tuple[str, str], Row] = {}
        for day, of_day in groupby(of_currency, key=lambda row: row["day"]):
            readings = list(of_day)
            last |= {(row["broker"], row["account"]): row for row in readings}
            whole = {name: _sum(row[name] for row in last.values()) for name in ("equity", "cash")}
            names = {"day": day, "broker": None, "account": None, "currency": currency}
            at = max(row["at"] for row in readings)
            found.append(names | whole | {"at": at, "day_timezone": readings[0]["day_timezone"]})
    return found


def _by_currency(row: Row) -> tuple[str, date]:
    return row["currency"], row["day"]


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Add up; None where one of them is not known."""
    total = _ZERO
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def with_drawdown(rows: Iterable[Row], since: date | None) -> list[Row]:
    """Return the rows from a day on, by account and day, each with the peak until then and how far it is below."""
    peaks: dict[tuple[object, ...], Decimal] = {}
    found = []
    for row in sorted(rows, key=lambda row: (str(row["broker"]), str(row["account"]), row["currency"], row["day"])):
        if since is not None and row["day"] < since:
            continue
        place, equity = (row["broker"], row["account"], row["currency"]), row["equity"]
        peak = peaks[place] = max(peaks.get(place, equity), equity)
        fall = equity - peak
        percent = round(fall * _HUNDRED / peak, _PERCENT_PLACES) if peak > 0 else None
        found.append(row | {"peak": peak, "drawdown": money(fall), "drawdown_percent": percent})
    return found


def worst(rows: Sequence[Row]) -> Row | None:
    """Return the row of the deepest fall from a peak; None where nothing fell."""
    lowest = min(rows, key=lambda row: row["drawdown"], default=None)
    return lowest if lowest is not None and lowest["drawdown"] < 0 else None
