"""Which day it is for TWS: executions and completed orders reach back to a midnight, and nobody says whose.

IB's listings begin anew at midnight; in which zone (TWS's own, the exchange's, the one set for executions) is nowhere
documented; a recording rules out New York's alone (docs/facts/ibkr.md#2.10). So two moments are the same day only if
they are in every zone that could count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo

_GREETING = re.compile(r"(\d{8}) +(\d\d:\d\d:\d\d)")
_QUARTER_S = 900
_FURTHEST = timedelta(hours=14)
_HOUR = timedelta(hours=1)


def zones_of(greeting: str, now: datetime) -> list[tzinfo]:
    """Return TWS's zone as its greeting tells it, with an hour to each side; nothing if it tells none.

    The greeting is TWS's clock and a name that no table knows ("20260415 18:28:40 Central European Standard Time" was
    recorded in summer), so the distance of that clock from UTC is taken. The hour to each side stands for clocks that
    are off and for a change of daylight saving time since.

    Args:
        greeting: the second field of TWS's answer to the version.
        now: our clock when it came.
    """
    match = _GREETING.search(greeting)
    if match is None:
        return []
    try:
        wall = datetime.strptime("".join(match.groups()), "%Y%m%d%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return []
    offset = timedelta(seconds=round((wall - now).total_seconds() / _QUARTER_S) * _QUARTER_S)
    if abs(offset) > _FURTHEST:
        return []
    return [timezone(offset + shift) for shift in (-_HOUR, timedelta(0), _HOUR)]


def same_day(one: datetime, other: datetime, zones: Sequence[tzinfo]) -> bool:
    """Tell whether two moments are the same day in each of the zones; False without any."""
    return bool(zones) and all(one.astimezone(zone).date() == other.astimezone(zone).date() for zone in zones)
