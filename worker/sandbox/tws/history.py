"""Historical data as TWS gives it: durations, bar sizes, end times and bar dates. No socket here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from worker.sandbox.market.market import Market
from worker.sandbox.market.prices import NEW_YORK, Candle
from worker.sandbox.tws.messages import ZONE, ib_time
from worker.sandbox.tws.wire import Fields, encode, ib_symbol, read_contract

_DURATION = re.compile(r"(\d+) ?([SDWMY])")
_SIZE = re.compile(r"(\d+) ?(secs?|mins?|hours?|day|week|month|W|M)")
_UNITS = {"min": "Min", "mins": "Min", "hour": "Hour", "hours": "Hour", "day": "Day", "week": "Week", "month": "Month"}
_ALLOWED = {
    "sec": {1, 5, 10, 15, 30},
    "Min": {1, 2, 3, 5, 10, 15, 20, 30},
    "Hour": {1, 2, 3, 4, 8},
    "Day": {1},
    "Week": {1},
    "Month": {1},
}
_SHIFT = {"BID": Decimal("-0.01"), "ASK": Decimal("0.01"), "MIDPOINT": Decimal(0), "BID_ASK": Decimal(0)}
_CLOSE = time(16, 0)
#: Where a bar's fields have its close.
_CLOSE_PLACE = 4


class HistoryError(Exception):
    """The request is answered by an error.

    Attributes:
        code: IB's error code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True, frozen=True)
class HistoryRequest:
    """One reqHistoricalData message."""

    request_id: int
    symbol: str | None
    end: str
    bar_size: str
    duration: str
    what: str
    format_date: int
    keep_up_to_date: bool


def read_request(fields: Fields) -> HistoryRequest:
    """Read reqHistoricalData after its id; the message carries no version."""
    request_id, contract = fields.integer(), read_contract(fields)
    fields.skip(1)  # includeExpired
    end, size, duration = fields.text(), fields.text(), fields.text()
    fields.skip(1)  # useRTH: there are no bars outside the session
    what, format_date = fields.text(), fields.integer(1)
    return HistoryRequest(
        request_id, contract.market_symbol, end, size, duration, what, format_date, keep_up_to_date=fields.flag()
    )


def history(market: Market, request: HistoryRequest, now: datetime, sentinel: str | None = None) -> bytes:
    """Return the historicalData frame.

    Args:
        market: where the prices are from.
        request: what was asked for.
        now: the end of what there is.
        sentinel: stands for the close of every other bar.

    Raises:
        HistoryError: 200 unknown symbol, 321 malformed request, 162 no data.
    """
    symbol = request.symbol
    if symbol is None or not market.exists(symbol):
        raise HistoryError(200, "No security definition has been found for the request")
    count, unit = _bar_size(request.bar_size)
    end = min(parse_end(request.end, now), now)
    start = _start(request.duration, end)
    bars = _bars(market, symbol, count, unit, start, end)
    if not bars:
        text = f"HMDS query returned no data: {ib_symbol(symbol)}@SMART {request.what.title()}"
        raise HistoryError(162, f"Historical Market Data Service error message:{text}")
    fields: list[object] = []
    for number, bar in enumerate(bars):
        row = _bar_fields(bar, unit, request)
        if sentinel is not None and number % 2:
            row[_CLOSE_PLACE] = sentinel
        fields += row
    return encode(17, request.request_id, ib_time(start), ib_time(end), len(bars), *fields)


def parse_end(text: str, now: datetime) -> datetime:
    """Read an end time: empty is now; `yyyymmdd hh:mm:ss [zone]` (New York without one) or `yyyymmdd-hh:mm:ss` UTC.

    Raises:
        HistoryError: 321 when it is neither.
    """
    if not text:
        return now
    try:
        if "-" in text[:9]:
            return datetime.strptime(text[:17], "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        day, *rest = text.split()
        if not rest:
            return datetime.combine(datetime.strptime(day, "%Y%m%d").date(), time(23, 59, 59), NEW_YORK)  # noqa: DTZ007
        zone = ZoneInfo(rest[1]) if len(rest) > 1 else NEW_YORK
        return datetime.strptime(f"{day} {rest[0]}", "%Y%m%d %H:%M:%S").replace(tzinfo=zone)
    except (ValueError, KeyError, OSError) as error:
        raise _invalid(f"Invalid date, time or time-zone {text}") from error


def _invalid(cause: str) -> HistoryError:
    return HistoryError(321, f"Error validating request.-'bN' : cause - {cause}")


def _bar_size(text: str) -> tuple[int, str]:
    """Read a bar size such as `5 mins`.

    Raises:
        HistoryError: 321, TWS does not offer it.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise _invalid(f"Invalid bar size setting {text}")
    count, word = int(match[1]), match[2]
    unit = {"W": "Week", "M": "Month", "sec": "sec", "secs": "sec"}.get(word) or _UNITS[word]
    if count not in _ALLOWED[unit]:
        raise _invalid(f"Invalid bar size setting {text}")
    return count, unit


def _start(duration: str, end: datetime) -> datetime:
    """Return where a duration such as `2 D` before `end` begins: TWS counts days of trading.

    Raises:
        HistoryError: 321, it is none, or is too long in its unit.
    """
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        raise _invalid(f"Invalid duration {duration}")
    count, unit = int(match[1]), match[2]
    local = end.astimezone(NEW_YORK)
    if unit == "S":
        if count > 86400:
            raise _invalid("Historical data requests for durations longer than 86400 seconds must be made in days")
        return _last_trading_moment(end) - timedelta(seconds=count)
    if unit == "D" and count > 365:
        raise _invalid("Historical data requests for durations longer than 365 days must be made in years")
    if unit == "D":
        day = _last_trading_moment(end).astimezone(NEW_YORK).date()
        for _ in range(count - 1):
            day = _weekday_before(day)
        return datetime.combine(day, time(), NEW_YORK)
    if unit == "W":
        return datetime.combine(local.date() - timedelta(weeks=count), time(), NEW_YORK) + timedelta(days=1)
    months = local.year * 12 + local.month - 1 - count * (12 if unit == "Y" else 1)
    first = date(months // 12, months % 12 + 1, min(local.day, 28))
    return datetime.combine(first, time(), NEW_YORK) + timedelta(days=1)


def _last_trading_moment(end: datetime) -> datetime:
    """Return `end`, or the last close before it when the market was closed then."""
    local = end.astimezone(NEW_YORK)
    day = local.date()
    if day.weekday() >= 5 or local.time() < time(9, 31):
        day = _weekday_before(day)
        return datetime.combine(day, _CLOSE, NEW_YORK)
    return min(end, datetime.combine(day, _CLOSE, NEW_YORK))


def _weekday_before(day: date) -> date:
    day -= timedelta(days=1)
    while day.weekday() >= 5:
        day -= timedelta(days=1)
    return day


def _bars(market: Market, symbol: str, count: int, unit: str, start: datetime, end: datetime) -> list[Candle]:
    """Return the bars of a size between two moments."""
    if unit == "sec":
        minutes = market.bars(symbol, "1Min", start.replace(second=0, microsecond=0), end)
        return [b for minute in minutes for b in _seconds(minute, count) if start <= b.start < end]
    if unit in ("Week", "Month"):
        start -= timedelta(days=6 if unit == "Week" else 30)  # TWS gives the bar that holds the first day
    return [bar for bar in market.bars(symbol, f"{count}{unit}", start, end) if bar.start < end]


def _seconds(minute: Candle, step: int) -> Iterator[Candle]:
    """Split a minute into bars of `step` seconds that add up to it exactly."""
    parts = 60 // step
    cent, move = Decimal("0.01"), minute.close - minute.open
    levels = [(minute.open + move * i / parts).quantize(cent) for i in range(parts + 1)]
    for i in range(parts):
        high, low = max(levels[i : i + 2]), min(levels[i : i + 2])
        volume = minute.volume // parts + (minute.volume % parts if i == parts - 1 else 0)
        yield replace(
            minute,
            start=minute.start + timedelta(seconds=i * step),
            open=levels[i],
            close=levels[i + 1],
            high=minute.high if i == 0 else high,
            low=minute.low if i == parts - 1 else low,
            volume=volume,
            trade_count=max(minute.trade_count // parts, 1),
        )


def _bar_fields(bar: Candle, unit: str, request: HistoryRequest) -> list[object]:
    """Return one bar as it travels; days carry their date, and quotes have no volume."""
    local = bar.start.astimezone(NEW_YORK)
    if unit in ("Day", "Week", "Month"):
        label = f"{local:%Y%m%d}"
    elif request.format_date == 2:
        label = str(int(bar.start.timestamp()))
    else:
        label = f"{local:%Y%m%d %H:%M:%S} {ZONE}"
    shift = _SHIFT.get(request.what)
    if shift is None:
        return [label, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trade_count]
    prices = [max(price + shift, Decimal("0.01")) for price in (bar.open, bar.high, bar.low, bar.close)]
    return [label, *prices, -1, -1, -1]
