"""Reads that no order depends on: account, positions, quotes and bars of Interactive Brokers."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from models.errors import (
    CorroError,
    InstrumentUnknown,
    NoData,
    PacingViolation,
    QuotaExhausted,
    UnreadableReply,
    Unsupported,
)
from models.reports import AccountReport, Bar, PositionReport, QuoteReport
from models.timeframes import NEW_YORK, TIMEFRAMES
from worker.brokers import ibkr_terms as terms
from worker.brokers.ibkr_codes import read_error
from worker.brokers.ibkr_pacing import HistoryPace
from worker.brokers.ibkr_session import Session

#: Of accountSummary; AccountType and the like are not needed. TWS allows two summaries at a time.
_SUMMARY = {
    "NetLiquidation": "equity",
    "TotalCashValue": "cash",
    "BuyingPower": "buying_power",
    "DayTradesRemaining": "day_trades_left",
}
#: Day trades in five business days that an account below the margin for more may make; IB tells how many are left,
#: and -1 where it does not count.
_DAY_TRADES = 3
#: A snapshot ends by itself within 11 s on a quiet symbol.
QUOTE_TIMEOUT_S = 12.0
BARS_TIMEOUT_S = 60.0
#: Quotes that TWS marks as delayed, or delayed and frozen.
_DELAYED = frozenset({3, 4})


@dataclass(frozen=True, slots=True)
class BarSize:
    """IB's word for a timeframe, and the most days one request may span (BROKERS.md 1.10).

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


# -- ACCOUNT ---
async def account(session: Session) -> AccountReport:
    """Read the money of the account."""
    wrapper, client = session.ib.wrapper, session.client
    number = 0

    def request() -> Any:
        nonlocal number
        number = client.getReqId()
        answer = wrapper.startReq(number)
        client.reqAccountSummary(number, "All", ",".join(_SUMMARY))
        return answer

    async with session.summary_lock:
        wrapper.acctSummary.clear()
        try:
            await _request(session, "the account summary", request)
        finally:
            if number and session.up:
                client.cancelAccountSummary(number)
        rows = [row for row in wrapper.acctSummary.values() if row.account == session.account]
    if not rows:
        raise NoData(f"{session.options.broker}: TWS told nothing about account {session.account}")
    values = {_SUMMARY[row.tag]: terms.number(row.value) for row in rows if row.tag in _SUMMARY}
    left = values.get("day_trades_left")
    return AccountReport(
        account_id=session.account,
        currency=next((row.currency for row in rows if row.tag == "NetLiquidation" and row.currency), "USD"),
        buying_power=values.get("buying_power"),
        cash=values.get("cash"),
        equity=values.get("equity"),
        portfolio_value=values.get("equity"),
        total_liquidity=values.get("cash"),
        day_trade_count=max(_DAY_TRADES - int(left), 0) if left is not None and left >= 0 else None,
        paper=session.account.startswith("D"),
    )


async def positions(session: Session) -> list[PositionReport]:
    """Read every holding; market values are there as far as the account subscription has told them."""
    session.check()
    rows = await session.positions()
    held = [_position(session, *row) for row in rows if row[0] == session.account and row[2]]
    session.check()
    return sorted(held, key=lambda position: position.symbol)


def _position(session: Session, account: str, contract: Any, quantity: float, avg_cost: float) -> PositionReport:
    item = session.ib.wrapper.portfolio[account].get(contract.conId)
    held = terms.number(quantity)
    if held is None:
        raise UnreadableReply(f"{session.options.broker}: a position of {contract.symbol} without its size: {quantity}")
    return PositionReport(
        symbol=terms.symbol_of(contract),
        quantity=held,
        avg_price=terms.number(avg_cost),
        market_value=terms.number(item.marketValue) if item else None,
        unrealized_pnl=terms.number(item.unrealizedPNL) if item else None,
        account_id=account,
    )


async def server_time(session: Session) -> datetime:
    """Ask TWS what time it is."""
    told: datetime = await _request(session, "the time", session.ib.reqCurrentTimeAsync)
    return told.astimezone(UTC)


# -- MARKET DATA ---
async def quote(session: Session, symbol: str) -> QuoteReport:
    """Read one snapshot; NaN, 0 and -1 are IB's words for 'none'."""
    contract = copy.copy(await _contract(session, symbol))  # the SDK keys tickers by the object's id()
    try:
        request = lambda: session.ib.reqTickersAsync(contract)  # noqa: E731
        (ticker,) = await _request(session, f"a quote of {symbol}", request, QUOTE_TIMEOUT_S)
    finally:
        _forget(session.ib.wrapper, contract)
    report = QuoteReport(
        symbol=symbol,
        bid=terms.positive(ticker.bid),
        ask=terms.positive(ticker.ask),
        last=terms.positive(ticker.last),
        bid_size=terms.positive(ticker.bidSize),
        ask_size=terms.positive(ticker.askSize),
        last_size=terms.positive(ticker.lastSize),
        volume=terms.positive(ticker.volume),
        at=ticker.time.astimezone(UTC) if ticker.time else None,
        delayed=ticker.marketDataType in _DELAYED,
    )
    if report.bid is report.ask is report.last is None:
        raise NoData(f"{session.options.broker}: no prices for {symbol}")
    return report


def _forget(wrapper: Any, contract: Any) -> None:
    ticker = wrapper.tickers.pop(id(contract), None)
    for number in [n for n, known in wrapper.reqId2Ticker.items() if known is ticker]:
        del wrapper.reqId2Ticker[number]


async def bars(
    session: Session, pace: HistoryPace, symbol: str, timeframe: str, start: datetime, end: datetime
) -> list[Bar]:
    """Read bars, newest request first, in as many requests as IB's limits need."""
    size = BAR_SIZES.get(timeframe)
    if size is None:
        words = ", ".join(BAR_SIZES)
        raise Unsupported(f"{session.options.broker} has no {timeframe} bars, only {words}")
    contract = await _contract(session, symbol)
    found: dict[datetime, Bar] = {}
    # A request that ends within a bar gets a part of that bar: end at midnight, or now.
    upto = min(max(TIMEFRAMES[name].around(end, end)[1] for name in ("1Day", timeframe)), datetime.now(UTC))
    while upto > start:
        days = min(math.ceil((upto - start) / timedelta(days=1)), size.max_days)
        part = await _bars_upto(session, pace, contract, size, upto, days)
        found |= {bar.start: bar for bar in (_bar(raw, timeframe) for raw in part)}
        upto = min([upto - timedelta(days=days), *(_start(part[0], timeframe) for _ in part[:1])])
    wanted = [bar for at, bar in sorted(found.items()) if start <= at < end]
    if not wanted:
        raise NoData(f"{session.options.broker}: no {timeframe} bars of {symbol} between {start} and {end}")
    return wanted


async def _bars_upto(
    session: Session, pace: HistoryPace, contract: Any, size: BarSize, upto: datetime, days: int
) -> Sequence[Any]:
    last, duration = upto.astimezone(UTC).replace(microsecond=0), size.duration(days)

    async def request() -> Sequence[Any]:
        try:
            # formatDate 2: epoch seconds, so that no zone has to be guessed. timeout 0: ours counts, the SDK's says [].
            arguments = (contract, last, duration, size.word, "TRADES", True, 2)
            ask = lambda: session.ib.reqHistoricalDataAsync(*arguments, timeout=0)  # noqa: E731
            found: Sequence[Any] = await _request(session, "bars", ask, BARS_TIMEOUT_S)
            return found
        except NoData:
            return ()

    rows: Sequence[Any] = await pace.ask(contract.conId, (last, duration, size.word), request)
    return rows


def _bar(raw: Any, timeframe: str) -> Bar:
    numbers = {name: Decimal(str(getattr(raw, name))) for name in ("open", "high", "low", "close")}
    return Bar(start=_start(raw, timeframe), volume=terms.positive(raw.volume) or Decimal(0), **numbers)


def _start(raw: Any, timeframe: str) -> datetime:
    """Return the beginning of a bar's interval; IB dates long bars by a day of theirs, weeks by the last one."""
    at = raw.date
    if isinstance(at, datetime):
        return at.astimezone(UTC)
    day: date = at
    if timeframe == "1Week":
        day -= timedelta(days=day.weekday())
    elif timeframe == "1Month":
        day = day.replace(day=1)
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)


# -- INSIDE ---
async def _contract(session: Session, symbol: str) -> Any:
    try:
        async with asyncio.timeout(session.options.request_timeout_s):
            return await session.contract(symbol)
    except TimeoutError:
        raise NoData(f"{session.options.broker}: no answer to details of {symbol}") from None
    except InstrumentUnknown as error:
        raise NoData(str(error)) from None
    except QuotaExhausted as error:
        raise _paced(error) from None


def _paced(error: QuotaExhausted) -> PacingViolation:
    return PacingViolation(str(error), retry_after=error.retry_after, ours=True)


async def _request(session: Session, what: str, request: Any, timeout_s: float | None = None) -> Any:
    try:
        return await session.ask(what, request, timeout_s)
    except session.sdk.RequestError as error:
        raise _read_error(session, error) from None
    except QuotaExhausted as error:
        raise _paced(error) from None


def _read_error(session: Session, error: Any) -> CorroError:
    return read_error(int(error.code), str(error.message), session.options.broker)
