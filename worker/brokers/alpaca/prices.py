"""Alpaca's market data: the latest quote, and candles page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from models.errors import DataError, NoData, UnreadableReply, Unsupported
from models.reports import Bar, Bars, QuoteReport
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.rest.http import as_data_error
from worker.brokers.rest.reading import Paging
from worker.brokers.values import rfc3339, segment
from worker.runtime.said import Said

TIMEFRAMES = ("1Min", "5Min", "15Min", "30Min", "1Hour", "1Day", "1Week", "1Month")
BARS_PAGE = 10_000


class Prices:
    """Prices of one feed.

    Args:
        broker: name from the settings.
        rest: returns the data API, or raises DataError.
        feed: iex or sip.
    """

    def __init__(self, broker: str, rest: Callable[[], AlpacaRest], feed: str) -> None:
        self._broker, self._rest, self._feed = broker, rest, feed
        self._said = Said(broker)

    def quote(self, symbol: str) -> QuoteReport:
        """Return the latest quote, trade and volume."""
        rest = self._rest()
        snapshot = rest.read_data(f"/stocks/{segment(symbol)}/snapshot", {"feed": self._feed})
        report = rest.parse_data(lambda raw: read.quote_report(symbol, raw), snapshot)
        if report.bid is report.ask is report.last is None:
            raise NoData(f"{self._broker} has no quote for {symbol}")
        return report

    def bars(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return unadjusted candles; one that says nothing is left out, and said once."""
        if timeframe not in TIMEFRAMES:
            has = ", ".join(TIMEFRAMES)
            raise Unsupported(f"{self._broker} has no {timeframe} bars (it has {has})", broker=self._broker)
        query = {
            "timeframe": timeframe,
            "start": rfc3339(start),
            "end": rfc3339(end),
            "adjustment": "raw",
            "feed": self._feed,
            "limit": BARS_PAGE,
        }
        found, unreadable = read.bars(self._rows(symbol, query), start, end)
        if unreadable and not found:
            words = f"no {timeframe} bar of {symbol} can be read: {str(unreadable[0])[:200]}"
            raise DataError(f"{self._broker}: {words}")
        for row in unreadable:
            self._said.once("bar_unreadable", symbol=symbol, timeframe=timeframe, bar=str(row)[:200])
        if not found:
            span = f"{start.isoformat()} .. {end.isoformat()}"
            raise NoData(f"{self._broker} has no {timeframe} bars of {symbol} in {span}")
        return Bars(found, left_out=len(unreadable))

    def _rows(self, symbol: str, query: dict[str, Any]) -> Iterator[Any]:
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
