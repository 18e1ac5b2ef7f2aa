"""Times as TWS writes them, `20260413 15:27:04 US/Eastern`; where the zone is not certain there is no time.

TWS names its zone as Java or the system does: by region, by offset, by an abbreviation, by a Windows name. Several
zones share most abbreviations (IST is India, Israel and Ireland), and the name for standard time is written in summer
too: a real gateway greeted with "Central European Standard Time" in April 2026. So an abbreviation
counts only if all zones that it may stand for give the same moment, or if TWS's own clock has shown what it means.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_TIME = re.compile(r"(\d{8})[ -]+(\d\d:\d\d:\d\d)(?:\.\d+)?(?: +(\S.*?))? *", re.ASCII)
_OFFSET = re.compile(r"(?:GMT|UTC)?([+-])(\d{1,2})(?::?([0-5]\d))?", re.ASCII)
_REGION = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*")
#: An abbreviation that is in no table is none that anybody could be sure of.
_ABBREVIATION = re.compile(r"[A-Z]{1,5}")
_QUARTER_S = 900
_FIRST_YEAR, _LAST_YEAR = 1971, 9998
_FURTHEST = timedelta(hours=14)


def _hours(number: float) -> tzinfo:
    return timezone(timedelta(hours=number))


#: What an abbreviation may stand for: regions (IANA tz database), or hours from UTC.
_ABBREVIATIONS: dict[str, tuple[str | float, ...]] = {
    "UTC": (0,), "Z": (0,), "UCT": (0,), "GMT": (0, "Europe/London"),
    "EST": (-5, "America/New_York"), "EDT": (-4,), "MST": (-7, "America/Denver"), "MDT": (-6,),
    "CST": ("America/Chicago", "Asia/Shanghai", "America/Havana"), "CDT": (-5, "America/Havana"),
    "PST": ("America/Los_Angeles", "Asia/Manila"), "PDT": (-7,),
    "WET": (0, "Europe/Lisbon"), "WEST": (1,), "CET": (1, "Europe/Paris"), "CEST": (2,), "EET": (2, "Europe/Athens"),
    "EEST": (3,), "MSK": (3,), "BST": ("Europe/London", "Asia/Dhaka", "Pacific/Bougainville"),
    "IST": ("Asia/Kolkata", "Asia/Jerusalem", "Europe/Dublin"), "GST": ("Asia/Dubai", "Atlantic/South_Georgia"),
    "AST": ("America/Halifax", "Asia/Riyadh"), "JST": (9,), "KST": (9,), "HKT": (8,), "SGT": (8,), "AWST": (8,),
    "AEST": (10, "Australia/Sydney"), "AEDT": (11,), "NZST": (12, "Pacific/Auckland"), "NZDT": (13,),
}  # fmt: skip


class Zones:
    """The zones of one gateway.

    Args:
        default: of times that carry none; the setting `timezone`.
    """

    def __init__(self, default: tzinfo) -> None:
        self._default = default
        self._shown: dict[str, tzinfo] = {}

    def greet(self, greeting: str, now: datetime) -> None:
        """Take in TWS's clock and the name of its zone: their distance from ours is the meaning of that name today.

        Args:
            greeting: the second field of TWS's answer to the version, `20260415 18:28:40 Central European ...`.
            now: our clock when it came.
        """
        if (match := _TIME.fullmatch(greeting)) is None or not match[3] or (wall := _wall(match)) is None:
            return
        seconds = (wall.replace(tzinfo=UTC) - now).total_seconds()
        offset = timedelta(seconds=round(seconds / _QUARTER_S) * _QUARTER_S)
        if abs(offset) <= _FURTHEST:
            self._shown[match[3]] = timezone(offset)

    def of(self, name: str | None) -> tuple[tzinfo, ...]:
        """Return every zone that a name may stand for; none where nobody can know."""
        if not name:
            return (self._default,)
        if name in self._shown:
            return (self._shown[name],)
        if name in _ABBREVIATIONS:
            return tuple(ZoneInfo(one) if isinstance(one, str) else _hours(one) for one in _ABBREVIATIONS[name])
        if offset := _OFFSET.fullmatch(name):  # Java's sign: GMT+8 lies east
            distance = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
            sign = -1 if offset[1] == "-" else 1
            return (timezone(sign * distance),) if distance <= _FURTHEST else ()
        if _ABBREVIATION.fullmatch(name) or not _REGION.fullmatch(name):
            return ()
        try:
            return (ZoneInfo(name),)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return ()


def parse(text: object, zones: Zones) -> datetime | None:
    """Return a time as aware UTC; None where it is none, or could be several moments."""
    match = _TIME.fullmatch(str(text))
    if match is None or (wall := _wall(match)) is None:
        return None
    moments = {wall.replace(tzinfo=zone).astimezone(UTC) for zone in zones.of(match[3])}
    return moments.pop() if len(moments) == 1 else None


def _wall(match: re.Match[str]) -> datetime | None:
    try:
        wall = datetime.strptime(match[1] + match[2], "%Y%m%d%H:%M:%S")  # noqa: DTZ007 - the zone follows
    except ValueError:
        return None
    return wall if _FIRST_YEAR <= wall.year <= _LAST_YEAR else None
