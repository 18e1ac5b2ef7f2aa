"""The days of the simulated market: sessions from 09:30 to 16:00 New York on every weekday since 2005, no holidays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
OPENING = time(9, 30)
MINUTES = 390
FIRST_DAY = date(2005, 1, 3)  # a Monday


def index_of(day: date) -> int:
    """Count weekdays since the first day."""
    weeks, rest = divmod((day - FIRST_DAY).days, 7)
    return weeks * 5 + min(rest, 4)


def weekdays(first: date, last: date) -> Iterator[date]:
    """Yield the weekdays from one day to another, both included."""
    day = max(first, FIRST_DAY)
    while day <= last:
        if day.weekday() < 5:
            yield day
        day += timedelta(days=1)


def finished(day: date, now: datetime) -> int:
    """Count the minutes of a day's session that are over."""
    opening = datetime.combine(day, OPENING, NEW_YORK)
    return max(0, min(MINUTES, int((now - opening).total_seconds() // 60)))


def bucket(day: date, count: int, unit: str) -> date:
    """Return the first calendar day of the bucket that holds `day`."""
    if unit == "Day":
        return day if count == 1 else FIRST_DAY + timedelta(days=(day - FIRST_DAY).days // count * count)
    if unit == "Week":
        weeks = (day - FIRST_DAY).days // 7
        return FIRST_DAY + timedelta(weeks=weeks // count * count)
    months = (day.year * 12 + day.month - 1) // count * count
    return date(months // 12, months % 12 + 1, 1)


def midnight(day: date) -> datetime:
    """Return the moment at which a day begins in New York, in UTC."""
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)
