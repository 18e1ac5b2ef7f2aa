"""Alpaca's data API: bars, latest quotes, trades, bars and snapshots. Numbers are JSON numbers here.

Unlike the trading API it knows no accounts: it only reads the market.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from aiohttp import web

from worker.sandbox.alpaca.bodies import Json, short_stamp, stamp
from worker.sandbox.http_door import Refusal, Route
from worker.sandbox.market.market import Candle, Market, Quote

DEFAULT_PAGE, MAX_PAGE = 1000, 10_000
#: Spellings of one timeframe that the real service takes, to corro's word.
UNITS = {"min": "Min", "t": "Min", "hour": "Hour", "h": "Hour", "day": "Day", "d": "Day", "week": "Week", "w": "Week"}
UNITS |= {"month": "Month", "m": "Month"}
#: How many of a unit make one bar at the real service.
COUNTS = {"Min": range(1, 60), "Hour": range(1, 24), "Day": (1,), "Week": (1,), "Month": (1, 2, 3, 4, 6, 12)}
#: Days of bars looked at in one go while a page is filled.
STRIDE_DAYS = {"Min": 30, "Hour": 700, "Day": 10_000, "Week": 10_000, "Month": 10_000}
PAGE_START = datetime(1990, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def bar_json(bar: Candle) -> Json:
    """Return one bar with JSON numbers."""
    prices = {"o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close}
    return {
        "t": short_stamp(bar.start),
        **{key: float(price) for key, price in prices.items()},
        "v": bar.volume,
        "n": bar.trade_count,
        "vw": float(bar.vwap),
    }


def quote_json(quote: Quote) -> Json:
    """Return the best bid and ask; sizes in round lots."""
    return {
        "t": stamp(quote.at),
        "ax": "Q",
        "ap": float(quote.ask),
        "as": quote.ask_size // 100,
        "bx": "Q",
        "bp": float(quote.bid),
        "bs": quote.bid_size // 100,
        "c": ["R"],
        "z": "C",
    }


def trade_json(quote: Quote) -> Json:
    """Return the last trade."""
    return {
        "t": stamp(quote.at),
        "x": "V",
        "p": float(quote.last),
        "s": quote.last_size,
        "c": ["@"],
        "i": int(quote.at.timestamp() * 1000) % 10**9,
        "z": "C",
    }


def timeframe_of(text: str) -> tuple[int, str]:
    """Return count and unit of a timeframe; Refusal for one the real service does not offer."""
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    unit = UNITS.get(text[len(digits) :].lower())
    count = int(digits or 1)
    if unit is None or count not in COUNTS[unit]:
        raise Refusal(400, {"message": f"invalid timeframe: {text}"})
    return count, unit


def moment(text: str | None, default: datetime) -> datetime:
    """Return an RFC 3339 time (up to nine digits) or a date; Refusal for anything else."""
    if not text:
        return default
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise Refusal(400, {"message": f"invalid time: {text}"}) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def page_limit(text: str | None) -> int:
    """Return the rows asked for on a page; Refusal outside 1 to 10000."""
    try:
        limit = int(text or DEFAULT_PAGE)
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_PAGE:
        raise Refusal(400, {"message": f"invalid limit: {text}"})
    return limit


def page_token(symbol: str, at: str) -> str:
    """Return the token that continues after the row of that symbol and time."""
    return base64.b64encode(f"{symbol}|{at}".encode()).decode()


def read_token(token: str | None) -> tuple[str, datetime] | None:
    """Return symbol and time of the last row that was given; Refusal for a token that is not ours."""
    if not token:
        return None
    try:
        symbol, _, at = base64.b64decode(token, validate=True).decode().partition("|")
        return symbol, datetime.fromisoformat(at)
    except ValueError:
        raise Refusal(400, {"message": "invalid page_token"}) from None


class AlpacaData:
    """The data endpoints over one market."""

    def __init__(self, market: Market) -> None:
        self.market = market
        #: What can be asked for the latest of: path word, key of one, maker.
        self.latest: dict[str, tuple[str, str, Callable[[str], Json | None]]] = {
            "quotes": ("quote", "quotes", lambda s: quote_json(self.market.quote(s))),
            "trades": ("trade", "trades", lambda s: trade_json(self.market.quote(s))),
            "bars": ("bar", "bars", lambda s: self._last_bar(s, "1Min")),
        }

    def routes(self) -> Iterable[Route]:
        """Return the data endpoints."""
        yield Route("GET", "/v2/stocks/bars", "bars", self.many_bars)
        yield Route("GET", "/v2/stocks/snapshots", "quote", self.snapshots)
        yield Route("GET", "/v2/stocks/{kind:quotes|trades|bars}/latest", "quote", self.many_latest)
        yield Route("GET", "/v2/stocks/{symbol}/bars", "bars", self.one_bars)
        yield Route("GET", "/v2/stocks/{symbol}/snapshot", "quote", self.snapshot)
        yield Route("GET", "/v2/stocks/{symbol}/{kind:quotes|trades|bars}/latest", "quote", self.one_latest)

    async def one_bars(self, request: web.Request) -> web.Response:
        """Answer bars of one symbol; null instead of a list when there are none."""
        symbol = request.match_info["symbol"]
        looped = self.market.faults.peek("alpaca", "page_loop", symbol, "bars")
        if looped is not None:
            self.market.faults.note(looped, "alpaca", symbol, "bars")
            bar, turns = bar_json(self.market.bars(symbol, "1Day", PAGE_START, datetime.now(UTC))[-1]), ("A", "B")
            other = turns[request.query.get("page_token") == "A"]
            return web.json_response({"bars": [bar], "symbol": symbol, "next_page_token": other})
        rows, token = self._bars([symbol], request)
        bars = [row for _, row in rows] or None
        return web.json_response({"bars": bars, "symbol": symbol, "next_page_token": token})

    async def many_bars(self, request: web.Request) -> web.Response:
        """Answer bars of several symbols, symbol by symbol over the pages."""
        rows, token = self._bars(sorted(symbols_of(request)), request)
        bars: dict[str, list[Json]] = {}
        for symbol, row in rows:
            bars.setdefault(symbol, []).append(row)
        return web.json_response({"bars": bars, "next_page_token": token})

    async def one_latest(self, request: web.Request) -> web.Response:
        """Answer the latest quote, trade or minute bar of one symbol."""
        symbol, (one, _, make) = request.match_info["symbol"], self.latest[request.match_info["kind"]]
        found = make(symbol) if self.market.prices.is_share(symbol) else None
        if found is None:
            raise Refusal(404, {"message": f"no {one} found for {symbol}"})
        return web.json_response({"symbol": symbol, one: found})

    async def many_latest(self, request: web.Request) -> web.Response:
        """Answer the latest of several symbols; unknown ones are left out."""
        _, many, make = self.latest[request.match_info["kind"]]
        known = [symbol for symbol in symbols_of(request) if self.market.prices.is_share(symbol)]
        return web.json_response({many: {symbol: make(symbol) for symbol in known}})

    async def snapshot(self, request: web.Request) -> web.Response:
        """Answer everything latest of one symbol."""
        symbol = request.match_info["symbol"]
        if not self.market.prices.is_share(symbol):
            raise Refusal(404, {"message": f"no snapshot found for {symbol}"})
        return web.json_response({"symbol": symbol, **self._snapshot(symbol)})

    async def snapshots(self, request: web.Request) -> web.Response:
        """Answer everything latest of several symbols; unknown ones are left out."""
        known = [symbol for symbol in symbols_of(request) if self.market.prices.is_share(symbol)]
        return web.json_response({symbol: self._snapshot(symbol) for symbol in known})

    def _bars(self, symbols: Iterable[str], request: web.Request) -> tuple[list[tuple[str, Json]], str | None]:
        """Return one page of rows over the symbols, and the token of the next page."""
        query, now = request.query, datetime.now(UTC)
        limit, timeframe = page_limit(query.get("limit")), timeframe_of(query.get("timeframe", "1Min"))
        start = moment(query.get("start"), now.replace(hour=0, minute=0, second=0, microsecond=0))
        end = moment(query.get("end"), now)
        after, newest_first = read_token(query.get("page_token")), query.get("sort") == "desc"
        rows: list[tuple[str, Json]] = []
        for symbol in symbols:
            first, last = start, end
            if after is not None and symbol < after[0]:
                continue
            if after is not None and symbol == after[0]:
                first, last = (start, after[1] - TICK) if newest_first else (after[1] + TICK, end)
            walk = self._walk(symbol, timeframe, first, last, newest_first)
            rows += [(symbol, bar_json(bar)) for bar in islice(walk, limit + 1 - len(rows))]
        page = rows[:limit]
        return page, page_token(page[-1][0], page[-1][1]["t"]) if len(rows) > limit else None

    def _walk(
        self, symbol: str, timeframe: tuple[int, str], start: datetime, end: datetime, newest_first: bool
    ) -> Iterator[Candle]:
        """Yield bars stride by stride, so that one page of a long range does not cost the whole range."""
        count, unit = timeframe
        stride = timedelta(days=STRIDE_DAYS[unit])
        start, end = max(start, PAGE_START), min(end, datetime.now(UTC))
        while self.market.prices.is_share(symbol) and start <= end:
            low, high = (max(start, end - stride), end) if newest_first else (start, min(end, start + stride))
            bars = self.market.bars(symbol, f"{count}{unit}", low, high)
            yield from reversed(bars) if newest_first else bars
            start, end = (start, low - TICK) if newest_first else (high + TICK, end)

    def _last_bar(self, symbol: str, timeframe: str, back: int = 1) -> Json | None:
        days = {"1Min": 5, "1Day": 12}[timeframe]
        now = datetime.now(UTC)
        bars = self.market.bars(symbol, timeframe, now - timedelta(days=days), now)
        return bar_json(bars[-back]) if len(bars) >= back else None

    def _snapshot(self, symbol: str) -> Json:
        """Return the latest trade and quote of a symbol, its last minute and day, and the day before."""
        quote = self.market.quote(symbol)
        return {
            "latestTrade": trade_json(quote),
            "latestQuote": quote_json(quote),
            "minuteBar": self._last_bar(symbol, "1Min"),
            "dailyBar": self._last_bar(symbol, "1Day"),
            "prevDailyBar": self._last_bar(symbol, "1Day", 2),
        }


def symbols_of(request: web.Request) -> list[str]:
    """Return the symbols of the query; Refusal when there are none."""
    symbols = [s.strip() for s in request.query.get("symbols", "").split(",") if s.strip()]
    if not symbols:
        raise Refusal(400, {"message": "symbols is required"})
    return symbols
