"""Seeded prices: the same seed gives the same minute of the same day for ever, without a network or a file.

A walk over the weekdays since 2005 fixes each day's open and close; minutes bridge between them. Every longer
timeframe is added up from the minutes. Sessions are 09:30 to 16:00 New York on every weekday; there are no holidays.
"""

from __future__ import annotations

import hashlib
import re
import time as clock
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from worker.sandbox.market.days import MINUTES, OPENING, bucket, finished, index_of, midnight, weekdays
from worker.sandbox.market.days import NEW_YORK as NEW_YORK
from worker.sandbox.market.listed import is_over, listed, option_price

#: Real symbols and the price, in dollars, that their walk keeps returning to.
BASE_PRICES = {
    "AAPL": 230, "MSFT": 430, "AMZN": 200, "GOOGL": 180, "GOOG": 181, "META": 560, "NVDA": 140, "TSLA": 260,
    "BRK.B": 460, "JPM": 220, "V": 290, "MA": 490, "UNH": 560, "HD": 390, "PG": 170, "JNJ": 160, "XOM": 118,
    "CVX": 150, "KO": 68, "PEP": 172, "WMT": 82, "COST": 900, "MCD": 300, "DIS": 96, "NFLX": 720, "ADBE": 520,
    "CRM": 290, "ORCL": 170, "INTC": 24, "AMD": 155, "CSCO": 54, "IBM": 230, "BA": 155, "CAT": 385, "GE": 185,
    "GM": 48, "F": 11, "T": 21, "VZ": 43, "PFE": 29, "MRK": 110, "ABBV": 195, "BAC": 42, "WFC": 60, "C": 62,
    "GS": 510, "SPY": 575, "QQQ": 490, "IWM": 220, "DIA": 425, "VTI": 285, "VOO": 527, "EFA": 83, "EEM": 45,
    "TLT": 97, "IEF": 97, "AGG": 100, "GLD": 245, "SLV": 29, "XLF": 46, "XLK": 227, "XLE": 90, "SAN": 5, "BBVA": 10,
}  # fmt: skip
_SIMULATED = re.compile(r"SIM\d{3}")
_TIMEFRAME = re.compile(r"(\d+)(Min|Hour|Day|Week|Month)")
_KEPT_DAYS = 1500

Cents = npt.NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class Quote:
    """Best bid and offer and the last trade, prices in dollars and cents, sizes in shares."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal
    bid_size: int
    ask_size: int
    last_size: int
    volume: int  # of the day so far
    at: datetime


@dataclass(slots=True, frozen=True)
class Candle:
    """One bar; `start` is its opening time in UTC (day and longer: midnight New York)."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    vwap: Decimal  # four decimals
    trade_count: int


@dataclass(slots=True, frozen=True)
class _Minutes:
    """A stretch of consecutive minutes of one day, prices in cents."""

    open: Cents
    high: Cents
    low: Cents
    close: Cents
    volume: Cents
    trades: Cents

    def part(self, start: int, stop: int) -> _Minutes:
        cut = slice(start, stop)
        columns = (self.open, self.high, self.low, self.close, self.volume, self.trades)
        return _Minutes(*(column[cut] for column in columns))


@dataclass(slots=True)
class _Sum:
    """Running total of minutes, exact in cents."""

    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int
    turnover: int  # cents x 3 x shares

    @classmethod
    def of(cls, m: _Minutes) -> _Sum:
        """Add up one stretch of minutes."""
        turnover = int(((m.high + m.low + m.close) * m.volume).sum())
        ends = (int(m.open[0]), int(m.high.max()), int(m.low.min()), int(m.close[-1]))
        return cls(*ends, int(m.volume.sum()), int(m.trades.sum()), turnover)

    def plus(self, later: _Sum) -> _Sum:
        """Append a later stretch."""
        return _Sum(
            self.open,
            max(self.high, later.high),
            min(self.low, later.low),
            later.close,
            self.volume + later.volume,
            self.trades + later.trades,
            self.turnover + later.turnover,
        )

    def bar(self, start: datetime) -> Candle:
        """Write the total as a bar."""
        vwap = Decimal(self.turnover) / (3 * self.volume) / 100
        o, h, lo, c = (_dollars(value) for value in (self.open, self.high, self.low, self.close))
        return Candle(start, o, h, lo, c, self.volume, vwap.quantize(Decimal("0.0001")), self.trades)


class PriceBook:
    """Prices of every symbol, made on demand and kept."""

    def __init__(self, seed: int = 7) -> None:
        self.seed = seed
        self._pins: dict[str, Decimal] = {}
        self._walks: dict[str, Cents] = {}
        self._days: OrderedDict[tuple[str, date], _Minutes] = OrderedDict()
        self._daily: dict[tuple[str, date], _Sum] = {}
        self._current: dict[str, tuple[int, int, int]] = {}

    def exists(self, symbol: str) -> bool:
        """Tell whether the symbol trades here: some large caps and funds, SIM000 to SIM999, and what `listed` has."""
        thing = listed(symbol)
        if thing is not None:
            return not is_over(thing) and (thing.kind != "option" or self.exists(thing.root))
        return symbol in BASE_PRICES or _SIMULATED.fullmatch(symbol) is not None

    def is_share(self, symbol: str) -> bool:
        """Tell whether it trades here and is a share in the United States: what data of stocks is about."""
        return self.exists(symbol) and listed(symbol) is None

    def pin(self, symbol: str, price: Decimal | None) -> None:
        """Hold the last price of a symbol where it is told; None lets it follow the walk again."""
        if not self.exists(symbol):
            raise KeyError(symbol)
        if price is None:
            self._pins.pop(symbol, None)
        else:
            cent = _cent(symbol)
            self._pins[symbol] = max(Decimal(price).quantize(cent), 2 * cent)

    def quote(self, symbol: str, now: datetime | None = None) -> Quote:
        """Return the quote at this moment: the price of the current minute with a cent on either side.

        Outside the session the last close moves by a cent or two with the minute. Never zero.

        Raises:
            KeyError: the symbol does not trade here.
        """
        if not self.exists(symbol):
            raise KeyError(symbol)
        now = now or datetime.now(UTC)
        thing, cent = listed(symbol), _cent(symbol)
        price, volume, noise = self._at(symbol if thing is None or thing.kind != "option" else thing.root, now)
        last = self._pins.get(symbol) or self._unpinned(symbol, price)
        bid = max(last - (cent if noise % 2 or symbol in self._pins else Decimal(0)), cent)
        sizes = [100 * (1 + (noise >> shift) % 9) for shift in (1, 5, 9)]
        return Quote(symbol, bid, last + cent, last, sizes[0], sizes[1], sizes[2], volume, now)

    def last(self, symbol: str) -> Decimal:
        """Return the last price alone: what accounts are valued at. Raises KeyError for an unknown symbol."""
        pinned = self._pins.get(symbol)
        if pinned is not None:
            return pinned
        kept = self._current.get(symbol)
        if kept is not None and kept[0] == int(clock.time() // 60):
            return self._unpinned(symbol, kept[1])
        return self.quote(symbol).last

    def _unpinned(self, symbol: str, cents: int) -> Decimal:
        """Return the price that the walk of a symbol, or of the share under an option, means."""
        thing = listed(symbol)
        if thing is not None and thing.kind == "option":
            return option_price(thing, self._pins.get(thing.root) or _dollars(cents))
        return _dollars(cents) * _cent(symbol) * 100

    def bars(
        self, symbol: str, timeframe: str, start: datetime, end: datetime, now: datetime | None = None
    ) -> list[Candle]:
        """Return the bars that open within [start, end], oldest first, from finished minutes only.

        Args:
            symbol: what to look up.
            timeframe: a number and Min, Hour, Day, Week or Month: `1Min`, `15Min`, `1Hour`, `1Day`.
            start: earliest opening time, aware.
            end: latest opening time, aware.
            now: the moment of asking; the newest bar holds what has happened by then.

        Returns:
            Bars; intraday ones are aligned to the New York clock (the first hour bar opens at 09:30).

        Raises:
            KeyError: the symbol does not trade here.
            ValueError: the timeframe is not understood.
        """
        thing = listed(symbol)
        if not self.exists(symbol):
            raise KeyError(symbol)
        if thing is not None and thing.kind == "option":
            return []
        match = _TIMEFRAME.fullmatch(timeframe)
        if match is None or int(match[1]) < 1:
            raise ValueError(f"unknown timeframe {timeframe!r}")
        count, unit = int(match[1]), match[2]
        now = now or datetime.now(UTC)
        if unit in ("Min", "Hour"):
            step = count * (60 if unit == "Hour" else 1)
            found = self._intraday(symbol, step, start, min(end, now), now)
        else:
            found = self._long(symbol, count, unit, start, min(end, now), now)
        return [_scaled(bar, _cent(symbol) * 100) for bar in found if start <= bar.start <= end]

    # -- LONGER TIMEFRAMES --

    def _intraday(self, symbol: str, step: int, start: datetime, end: datetime, now: datetime) -> Iterator[Candle]:
        """Yield bars of some minutes; only what has happened by `now`, the last one as far as it has come."""
        first = OPENING.hour * 60 + OPENING.minute
        for day in weekdays(start.astimezone(NEW_YORK).date(), end.astimezone(NEW_YORK).date()):
            done = finished(day, now)
            minutes = self._minutes(symbol, day)
            opening = datetime.combine(day, OPENING, NEW_YORK).astimezone(UTC)
            begin = 0
            while begin < done:
                stop = min(((first + begin) // step + 1) * step - first, MINUTES)
                total = _Sum.of(minutes.part(begin, min(stop, done)))
                yield total.bar(opening + timedelta(minutes=begin))
                begin = stop

    def _long(
        self, symbol: str, count: int, unit: str, start: datetime, end: datetime, now: datetime
    ) -> Iterator[Candle]:
        """Yield bars of days, weeks or months; the current one as far as it has come."""
        first = bucket(start.astimezone(NEW_YORK).date(), count, unit)
        last = end.astimezone(NEW_YORK).date()
        current: tuple[date, _Sum] | None = None
        for day in weekdays(first, now.astimezone(NEW_YORK).date()):
            total = self._day(symbol, day, now)
            if total is None:
                break
            label = bucket(day, count, unit)
            if label > last:
                break
            if current is not None and current[0] == label:
                current = (label, current[1].plus(total))
                continue
            if current is not None:
                yield current[1].bar(midnight(current[0]))
            current = (label, total)
        if current is not None:
            yield current[1].bar(midnight(current[0]))

    # -- DAYS AND MINUTES --

    def _day(self, symbol: str, day: date, now: datetime) -> _Sum | None:
        """Return the sum of one day, as far as it has come; None before it begins."""
        done = finished(day, now)
        if done == 0:
            return None
        if done < MINUTES:
            return _Sum.of(self._minutes(symbol, day).part(0, done))
        found = self._daily.get((symbol, day))
        if found is None:
            found = self._daily[symbol, day] = _Sum.of(self._minutes(symbol, day))
        return found

    def _minutes(self, symbol: str, day: date) -> _Minutes:
        found = self._days.get((symbol, day))
        if found is None:
            found = self._days[symbol, day] = self._make(symbol, day)
            if len(self._days) > _KEPT_DAYS:
                self._days.popitem(last=False)
        return found

    def _make(self, symbol: str, day: date) -> _Minutes:
        """Make the minutes of one day between two closes: the same ones on every machine, for a symbol and a day."""
        index = index_of(day)
        walk = self._walk(symbol, index)
        start, stop = int(walk[index]), int(walk[index + 1])
        rng = self._rng(symbol, str(day))
        start = max(start + round(start * float(rng.normal(0, 0.002))), 2)
        steps = rng.normal(0, 1, MINUTES).cumsum()
        share = np.arange(1, MINUTES + 1) / MINUTES
        bridge = (steps - share * steps[-1]) * (start * 0.0004)
        close = np.maximum(np.rint(start + share * (stop - start) + bridge), 2).astype(np.int64)
        close[-1] = stop
        opened = np.concatenate((np.array([start], dtype=np.int64), close[:-1]))
        reach = np.rint(np.abs(rng.normal(0, start * 0.0002, (2, MINUTES)))).astype(np.int64)
        high = np.maximum(opened, close) + reach[0]
        low = np.maximum(np.minimum(opened, close) - reach[1], 1)
        shape = 1 + 2 * np.abs(np.linspace(-1, 1, MINUTES)) ** 3
        volume = (rng.integers(500, 9000, MINUTES) * shape).astype(np.int64)
        return _Minutes(opened, high, low, close, volume, np.maximum(volume // 90, 1))

    def _walk(self, symbol: str, index: int) -> Cents:
        """Return day levels in cents, long enough for `index + 1`: a walk drawn back to the base price."""
        walk = self._walks.get(symbol)
        if walk is None or len(walk) <= index + 1:
            length = max(8000, index + 2000)
            moves = self._rng(symbol, "walk").normal(0.0, 0.013, length).tolist()
            level, levels = 0.0, []
            for move in moves:
                level = 0.997 * level + move
                levels.append(level)
            walk = np.maximum(np.rint(self._base(symbol) * np.exp(np.array(levels))), 50).astype(np.int64)
            self._walks[symbol] = walk
        return walk

    def _base(self, symbol: str) -> int:
        if symbol in BASE_PRICES:
            return BASE_PRICES[symbol] * 100
        thing = listed(symbol)
        if thing is not None and thing.price is not None:
            return int(thing.price / _cent(symbol))
        return 1000 + 29 * int(symbol[3:])

    def _rng(self, symbol: str, label: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}/{symbol}/{label}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))

    def _at(self, symbol: str, now: datetime) -> tuple[int, int, int]:
        """Return price in cents, the day's volume and some noise, all fixed for the minute of `now`."""
        minute = int(now.timestamp() // 60)
        kept = self._current.get(symbol)
        if kept is not None and kept[0] == minute:
            price, volume = kept[1], kept[2]
        else:
            price, volume = self._price(symbol, now, minute)
            self._current[symbol] = (minute, price, volume)
        noise = (minute * 2654435761 + sum(symbol.encode())) >> 7
        return price, volume, noise

    def _price(self, symbol: str, now: datetime, minute: int) -> tuple[int, int]:
        """Return the price, cents, and the day's volume; outside the session within two cents of the last close."""
        local = now.astimezone(NEW_YORK)
        day = local.date()
        begun = local.hour * 60 + local.minute - (OPENING.hour * 60 + OPENING.minute)
        if day.weekday() < 5 and 0 <= begun < MINUTES:
            minutes = self._minutes(symbol, day)
            return int(minutes.close[begun]), int(minutes.volume[: begun + 1].sum())
        if day.weekday() >= 5 or begun < 0:
            day -= timedelta(days=1)
        while day.weekday() >= 5:
            day -= timedelta(days=1)
        minutes = self._minutes(symbol, day)
        return max(int(minutes.close[-1]) + minute % 5 - 2, 2), int(minutes.volume.sum())


def _dollars(value: int) -> Decimal:
    return Decimal(value).scaleb(-2)


def _cent(symbol: str) -> Decimal:
    """Return the smallest step of a symbol's prices: a cent, or a hundredth of one."""
    thing = listed(symbol)
    return Decimal("0.01") if thing is None else Decimal("0.01").scaleb(-thing.places)


def _scaled(bar: Candle, by: Decimal) -> Candle:
    if by == 1:
        return bar
    return replace(bar, **{name: getattr(bar, name) * by for name in ("open", "high", "low", "close", "vwap")})
