"""Market data of Interactive Brokers: snapshots of quotes, and bars in as many requests as its limits need."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import structlog

from models.errors import (
    BrokerError,
    DataError,
    DataNotPermitted,
    InstrumentUnknown,
    NoData,
    NoSuchSymbol,
    NotConnected,
    QuotaExhausted,
    Unsupported,
)
from models.instruments import may_be, read_instrument
from models.reports import Bar, Bars, QuoteReport
from models.timeframes import NEW_YORK, TIMEFRAMES
from worker.brokers.ibkr.frames import RawBar
from worker.brokers.ibkr.pacing import HistoryPace
from worker.brokers.ibkr.sdk import SdkContract, SdkTicker
from worker.brokers.ibkr.session import TwsSession, paced
from worker.brokers.values import bar, epoch_s, positive

_log = structlog.get_logger()

#: A snapshot ends by itself within 11 s on a quiet symbol.
QUOTE_TIMEOUT_S = 12.0
BARS_TIMEOUT_S = 60.0
#: What bars are made of where that is not trades (docs/facts/ibkr.md#9.5, #9.6).
_SHOWN = {"CASH": "MIDPOINT", "CRYPTO": "AGGTRADES"}
#: Quotes that TWS marks as delayed, or delayed and frozen.
_DELAYED = frozenset({3, 4})


@dataclass(frozen=True, slots=True)
class BarSize:
    """IB's word for a timeframe, and the most days one request may span (docs/facts/ibkr.md#7.6).

    `unit` is the letter durations are written with, and how many days it stands for at least.
    """

    word: str
    max_days: int
    unit: tuple[str, int] = ("D", 1)

    def duration(self, days: int) -> str:
        """Write a duration that holds so many days: no shorter than a bar, and years above one year."""
        letter, length = self.unit
        if days > 365:
            return f"{math.ceil(days / 365)} Y"
        return f"{math.ceil(days / length)} {letter}"


BAR_SIZES = {
    "1Min": BarSize("1 min", 1),
    "5Min": BarSize("5 mins", 7),
    "15Min": BarSize("15 mins", 14),
    "30Min": BarSize("30 mins", 30),
    "1Hour": BarSize("1 hour", 30),
    "1Day": BarSize("1 day", 365),
    "1Week": BarSize("1W", 5 * 365, ("W", 7)),
    "1Month": BarSize("1M", 10 * 365, ("M", 28)),
}


async def quote(session: TwsSession, symbol: str) -> QuoteReport:
    """Read one snapshot; NaN, 0 and -1 are IB's words for 'none'.

    Raises:
        DataNotPermitted: also where IB said that part of the data is not subscribed, and no price came after it.
        NoData: there are no prices.
    """
    contract = await _contract(session, symbol)
    ticker, notice = await _snapshot(session, symbol, contract)
    report = QuoteReport(
        symbol=symbol,
        bid=positive(ticker.bid),
        ask=positive(ticker.ask),
        last=positive(ticker.last),
        bid_size=positive(ticker.bidSize),
        ask_size=positive(ticker.askSize),
        last_size=positive(ticker.lastSize),
        volume=positive(ticker.volume),
        at=ticker.time.astimezone(UTC) if ticker.time else None,
        delayed=ticker.marketDataType in _DELAYED,
        currency=contract.currency or None,
    )
    if not _has_price(ticker):
        if notice is not None:
            raise DataNotPermitted(f"{session.options.broker}: {notice}, and no price of {symbol} came")
        raise NoData(f"{session.options.broker}: no prices for {symbol}")
    return report


async def _snapshot(session: TwsSession, symbol: str, contract: SdkContract) -> tuple[SdkTicker, str | None]:
    """Return the ticker of one snapshot of its own, and IB's notice about the request.

    The SDKs share tickers: one by the contract's address, the other by the contract, so that an old price would stay.
    """
    wrapper, client = session.ib.wrapper, session.client
    ticker, asked = session.sdk.Ticker(contract=contract), 0

    async def request() -> None:
        nonlocal asked
        asked = client.getReqId()
        ended = wrapper.startReq(asked, contract)
        wrapper.reqId2Ticker[asked] = ticker
        client.reqMktData(asked, contract, "", True, False, [])
        await ended

    try:
        await session.read(f"a quote of {symbol}", request, QUOTE_TIMEOUT_S)
    except NotConnected:
        raise
    except BrokerError:  # no end in time; prices that came are a quote all the same
        if not _has_price(ticker):
            raise
    finally:
        for table in (wrapper.reqId2Ticker, wrapper._futures, wrapper._results, wrapper._reqId2Contract):
            table.pop(asked, None)
    return ticker, session.frames.notice(asked)


def _has_price(ticker: SdkTicker) -> bool:
    return any(positive(price) for price in (ticker.bid, ticker.ask, ticker.last))


async def bars(
    session: TwsSession, pace: HistoryPace, symbol: str, timeframe: str, start: datetime, end: datetime
) -> list[Bar]:
    """Read bars, newest request first, in as many requests as IB's limits need.

    Raises:
        NoData: IB said of every part that it has nothing there; any other failure of one part fails them all.
    """
    broker, size = session.options.broker, BAR_SIZES.get(timeframe)
    if size is None:
        words = ", ".join(BAR_SIZES)
        raise Unsupported(f"{broker} has no {timeframe} bars, only {words}")
    contract = await _contract(session, symbol)
    found: dict[datetime, Bar | None] = {}
    undated: list[RawBar] = []
    # A request that ends within a bar gets a part of that bar: end at midnight, or now.
    upto = min(max(TIMEFRAMES[name].around(end, end)[1] for name in ("1Day", timeframe)), datetime.now(UTC))
    while upto > start:
        days = min(math.ceil((upto - start) / timedelta(days=1)), size.max_days)
        part = await _bars_upto(session, pace, contract, size, upto, days)
        read, lost = read_bars(part, timeframe)
        found |= read
        undated += lost
        upto = min([upto - timedelta(days=days), *sorted(read)[:1]])
    wanted = {at: one for at, one in sorted(found.items()) if start <= at < end}
    good = [one for one in wanted.values() if one is not None]
    priceless = [at.isoformat() for at, one in wanted.items() if one is None]
    if spoilt := [*priceless, *(f"a bar dated {raw.date!r}" for raw in undated)]:
        first, count = spoilt[0][:80], len(spoilt)
        _log.warning("bars_without_prices", broker=broker, symbol=symbol, timeframe=timeframe, count=count, first=first)
        if not good:
            raise DataError(f"{broker}: none of {count} {timeframe} bars of {symbol} can be read, the first is {first}")
    if not good:
        raise NoData(f"{broker}: no {timeframe} bars of {symbol} between {start} and {end}")
    return Bars(good, left_out=len(spoilt))


async def _bars_upto(
    session: TwsSession, pace: HistoryPace, contract: SdkContract, size: BarSize, upto: datetime, days: int
) -> Sequence[RawBar]:
    """Return the bars of so many days before a moment, oldest first; none where TWS has none."""
    last, duration = upto.astimezone(UTC).replace(microsecond=0), size.duration(days)

    async def request() -> Sequence[RawBar]:
        try:
            # formatDate 2: epoch seconds, so that no zone has to be guessed. timeout 0: ours counts, the SDK's says [].
            shown = _SHOWN.get(contract.secType, "TRADES")
            arguments = (contract, last, duration, size.word, shown, True, 2)
            ask = lambda: session.ib.reqHistoricalDataAsync(*arguments, timeout=0)  # noqa: E731
            found: Sequence[RawBar] = await session.read("bars", ask, BARS_TIMEOUT_S)
            return found
        except NoData:
            return ()

    rows: Sequence[RawBar] = await pace.ask(contract.conId, (last, duration, size.word), request)
    return rows


def read_bars(rows: Sequence[RawBar], timeframe: str) -> tuple[dict[datetime, Bar | None], list[RawBar]]:
    """Read the bars of one answer by the beginning of their interval, None for those without prices.

    Returns:
        Also those whose time is none: one spoilt row keeps nobody from the others, as at the other brokers.
    """
    found: dict[datetime, Bar | None] = {}
    undated = []
    for raw in rows:
        try:
            at = _start(raw.date, timeframe)
        except ValueError:
            undated.append(raw)
            continue
        try:
            found[at] = bar(at, (raw.open, raw.high, raw.low, raw.close), raw.volume)
        except ValueError:
            found[at] = None
    return found, undated


def _start(text: str, timeframe: str) -> datetime:
    """Return the beginning of a bar's interval; IB dates long bars by a day of theirs, weeks by the last one.

    Raises:
        ValueError: it is neither a day nor a number of seconds.
    """
    if len(text) != 8:
        at = epoch_s(text)
        if at is None:
            raise ValueError(f"a bar without its time: {text!r}")
        return at
    day = datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a day
    if timeframe == "1Week":
        day -= timedelta(days=day.weekday())
    elif timeframe == "1Month":
        day = day.replace(day=1)
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)


async def _first_known(session: TwsSession, symbol: str) -> SdkContract:
    """Return the contract of a text, which need not say its class: a pair is looked for as money, then as a coin.

    Raises:
        InstrumentUnknown: it is none of what it may be.
    """
    unknown = InstrumentUnknown(f"{session.options.broker}: {symbol} is the name of nothing", code="200")
    for kind in may_be(symbol):
        try:
            return await session.contracts.of(read_instrument(symbol, kind))
        except ValueError:
            continue
        except InstrumentUnknown as error:
            unknown = error
    raise unknown


async def _contract(session: TwsSession, symbol: str) -> SdkContract:
    """Return the contract of a symbol; whatever goes wrong is an error about data."""
    try:
        async with asyncio.timeout(session.options.request_timeout_s):
            return await _first_known(session, symbol)
    except TimeoutError:
        raise DataError(f"{session.options.broker}: no answer to details of {symbol}") from None
    except InstrumentUnknown as error:
        raise NoSuchSymbol(str(error)) from None
    except QuotaExhausted as error:
        raise paced(error) from None
