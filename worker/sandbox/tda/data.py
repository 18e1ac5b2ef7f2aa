"""TDA's and Schwab's market data: quotes (flat at TDA, nested at Schwab) and candles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from aiohttp import web

from worker.sandbox.http_door import Route
from worker.sandbox.market.market import Candle, Market, Quote
from worker.sandbox.tda.bodies import instrument_id
from worker.sandbox.tda.chains import TdaChains
from worker.sandbox.tda.dialect import FUNDS, DoorDialect, Json, correlation

#: periodType to its periods, the default period, and its frequency types with the default last.
PERIODS: dict[str, tuple[tuple[int, ...], int, tuple[str, ...]]] = {
    "day": ((1, 2, 3, 4, 5, 10), 10, ("minute",)),
    "month": ((1, 2, 3, 6), 1, ("daily", "weekly")),
    "year": ((1, 2, 3, 5, 10, 15, 20), 1, ("daily", "weekly", "monthly")),
    "ytd": ((1,), 1, ("daily", "weekly")),
}
FREQUENCIES: dict[str, tuple[int, ...]] = {"minute": (1, 5, 10, 15, 30), "daily": (1,), "weekly": (1,), "monthly": (1,)}
UNITS = {"minute": "Min", "daily": "Day", "weekly": "Week", "monthly": "Month"}
#: Days of minute candles that the service keeps, by frequency; longer candles go back for ever.
#: Source: schwab-py `get_price_history_every_*` (48 days of minutes, about nine months of the others).
KEPT_DAYS = {1: 48, 5: 270, 10: 270, 15: 270, 30: 270}
PARTS = ("quote", "reference", "regular", "fundamental", "extended")


def milliseconds(at: datetime) -> int:
    """Return a time as milliseconds since 1970."""
    return int(at.timestamp() * 1000)


class TdaData:
    """The market data endpoints of one dialect."""

    def __init__(self, market: Market, dialect: DoorDialect) -> None:
        self._market = market
        self._dialect = dialect

    def routes(self) -> Iterable[Route]:
        """Return the market data endpoints."""
        base = self._dialect.data
        yield Route("GET", f"{base}/quotes", "quote", self._quotes)
        yield Route("GET", f"{base}/{{symbol}}/quotes", "quote", self._quote)
        candles = "/pricehistory" if self._dialect.name == "schwab" else "/{symbol}/pricehistory"
        yield Route("GET", f"{base}{candles}", "bars", self._candles)
        yield from TdaChains(self._market, self._dialect).routes()

    # -- QUOTES ---

    async def _quotes(self, request: web.Request) -> web.Response:
        """Answer with quotes by symbol; unknown symbols are left out at TDA, and listed as errors at Schwab."""
        schwab = self._dialect.name == "schwab"
        name = "symbols" if schwab else "symbol"
        symbols = [s.strip() for s in request.query.get(name, "").split(",") if s.strip()]
        if not symbols:
            raise self._dialect.no_data(400, "Bad Request", "Search combination should have min of 1.")
        ours = {asked: self._dialect.ours(asked) for asked in symbols}
        body: Json = {s: self._quote_json(ours[s], request) for s in symbols if self._market.prices.is_share(ours[s])}
        unknown = [symbol for symbol in symbols if symbol not in body]
        if schwab and unknown:
            body["errors"] = {"invalidSymbols": unknown}
        return self._answer(body)

    async def _quote(self, request: web.Request) -> web.Response:
        asked = request.match_info["symbol"]
        symbol = self._dialect.ours(asked)
        if self._market.prices.is_share(symbol):
            return self._answer({asked: self._quote_json(symbol, request)})
        if self._dialect.name == "tda":
            return self._answer({})
        raise self._dialect.no_data(404, "Not Found", f"No quote found for {symbol}")

    def _quote_json(self, symbol: str, request: web.Request) -> Json:
        """Return one quote: flat and, without a login, delayed at TDA; in parts at Schwab."""
        quote, day, before = self._market.quote(symbol), *self._days(symbol)
        if self._dialect.name == "tda":
            return {**_flat(symbol, quote, day, before), "delayed": not request.headers.get("Authorization")}
        wanted = request.query.get("fields", "all").split(",")
        if not set(wanted) <= {*PARTS, "all"}:
            detail = f"valid fields should be any of all,{','.join(PARTS)} or empty value"
            raise self._dialect.no_data(400, "Bad Request", detail)
        parts = _nested(symbol, quote, day, before)
        head: Json = {
            "assetMainType": "EQUITY",
            "assetSubType": "ETF" if symbol in FUNDS else "COE",
            "quoteType": "NBBO",
        }
        chosen = {name: part for name, part in parts.items() if name in wanted or "all" in wanted}
        head |= {"realtime": True, "ssid": instrument_id(symbol), "symbol": self._dialect.theirs(symbol)}
        return {**head, **chosen}

    def _days(self, symbol: str) -> tuple[Candle, Candle]:
        """Return the newest daily bar and the one before."""
        now = datetime.now(UTC)
        bars = self._market.bars(symbol, "1Day", now - timedelta(days=10), now)
        return bars[-1], bars[-2]

    # -- CANDLES ---

    async def _candles(self, request: web.Request) -> web.Response:
        """Answer with candles of a window."""
        query = request.query
        symbol = self._dialect.ours(request.match_info.get("symbol") or query.get("symbol", ""))
        timeframe, start, end = self._window(query)
        if not self._market.prices.is_share(symbol):
            if self._dialect.name == "tda":
                return self._answer({"candles": [], "symbol": symbol, "empty": True})
            raise self._dialect.no_data(404, "Not Found", f"Symbol not found: {symbol}")
        candles = [_candle(bar) for bar in self._market.bars(symbol, timeframe, start, end)]
        body: Json = {"candles": candles, "symbol": self._dialect.theirs(symbol), "empty": not candles}
        if query.get("needPreviousClose") == "true":
            earlier = self._market.bars(symbol, "1Day", start - timedelta(days=10), start - timedelta(microseconds=1))
            body |= {"previousClose": float(earlier[-1].close), "previousCloseDate": milliseconds(earlier[-1].start)}
        return self._answer(body)

    def _window(self, query: Mapping[str, str]) -> tuple[str, datetime, datetime]:
        """Return timeframe, start and end of a candle request; Refusal for a combination that does not exist."""
        kind = query.get("periodType", "day")
        if kind not in PERIODS:
            raise self._bad(f"periodType {kind}")
        periods, usual, frequency_types = PERIODS[kind]
        frequency_type = query.get("frequencyType", frequency_types[-1])
        if frequency_type not in frequency_types:
            raise self._bad(f"frequencyType {frequency_type} with periodType {kind}")
        frequency = self._whole(query, "frequency", 1)
        if frequency not in FREQUENCIES[frequency_type]:
            raise self._bad(f"frequency {frequency} with frequencyType {frequency_type}")
        period = self._whole(query, "period", usual)
        if period not in periods:
            raise self._bad(f"period {period} with periodType {kind}")
        end = self._moment(query, "endDate") or datetime.now(UTC)
        start = self._moment(query, "startDate") or _back(end, kind, period)
        if start > end:
            raise self._bad("startDate after endDate")
        if frequency_type == "minute":
            start = max(start, datetime.now(UTC) - timedelta(days=KEPT_DAYS[frequency]))
        return f"{frequency}{UNITS[frequency_type]}", start, end

    def _whole(self, query: Mapping[str, str], name: str, usual: int) -> int:
        text = query.get(name)
        try:
            return int(text) if text else usual
        except ValueError:
            raise self._bad(f"{name} {text}") from None

    def _moment(self, query: Mapping[str, str], name: str) -> datetime | None:
        text = query.get(name)
        try:
            return datetime.fromtimestamp(int(text) / 1000, UTC) if text else None
        except (ValueError, OverflowError, OSError):
            raise self._bad(f"{name} {text}") from None

    def _bad(self, what: str) -> Exception:
        return self._dialect.no_data(400, "Bad Request", f"Invalid value: {what}")

    def _answer(self, body: Json) -> web.Response:
        return web.json_response(body, headers=correlation() if self._dialect.name == "schwab" else None)


def _back(end: datetime, kind: str, period: int) -> datetime:
    """Return where a period that ends there begins; days are trading days."""
    if kind == "ytd":
        return end.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    if kind != "day":
        return end - timedelta(days={"month": 30.5, "year": 365.25}[kind] * period)
    start = end.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(period):
        while start.weekday() > 4:
            start -= timedelta(days=1)
        start -= timedelta(days=1)
    return start


def _candle(bar: Candle) -> Json:
    """Return one candle; its time is the beginning, epoch milliseconds."""
    return {
        "open": float(bar.open),
        "high": float(bar.high),
        "low": float(bar.low),
        "close": float(bar.close),
        "volume": bar.volume,
        "datetime": milliseconds(bar.start),
    }


def _flat(symbol: str, quote: Quote, day: Candle, before: Candle) -> Json:
    """Return TDA's quote of one symbol."""
    last, at = float(quote.last), milliseconds(quote.at)
    change = round(last - float(before.close), 4)
    return {
        "assetType": "ETF" if symbol in FUNDS else "EQUITY",
        "symbol": symbol,
        "description": f"{symbol} - Common Stock",
        "bidPrice": float(quote.bid),
        "bidSize": quote.bid_size,
        "bidId": "Q",
        "askPrice": float(quote.ask),
        "askSize": quote.ask_size,
        "askId": "Q",
        "lastPrice": last,
        "lastSize": quote.last_size,
        "lastId": "D",
        "openPrice": float(day.open),
        "highPrice": float(day.high),
        "lowPrice": float(day.low),
        "closePrice": float(before.close),
        "netChange": change,
        "totalVolume": quote.volume,
        "quoteTimeInLong": at,
        "tradeTimeInLong": at,
        "mark": last,
        "exchange": "q",
        "exchangeName": "NASD",
        "marginable": True,
        "shortable": True,
        "volatility": 0.0125,
        "digits": 4,
        "52WkHigh": round(last * 1.25, 2),
        "52WkLow": round(last * 0.75, 2),
        "nAV": 0.0,
        "peRatio": 0.0,
        "divAmount": 0.0,
        "divYield": 0.0,
        "divDate": "",
        "securityStatus": "Normal",
        "regularMarketLastPrice": last,
        "regularMarketLastSize": quote.last_size // 100,
        "regularMarketNetChange": change,
        "regularMarketTradeTimeInLong": at,
    }


def _nested(symbol: str, quote: Quote, day: Candle, before: Candle) -> dict[str, Json]:
    """Return the parts of Schwab's quote of one symbol."""
    last, close, at = float(quote.last), float(before.close), milliseconds(quote.at)
    change = round(last - close, 4)
    percent = round(change / close * 100, 4)
    return {
        "quote": {
            "52WeekHigh": round(last * 1.25, 2),
            "52WeekLow": round(last * 0.75, 2),
            "askMICId": "XNAS",
            "askPrice": float(quote.ask),
            "askSize": quote.ask_size,
            "askTime": at,
            "bidMICId": "XNAS",
            "bidPrice": float(quote.bid),
            "bidSize": quote.bid_size,
            "bidTime": at,
            "closePrice": close,
            "highPrice": float(day.high),
            "lastMICId": "XNAS",
            "lastPrice": last,
            "lastSize": quote.last_size,
            "lowPrice": float(day.low),
            "mark": last,
            "markChange": change,
            "markPercentChange": percent,
            "netChange": change,
            "netPercentChange": percent,
            "openPrice": float(day.open),
            "quoteTime": at,
            "securityStatus": "Normal",
            "totalVolume": quote.volume,
            "tradeTime": at,
        },
        "reference": {
            "cusip": f"{instrument_id(symbol) % 10**9:09d}",
            "description": f"{symbol} COMMON STOCK",
            "exchange": "Q",
            "exchangeName": "NASDAQ",
            "isHardToBorrow": False,
            "isShortable": True,
        },
        "regular": {
            "regularMarketLastPrice": last,
            "regularMarketLastSize": quote.last_size,
            "regularMarketNetChange": change,
            "regularMarketPercentChange": percent,
            "regularMarketTradeTime": at,
        },
        "fundamental": {"avg10DaysVolume": float(day.volume), "avg1YearVolume": float(day.volume), "divYield": 0.0},
        "extended": {
            "askPrice": 0.0,
            "askSize": 0,
            "bidPrice": 0.0,
            "bidSize": 0,
            "lastPrice": last,
            "lastSize": 0,
            "mark": 0.0,
            "quoteTime": 0,
            "totalVolume": 0,
            "tradeTime": 0,
        },
    }
