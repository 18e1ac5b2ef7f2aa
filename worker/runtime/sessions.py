"""In which session is an instrument, and when does its next regular one begin?

| class     | where its broker has told nothing of the moment                                        |
|-----------|----------------------------------------------------------------------------------------|
| us_equity | the calendar of New York's exchanges, with the extended session before and after       |
| option    | the same, without an extended session                                                  |
| equity    | the calendar of its exchange (`EXCHANGES`); of another one nobody knows                |
| future    | CME, NYMEX and COMEX: CME Globex's week, with its hour of rest; of another one nobody  |
| forex     | Sunday 17:15 to Friday 17:00 in New York, with a quarter of an hour of rest a day      |
| crypto    | always                                                                                 |

Hours that a broker has told (`models.trading_hours`) come first. Calendars: exchange_calendars; forex by IB's pages of
IDEALPRO (docs/facts/ibkr.md#9.12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from models.instruments import Instrument
from models.trading_hours import Session, Span, TradingHours
from models.vocabulary import AssetClass
from worker.runtime.calendar import NEW_YORK, market_at, session_at, spans_of

#: Exchange as IB writes it -> its calendar.
EXCHANGES: Mapping[str, str] = {
    "TSE": "XTSE", "VENTURE": "XTSX", "LSE": "XLON", "IBIS": "XETR", "IBIS2": "XETR", "FWB": "XFRA", "SBF": "XPAR",
    "AEB": "XAMS", "ENEXT.BE": "XBRU", "BVME": "XMIL", "BM": "XMAD", "EBS": "XSWX", "SFB": "XSTO", "CPH": "XCSE",
    "HEX": "XHEL", "OSE": "XOSL", "TSEJ": "XTKS", "SEHK": "XHKG", "ASX": "XASX", "SGX": "XSES", "MEXI": "XMEX",
}  # fmt: skip
_GLOBEX = frozenset({"CME", "NYMEX", "COMEX"})
_GLOBEX_REST = (time(16), time(17), ZoneInfo("America/Chicago"))
_FOREX_REST = (time(17), time(17, 15), NEW_YORK)
#: How far calendars are looked at: no weekend, holiday or closing of an exchange is longer.
_BEFORE, _AFTER = timedelta(days=3), timedelta(days=14)
#: An option on a fund trades so long after its share's close (Cboe's hours of ETF options).
AFTER_CLOSE = timedelta(minutes=15)


def session_of(instrument: Instrument, moment: datetime, told: TradingHours | None = None) -> Session | None:
    """Return the session of an instrument; None where nobody knows.

    Args:
        instrument: which.
        moment: aware.
        told: the hours that its broker has told.

    Raises:
        ImportError: exchange_calendars is not installed.
    """
    if told is not None and (session := told.session_at(moment)) is not None:
        return session
    if instrument.asset_class in (AssetClass.US_EQUITY, AssetClass.OPTION):
        session = session_at(moment)
        return "closed" if session == "extended" and instrument.asset_class is AssetClass.OPTION else session
    hours = _usual(instrument, moment)
    return None if hours is None else hours.session_at(moment)


def opens_after(instrument: Instrument, moment: datetime, told: TradingHours | None = None) -> datetime | None:
    """Return when the next regular session of an instrument begins; None where nobody knows.

    Raises:
        ImportError: exchange_calendars is not installed.
    """
    if told is not None and told.session_at(moment) is not None and (opens := told.opens_after(moment)) is not None:
        return opens
    if instrument.asset_class in (AssetClass.US_EQUITY, AssetClass.OPTION):
        return market_at(moment).next_open
    hours = _usual(instrument, moment)
    return None if hours is None else hours.opens_after(moment)


def _usual(instrument: Instrument, moment: datetime) -> TradingHours | None:
    kind, listing = instrument.asset_class, instrument.listing or ""
    around = TradingHours(since=moment - _BEFORE, until=moment + _AFTER)
    if kind is AssetClass.CRYPTO:
        return replace(around, regular=((around.since, around.until),))
    if kind is AssetClass.FOREX:
        return replace(around, regular=tuple(_forex(around)))
    if kind is AssetClass.FUTURE and listing in _GLOBEX:
        sessions = spans_of("CMES", around.since, around.until)
        return replace(around, regular=tuple(part for span in sessions for part in _without_rest(span, *_GLOBEX_REST)))
    if kind is AssetClass.EQUITY and (calendar := EXCHANGES.get(listing)) is not None:
        return replace(around, regular=tuple(spans_of(calendar, around.since, around.until)))
    return None


def _forex(around: TradingHours) -> Iterator[Span]:
    """Yield the weeks of forex, cut at their rests."""
    day = around.since.astimezone(NEW_YORK).date() - timedelta(days=7)
    while day <= around.until.date():
        if day.weekday() == 6:  # a Sunday
            week = _at(day, time(17, 15), NEW_YORK), _at(day + timedelta(days=5), time(17), NEW_YORK)
            yield from _without_rest(week, *_FOREX_REST)
        day += timedelta(days=1)


def _without_rest(span: Span, rest: time, again: time, zone: ZoneInfo) -> Iterator[Span]:
    """Cut a session at the daily rest."""
    begin, end = span
    day = begin.astimezone(zone).date()
    while day <= end.astimezone(zone).date():
        stops, goes_on = _at(day, rest, zone), _at(day, again, zone)
        if begin < stops:
            yield begin, min(stops, end)
        begin = max(begin, goes_on)
        day += timedelta(days=1)
    if begin < end:
        yield begin, end


def _at(day: date, hour: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, hour, zone).astimezone(UTC)


def is_over(instrument: Instrument, moment: datetime, last_day: date | None = None) -> bool:
    """Tell whether an instrument has expired, for certain.

    An option: its day is over, or the regular session of that day ended more than a quarter of an hour ago. A future:
    the day is over that its broker has told as its last one.

    Args:
        instrument: which.
        moment: aware.
        last_day: as its broker has told it.
    """
    last = instrument.expiry or last_day
    if last is None or instrument.asset_class not in (AssetClass.OPTION, AssetClass.FUTURE):
        return False
    today = moment.astimezone(NEW_YORK).date()
    if last != today or instrument.asset_class is not AssetClass.OPTION or moment.astimezone(NEW_YORK).hour < 13:
        return last < today
    try:
        sessions = list(spans_of("XNYS", moment - timedelta(days=1), moment + timedelta(days=1)))
    except ImportError:
        return False
    closes = [end for _, end in sessions if end.astimezone(NEW_YORK).date() == last]
    return bool(closes) and moment > max(closes) + AFTER_CLOSE
