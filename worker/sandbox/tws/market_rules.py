"""Steps of prices and hours of trading, as TWS tells them of a contract. Pure.

Source: TWS API documentation, "ContractDetails" and "Minimum Price Increment". The numbers of the rules, and the steps
at Xetra, are made up; shares in Toronto go in half cents below half a dollar.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from worker.sandbox.market.listed import listed

#: Rule -> prices, and the step from each on.
RULES: dict[int, tuple[tuple[str, str], ...]] = {
    26: (("0", "0.01"),),
    59: (("0", "0.0001"),),
    67: (("0", "0.005"), ("0.5", "0.01")),
    1877: (("0", "0.01"), ("50", "0.02"), ("100", "0.05")),
}
_BY_EXCHANGE = {"TSE": 67, "IBIS": 1877}
_ZONES = {"future": "US/Central", "TSE": "America/Toronto", "IBIS": "MET", "LSE": "GB-Eire"}
_AT_HOME, _OPTIONS = ("0400-2000", "0930-1600"), ("0930-1600", "0930-1600")
_ABROAD = {"TSE": ("0930-1600",) * 2, "IBIS": ("0900-1730",) * 2, "LSE": ("0800-1630",) * 2}
_NIGHTLY = {"future": ("1700", "1600"), "forex": ("1715", "1700")}
#: Days that are told of, the one before included (assumed: docs/facts/ibkr.md#9.11).
_DAYS = 8


def rule_of(symbol: str) -> int:
    """Return the market rule of a symbol."""
    thing = listed(symbol)
    usual = 59 if thing is not None and thing.places else 26
    return usual if thing is None else _BY_EXCHANGE.get(thing.exchange, usual)


def finest(symbol: str) -> Decimal:
    """Return the finest step of a symbol's prices."""
    return min(Decimal(step) for _, step in RULES[rule_of(symbol)])


def step_at(symbol: str, price: Decimal) -> Decimal:
    """Return the step that holds for a price."""
    bands = [(Decimal(low), Decimal(step)) for low, step in RULES[rule_of(symbol)] if Decimal(low) <= abs(price)]
    return max(bands)[1]


def hours_of(symbol: str, now: datetime) -> tuple[str, str, str]:
    """Return timeZoneId, tradingHours and liquidHours of a symbol; `now` is aware."""
    thing = listed(symbol)
    kind, exchange = ("share", "") if thing is None else (thing.kind, thing.exchange)
    zone = _ZONES.get(kind) or _ZONES.get(exchange, "US/Eastern")
    first = now.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    days = [first + timedelta(days=count) for count in range(_DAYS)]
    if kind == "crypto":
        every = regular = ";".join(_session(day, "0000", day + timedelta(days=1), "0000") for day in days)
    elif kind in _NIGHTLY:
        every = regular = ";".join(_nightly(day, *_NIGHTLY[kind]) for day in days)
    else:
        wide, narrow = _OPTIONS if kind == "option" else _ABROAD.get(exchange, _AT_HOME)
        every, regular = (";".join(_daily(day, *hours.split("-")) for day in days) for hours in (wide, narrow))
    return zone, every, regular


def _session(day: date, begin: str, last: date, end: str) -> str:
    return f"{day:%Y%m%d}:{begin}-{last:%Y%m%d}:{end}"


def _daily(day: date, begin: str, end: str) -> str:
    return f"{day:%Y%m%d}:CLOSED" if day.weekday() >= 5 else _session(day, begin, day, end)


def _nightly(day: date, begin: str, end: str) -> str:
    """Return what begins on the evening of a day: nothing on Fridays and Saturdays."""
    return f"{day:%Y%m%d}:CLOSED" if day.weekday() in (4, 5) else _session(day, begin, day + timedelta(days=1), end)
