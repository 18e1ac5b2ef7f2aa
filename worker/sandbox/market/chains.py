"""Which options and futures are listed here: those that expire soon, around the price. Any other trades as well."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from worker.sandbox.market.listed import FUTURES

if TYPE_CHECKING:
    from worker.sandbox.market.market import Market

#: Fridays and months ahead with options, and strikes on either side of the price.
_FRIDAYS, _MONTHS_AHEAD, _EACH_SIDE = 4, 4, 5
#: Price below which strikes are so far apart.
_STEPS = ((Decimal(25), Decimal(1)), (Decimal(200), Decimal(5)), (Decimal(10**9), Decimal(10)))
#: Months in which futures end, and how many of them are listed.
_QUARTERS, _LISTED = "HMUZ", 4
_LETTERS = "FGHJKMNQUVXZ"


def expiries(today: date) -> list[date]:
    """Return the days on which options expire: the next Fridays, and the third ones of the next months."""
    friday = today + timedelta(days=(4 - today.weekday()) % 7)
    days = {friday + timedelta(weeks=week) for week in range(_FRIDAYS)}
    for ahead in range(_MONTHS_AHEAD):
        month = today.month - 1 + ahead
        days.add(_third_friday(today.year + month // 12, month % 12 + 1))
    return sorted(day for day in days if day >= today)


def _third_friday(year: int, month: int) -> date:
    return date(year, month, 15 + (4 - date(year, month, 15).weekday()) % 7)


def strikes(price: Decimal) -> list[Decimal]:
    """Return the strikes around a price."""
    step = next(step for below, step in _STEPS if price < below)
    middle = (price / step).to_integral_value() * step
    every = (middle + step * away for away in range(-_EACH_SIDE, _EACH_SIDE + 1))
    return [strike for strike in every if strike > 0]


def options(market: Market, root: str, first: date, last: date) -> list[str]:
    """Return the options on a share that expire between two days; none of what is no share."""
    if not market.prices.is_share(root):
        return []
    around = strikes(market.quote(root).last)
    days = [day for day in expiries(first) if day <= last]
    return [f"{root}{day:%y%m%d}{right}{int(s * 1000):08d}" for day in days for s in around for right in "CP"]


def futures(root: str, today: date, exchange: str = "") -> list[str]:
    """Return the futures of a root that are listed, the next first; none of an unknown root, or elsewhere."""
    there = FUTURES.get(root, ("",))[0]
    if not there or exchange not in ("", there):
        return []
    months = [(year, letter) for year in range(today.year, today.year + 3) for letter in _QUARTERS]
    coming = [(y, m) for y, m in months if _third_friday(y, _LETTERS.index(m) + 1) >= today]
    return [f"{root}{letter}{year % 100:02d}@{there}" for year, letter in coming[:_LISTED]]
