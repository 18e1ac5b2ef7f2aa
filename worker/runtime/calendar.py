"""Is the market open? The sessions of New York's exchanges from `exchange_calendars`, loaded when first asked for."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from models.trading_hours import Session, Span

NEW_YORK = ZoneInfo("America/New_York")
_EXCHANGE = "XNYS"
#: No weekend or holiday is longer.
_AROUND = timedelta(days=20)
#: The hour at which the extended session begins, and its hours after the regular one: 13 to 17 where that closes early.
_PRE_MARKET, _AFTER_HOURS = 4, 4
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketHours:
    """The market at one moment; times are UTC.

    Args:
        at: the moment.
        is_open: the regular session is on.
        next_open, next_close: the next bells after the moment.
        early: the session that closes next closes early.
        holiday: name of today's holiday, `holiday` if it has none, None where today is none.
    """

    at: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime
    early: bool
    holiday: str | None

    @property
    def words(self) -> str:
        """The market in words, in the exchange's own time."""
        early = ", early" if self.early else ""
        if self.is_open:
            return f"open, closes {_bell(self.next_close)}{early} (in {_span(self.next_close - self.at)})"
        why = f" for {self.holiday}" if self.holiday else ""
        closes = f", then closes early at {self.next_close.astimezone(NEW_YORK):%H:%M}" if self.early else ""
        return f"closed{why}, opens {_bell(self.next_open)} (in {_span(self.next_open - self.at)}){closes}"


def market_at(moment: datetime) -> MarketHours:
    """Return the state of the market.

    Raises:
        ImportError: exchange_calendars is not installed.
    """
    with _lock, _quietly():
        import pandas as pd

        at, today = pd.Timestamp(moment.astimezone(UTC)), moment.astimezone(NEW_YORK).date()
        calendar = _calendar(today.replace(day=1))
        next_close = calendar.next_close(at)
        return MarketHours(
            at=moment,
            is_open=bool(calendar.is_open_at_time(at)),
            next_open=calendar.next_open(at).to_pydatetime(),
            next_close=next_close.to_pydatetime(),
            early=next_close.tz_convert(NEW_YORK).date() in {day.date() for day in calendar.early_closes},
            holiday=_holiday(calendar, today),
        )


def session_at(moment: datetime) -> Session:
    """Return the session of the market: on its days before and after the regular one there is the extended one."""
    with _lock, _quietly():
        import pandas as pd

        local = moment.astimezone(NEW_YORK)
        at, today = pd.Timestamp(moment.astimezone(UTC)), local.date()
        calendar = _calendar(today.replace(day=1))
        if bool(calendar.is_open_at_time(at)):
            return "regular"
        if not calendar.is_session(pd.Timestamp(today)):
            return "closed"
        ends = calendar.session_close(pd.Timestamp(today)).tz_convert(NEW_YORK).hour + _AFTER_HOURS
        return "extended" if _PRE_MARKET <= local.hour < ends else "closed"


def spans_of(exchange: str, since: datetime, until: datetime) -> list[Span]:
    """Return the sessions of an exchange that lie between two moments, cut at their breaks.

    Args:
        exchange: the name of its calendar in exchange_calendars.
        since: the first day that counts is its day, UTC.
        until: less than twenty days later.

    Raises:
        ImportError: exchange_calendars is not installed.
    """
    with _lock, _quietly():
        import pandas as pd

        calendar = _calendar(since.astimezone(UTC).date().replace(day=1), exchange)
        rows = calendar.schedule.loc[pd.Timestamp(since.date()) : pd.Timestamp(until.date())]
        found: list[Span] = []
        for row in rows.itertuples():
            marks = [row.open, *(at for at in (row.break_start, row.break_end) if not pd.isna(at)), row.close]
            moments = [at.to_pydatetime().astimezone(UTC) for at in marks]
            found += zip(moments[::2], moments[1::2], strict=True)
        return found


@lru_cache(maxsize=32)
def _calendar(month: date, exchange: str = _EXCHANGE) -> Any:
    import exchange_calendars
    import pandas as pd

    first, last = pd.Timestamp(month - _AROUND), pd.Timestamp(month + timedelta(days=31) + _AROUND)
    return exchange_calendars.get_calendar(exchange, start=first, end=last)


def _holiday(calendar: Any, day: date) -> str | None:
    """Return the name of the holiday on a day; None on others, and at weekends."""
    import pandas as pd

    stamp = pd.Timestamp(day)
    if calendar.is_session(stamp) or day.weekday() >= 5:
        return None
    named = calendar.regular_holidays.holidays(stamp, stamp, return_name=True)
    return str(named.iloc[0]) if len(named) else "a holiday"


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what pandas tells the authors of exchange_calendars from our users."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _bell(at: datetime) -> str:
    return f"{at.astimezone(NEW_YORK):%a %Y-%m-%d %H:%M} New York"


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60:02d} min"
