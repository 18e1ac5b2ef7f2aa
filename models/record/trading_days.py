"""On which day something counts: the date in New York, and in UTC for pairs, which trade around the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

_NEW_YORK = ZoneInfo("America/New_York")


def day_of(at: datetime, symbol: str = "") -> date:
    """Return the day on which something at a moment counts."""
    try:
        return at.astimezone(UTC if "/" in symbol else _NEW_YORK).date()
    except OverflowError:  # in the first hours of the year 1 there is no such day in New York yet
        return at.date()


def begin_of(day: date, symbol: str = "") -> datetime:
    """Return the moment at which a day begins, in UTC."""
    return datetime.combine(day, time(), UTC if "/" in symbol else _NEW_YORK).astimezone(UTC)
