"""Alpaca's market data: the latest quote, and candles page by page, in corro's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from models.errors import DataError, NoData, UnreadableReply, Unsupported
from models.reports import Bar, Bars, QuoteReport
from models.timeframes import NEW_YORK
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.oddities import Oddities
from worker.brokers.rest.http import as_data_error
from worker.brokers.rest.reading import Paging
from worker.brokers.values import UNREADABLE, Raw, moment, needed, positive, rfc3339, segment, size, soft

TIMEFRAMES = ("1Min", "5Min", "15Min", "30Min", "1Hour", "1Day", "1Week", "1Month")
BARS_PAGE = 10_000


class AlpacaPrices:
    """Prices of one feed.

    Args:
        broker: name from the settings.
        rest: returns the data API, or raises DataError.
        feed: iex or sip.
        odd: is told of candles that cannot be read.
    """

    def __init__(self, broker: str, rest: Callable[[], AlpacaRest], feed: str, odd: Oddities) -> None:
        self._broker, self._rest, self._feed, self._odd = broker, rest, feed, odd

    def quote(self, symbol: str) -> QuoteReport:
        """Return the latest quote, trade and volume."""
        rest = self._rest()
        snapshot = rest.read_data(f"/stocks/{segment(symbol)}/snapshot", {"feed": self._feed})
        report = rest.parse_data(lambda raw: quote_report(symbol, raw), snapshot)
        if report.bid is report.ask is report.last is None:
            raise NoData(f"{self._broker} has no quote for {symbol}")
        return report

    def bars(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return unadjusted candles; one that says nothing is left out, and said once."""
        if timeframe not in TIMEFRAMES:
            has = ", ".join(TIMEFRAMES)
            raise Unsupported(f"{self._broker} has no {timeframe} bars (it has {has})", broker=self._broker)
        query: dict[str, str | int] = {
            "timeframe": timeframe,
            "start": rfc3339(start),
            "end": rfc3339(end),
            "adjustment": "raw",
            "feed": self._feed,
            "limit": BARS_PAGE,
        }
        found, unreadable = read_bars(self._rows(symbol, query), start, end)
        if unreadable and not found:
            words = f"no {timeframe} bar of {symbol} can be read: {str(unreadable[0])[:200]}"
            raise DataError(f"{self._broker}: {words}")
        for row in unreadable:
            self._odd.note(f"candle {symbol} {timeframe} {str(row)[:200]}", "not all its prices, or no time")
        if not found:
            span = f"{start.isoformat()} .. {end.isoformat()}"
            raise NoData(f"{self._broker} has no {timeframe} bars of {symbol} in {span}")
        return Bars(found, left_out=len(unreadable))

    def _rows(self, symbol: str, query: dict[str, str | int]) -> Iterator[Raw]:
        """Yield the bars of all pages.

        Raises:
            DataError: a page has something else in their place.
        """
        pages = Paging(self._broker, f"bars of {symbol}")
        while True:
            page = self._rest().read_data(f"/stocks/{segment(symbol)}/bars", query)
            rows = page.get("bars", "missing")  # null where there are none
            if not isinstance(rows, (list, type(None))):
                raise DataError(f"{self._broker}: the bars of {symbol} are {str(rows)[:80]}")
            yield from rows or ()
            if not (token := page.get("next_page_token")):
                return
            try:
                query["page_token"] = pages.turn(token)
            except UnreadableReply as error:
                raise as_data_error(error) from error


def quote_report(symbol: str, snapshot: Raw) -> QuoteReport:
    """Read a snapshot: the latest quote and trade, and the volume of the day they belong to.

    Sizes of quotes are the feed's own numbers. They were round lots of 100 shares (Alpaca's staff in
    forum.alpaca.markets/t/16000); since round lots have been 100, 40, 10 or 1 shares by price, and the tapes publish
    shares (SEC release 34-101070, in force since 2025-11-03), no factor holds for every feed and day.
    """
    quote, trade, day = (_part(snapshot, key) for key in ("latestQuote", "latestTrade", "dailyBar"))
    at = soft(moment, quote.get("t")) or soft(moment, trade.get("t"))
    opened = soft(moment, day.get("t"))
    is_today = at and opened and at.astimezone(NEW_YORK).date() == opened.astimezone(NEW_YORK).date()
    return QuoteReport(
        symbol=symbol,
        bid=soft(positive, quote.get("bp")),
        ask=soft(positive, quote.get("ap")),
        last=soft(positive, trade.get("p")),
        bid_size=soft(positive, quote.get("bs")),
        ask_size=soft(positive, quote.get("as")),
        last_size=soft(positive, trade.get("s")),
        size_unit="unspecified",
        volume=soft(positive, day.get("v")) if is_today else None,
        at=at,
    )


def _part(raw: Raw, key: str) -> Raw:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def read_bars(rows: Iterable[Raw], start: datetime, end: datetime) -> tuple[list[Bar], list[Raw]]:
    """Read candles with start <= bar.start < end, and return those that cannot be read beside them.

    A candle without its prices, or its time, says nothing; nothing is made up for it.
    """
    found, unreadable = [], []
    for row in rows:
        try:
            at = moment(row["t"])
            if at is None:
                raise ValueError("a bar without a time")
            open_, high, low, close = (needed(row, key, positive) for key in "ohlc")
            bar = Bar(start=at, open=open_, high=high, low=low, close=close, volume=needed(row, "v", size))
        except UNREADABLE:
            unreadable.append(row)
            continue
        if start <= at < end:
            found.append(bar)
    return sorted(found, key=lambda bar: bar.start), unreadable
