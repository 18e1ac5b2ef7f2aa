"""Sizes of bars, and the calendar that goes with them: the one table that client, worker and adapters share.

A bar is named by the beginning of its interval. Bars of a day and longer begin at midnight in New York, of the session,
of the week's Monday or of the month's first day, whatever their broker calls them, so that the same session has the
same index at every broker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from models.errors import InvalidRequest
from models.explaining import shown

NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Timeframe:
    """One size of bars.

    Args:
        name: corro's word for it.
        unit: minute, day, week or month.
        page: the longest stretch that is asked for and stored at once: progress shows, and a crash loses no more.
        minutes: its length; 0 is a day, a week or a month of the calendar.
    """

    name: str
    unit: str
    page: timedelta
    minutes: int = 0

    def label(self, at: datetime) -> datetime:
        """Return the beginning of the day, week or month that holds a time; bars within a day keep theirs."""
        return at if self.unit == "minute" else _midnight(self._first(at))

    def end(self, start: datetime) -> datetime:
        """Return when the bar ends that begins then."""
        return start + timedelta(minutes=self.minutes) if self.minutes else _midnight(self._next(self._first(start)))

    def around(self, start: datetime, end: datetime) -> tuple[datetime, datetime]:
        """Widen a stretch to whole bars of a day and longer, however their broker dates them."""
        if self.unit == "minute":
            return start, end
        last = self.label(end)
        return self.label(start), last if last == end else _midnight(self._next(self._first(end)))

    def pages(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Cut a stretch at midnight in New York, so that no bar is cut."""
        while start < end:
            until = min(_midnight(self._first(start + self.page)), end)
            yield start, until
            start = until

    def _first(self, at: datetime) -> date:
        day = at.astimezone(NEW_YORK).date()
        if self.unit == "week":
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self.unit == "month" else day

    def _next(self, day: date) -> date:
        if self.unit == "month":
            return (day + timedelta(days=31)).replace(day=1)
        return day + timedelta(days=7 if self.unit == "week" else 1)


_WEEK, _MONTH, _YEAR = timedelta(days=7), timedelta(days=31), timedelta(days=366)
TIMEFRAMES: dict[str, Timeframe] = {
    frame.name: frame
    for frame in (
        Timeframe("1Min", "minute", _WEEK, 1),
        Timeframe("5Min", "minute", _MONTH, 5),
        Timeframe("15Min", "minute", _MONTH, 15),
        Timeframe("30Min", "minute", _MONTH, 30),
        Timeframe("1Hour", "minute", _MONTH, 60),
        Timeframe("1Day", "day", _YEAR),
        Timeframe("1Week", "week", 5 * _YEAR),
        Timeframe("1Month", "month", 10 * _YEAR),
    )
}

_SHORT = re.compile(r"(\d{1,4}) ?([SHDWMY])")
_ISO = re.compile(r"P(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of calendar time: months are months, and a day ends at the same time of day in New York."""

    months: int = 0
    days: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `5D`, `2 W`, `6M` (months), `1Y`, `4H`, `90S`, or ISO 8601 such as `P1Y6M` and `PT30M` (minutes).

        Raises:
            InvalidRequest: it is none of these, or no time at all.
        """
        found: Duration | None = None
        if short := _SHORT.fullmatch(text.strip()):
            found = cls._of(**{short[2]: int(short[1])})
        elif iso := _ISO.fullmatch(text.strip()):
            names = ("Y", "M", "W", "D", "H", "minutes", "S")
            found = cls._of(**{name: int(number or 0) for name, number in zip(names, iso.groups(), strict=True)})
        if found is None or found == cls():
            raise InvalidRequest(f"duration: must be such as 5D, 2W, 6M, 1Y, 4H, P1Y6M or PT30M, was {shown(text)}")
        if found.months > 12 * 100 or found.days > 366 * 100 or found.seconds > 86400 * 366 * 100:
            raise InvalidRequest(f"duration: must be at most 100 years, was {shown(text)}")
        return found

    @classmethod
    def _of(cls, Y: int = 0, M: int = 0, W: int = 0, D: int = 0, H: int = 0, minutes: int = 0, S: int = 0) -> Duration:
        return cls(months=12 * Y + M, days=7 * W + D, seconds=3600 * H + 60 * minutes + S)

    def before(self, at: datetime) -> datetime:
        """Return the time that lies so long before."""
        return self._moved(at, -1)

    def after(self, at: datetime) -> datetime:
        """Return the time that lies so long after."""
        return self._moved(at, 1)

    def _moved(self, at: datetime, sign: int) -> datetime:
        local = at.astimezone(NEW_YORK)
        months = local.year * 12 + local.month - 1 + sign * self.months
        year, month = divmod(months, 12)
        try:
            first = date(year, month + 1, 1)
            last_day = ((first + timedelta(days=31)).replace(day=1) - timedelta(days=1)).day
            moved = local.replace(year=year, month=month + 1, day=min(local.day, last_day))
            moved += timedelta(days=sign * self.days)
            return moved.astimezone(UTC) + timedelta(seconds=sign * self.seconds)
        except (ValueError, OverflowError):
            raise InvalidRequest(f"duration: {self} from {at.isoformat()} leaves the calendar") from None


def moment(value: str, field: str) -> datetime:
    """Read an ISO 8601 time with a zone, or a date, which is its midnight in New York.

    Raises:
        InvalidRequest: names the field and the value.
    """
    text = value.strip()
    try:
        if _DATE.fullmatch(text):
            return _midnight(date.fromisoformat(text))
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{field}: must be an ISO 8601 time or a date, was {shown(value)}") from None
    raise InvalidRequest(f"{field}: must carry a time zone, such as {text}Z, was {shown(value)}")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)
