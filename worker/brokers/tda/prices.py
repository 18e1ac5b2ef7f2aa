"""TDA's and Schwab's market data: the current quote, and candles window by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from models.errors import DataError, NoData, Unsupported
from models.reports import Bar, Bars, QuoteReport
from worker.brokers.oddities import Oddities
from worker.brokers.tda.dialects import FREQUENCIES, TdaDialect
from worker.brokers.tda.rest import TdaRest
from worker.brokers.values import UNREADABLE, Raw, epoch_ms, needed, positive, segment, size, soft


class TdaPrices:
    """Prices as one account is told them.

    Args:
        broker: name from the settings.
        rest: the way there.
        dialect: how they are asked for.
        odd: is told of candles that cannot be read.
    """

    def __init__(self, broker: str, rest: TdaRest, dialect: TdaDialect, odd: Oddities) -> None:
        self._broker, self._rest, self._dialect, self._odd = broker, rest, dialect, odd

    def quote(self, symbol: str) -> QuoteReport:
        """Return the current quote."""
        theirs = self._dialect.symbol(symbol)
        answer = self._rest.read_data(f"{self._dialect.market}/{segment(theirs)}/quotes", {})
        raw = answer.get(theirs)
        if not raw or not isinstance(raw, dict):
            raise NoData(f"{self._broker} has no quote for {symbol}")
        return self._rest.parse_data(lambda quote: quote_report(symbol, quote), raw)

    def bars(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return candles of the regular session; one that says nothing is left out, and told of."""
        if timeframe not in FREQUENCIES:
            has = ", ".join(FREQUENCIES)
            raise Unsupported(f"{self._broker} has no {timeframe} bars (it has {has})", broker=self._broker)
        step = timedelta(days=FREQUENCIES[timeframe][3])
        rows: list[Raw] = []
        first = start
        while first < end:
            rows += self._rows(symbol, timeframe, first, min(first + step, end))
            first += step
        found, unreadable = read_bars(rows, start, end, self._odd)
        if unreadable and not found:
            words = f"no {timeframe} bar of {symbol} can be read: {str(unreadable[0])[:200]}"
            raise DataError(f"{self._broker}: {words}")
        if not found:
            span = f"{start.isoformat()} .. {end.isoformat()}"
            raise NoData(f"{self._broker} has no {timeframe} bars of {symbol} in {span}")
        return Bars(found, left_out=len(unreadable))

    def _rows(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> list[Raw]:
        """Read candles of a timeframe between two moments, as the broker has them."""
        period_type, frequency_type, frequency, _ = FREQUENCIES[timeframe]
        query: dict[str, str | int] = {
            "periodType": period_type,
            "frequencyType": frequency_type,
            "frequency": frequency,
            "startDate": int(start.timestamp() * 1000),
            "endDate": int(end.timestamp() * 1000),
            "needExtendedHoursData": "false",
        }
        in_path, theirs = "{symbol}" in self._dialect.history, self._dialect.symbol(symbol)
        path = self._dialect.history.format(symbol=segment(theirs)) if in_path else self._dialect.history
        answer = self._rest.read_data(self._dialect.market + path, query if in_path else query | {"symbol": theirs})
        rows = answer.get("candles")
        if rows is None and answer.get("empty") is True:
            return []
        if not isinstance(rows, list):
            raise DataError(f"{self._broker}: the candles of {symbol} are no list: {str(rows)[:80]}")
        return rows


def quote_report(symbol: str, raw: Raw) -> QuoteReport:
    """Read a quote: flat at TDA, nested at Schwab, otherwise the same. What cannot be read is None."""
    found = raw.get("quote")
    inner: Raw = found if isinstance(found, dict) and found else raw
    price = {key: soft(positive, inner.get(key)) for key in ("bidPrice", "askPrice", "lastPrice")}
    sizes = {key: soft(positive, inner.get(key)) for key in ("bidSize", "askSize", "lastSize")}
    return QuoteReport(
        symbol=symbol,
        bid=price["bidPrice"],
        ask=price["askPrice"],
        last=price["lastPrice"],
        bid_size=sizes["bidSize"],
        ask_size=sizes["askSize"],
        last_size=sizes["lastSize"],
        volume=soft(size, inner.get("totalVolume")),
        at=soft(epoch_ms, inner.get("quoteTime") or inner.get("quoteTimeInLong")),
        delayed=bool(raw.get("delayed")) or raw.get("realtime") is False,
    )


def read_bars(rows: Iterable[Raw], start: datetime, end: datetime, odd: Oddities) -> tuple[list[Bar], list[Raw]]:
    """Read candles with start <= bar.start < end, each start once, and return those that cannot be read beside them.

    One without all its prices, or its time, says nothing: it is told of, and nothing is made up for it.
    """
    found: dict[datetime, Bar] = {}
    unreadable = []
    for row in rows:
        try:
            at = epoch_ms(row["datetime"])
            if at is None:
                raise ValueError(f"datetime is {row['datetime']!r}")
            if start <= at < end:
                open_, high, low, close = (needed(row, key, positive) for key in ("open", "high", "low", "close"))
                volume = needed(row, "volume", size)
                found[at] = Bar(start=at, open=open_, high=high, low=low, close=close, volume=volume)
        except UNREADABLE as error:
            unreadable.append(row)
            odd.note(f"candle {str(row.get('datetime') if isinstance(row, dict) else row)[:80]}", error)
    return [found[at] for at in sorted(found)], unreadable
