"""When a contract trades, and by which steps its prices go, as IB writes both. Pure.

`tradingHours` are all sessions of the days around, `liquidHours` the regular ones, both in the zone `timeZoneId`:
`20260708:0930-20260708:1600;20260709:CLOSED`; older versions write `20090507:0700-1830,1830-2330`. A field with one
part that cannot be read tells nothing. `marketRuleIds` has one rule for each of `validExchanges`; a rule is a list of
prices, and the step from each on. Source: docs/facts/ibkr.md#9.11, #9.10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from models.trading_hours import PriceBand, Span, TradingHours
from worker.brokers.ibkr.sdk import SdkDetails, SdkPriceIncrement
from worker.brokers.ibkr.times import Zones
from worker.brokers.values import number, positive, soft

_MOMENT = timedelta(microseconds=1)
_DAY = re.compile(r"(\d{8}):(CLOSED|[\d:,-]+)", re.ASCII)
_RANGE = re.compile(r"(?:(\d{8}):)?(\d{4})-(?:(\d{8}):)?(\d{4})", re.ASCII)
#: `EST (Eastern Standard Time)`: the name in front is Java's.
_ZONE = re.compile(r"(\S+)(?: \(.*\))?")
#: Names of Java's that no table of zones has, or that several places share; of exchanges' hours they mean these.
_JAVA = {
    "EST": "America/New_York", "CST": "America/Chicago", "EST5EDT": "America/New_York", "JST": "Asia/Tokyo",
    "MET": "Europe/Berlin", "CET": "Europe/Berlin",
}  # fmt: skip


def hours_of(details: SdkDetails) -> TradingHours | None:
    """Return when a contract trades; None where its details do not tell, or not in words that can be read."""
    zone = _zone(str(details.timeZoneId))
    if zone is None:
        return None
    try:
        every, regular = _read(str(details.tradingHours), zone), _read(str(details.liquidHours), zone)
    except ValueError:
        return None
    if every is None or regular is None:
        return None
    since, until = max(every.since, regular.since), min(every.until, regular.until)
    return TradingHours(since=since, until=until, regular=regular.every, every=every.every) if since < until else None


def _zone(text: str) -> tzinfo | None:
    found = _ZONE.fullmatch(text)
    if found is None:
        return None
    if (region := _JAVA.get(found[1])) is not None:
        return ZoneInfo(region)
    zones = Zones(UTC).of(found[1])
    return zones[0] if len(zones) == 1 else None


def _read(text: str, zone: tzinfo) -> TradingHours | None:
    """Read one of the two fields; None where it is empty.

    Raises:
        ValueError: a part of it cannot be read.
    """
    days, spans, ends = list[str](), list[Span](), list[datetime]()
    for part in filter(None, text.split(";")):
        found = _DAY.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"no day: {part!r}")
        days.append(found[1])
        if found[2] == "CLOSED":
            ends.append(_at(found[1], "2400", zone))
            continue
        for one in part.strip().removeprefix(f"{found[1]}:").split(","):
            spans.append(_span(found[1], one, zone))
            ends.append(spans[-1][1])
    if not days:
        return None
    since = _at(min(days), "0000", zone)
    if any(begin.astimezone(zone).date() < (end.astimezone(zone) - _MOMENT).date() for begin, end in spans):
        # A session of the evening before may still be under way, and is not told.
        since = min(_at(min(days), "2400", zone), *(begin for begin, _ in spans))
    return TradingHours(since=since, until=max(ends), every=tuple(spans))


def _span(day: str, text: str, zone: tzinfo) -> Span:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"no session: {text!r}")
    begin, end = _at(found[1] or day, found[2], zone), _at(found[3] or day, found[4], zone)
    if end <= begin and found[3] is None:
        end = _at(day, found[4], zone, later=1)
    if end <= begin:
        raise ValueError(f"a session that ends before it begins: {text!r}")
    return begin, end


def _at(day: str, hour: str, zone: tzinfo, later: int = 0) -> datetime:
    """Return a moment so many days later, UTC; `2400` and `2359` of a day are its end."""
    midnight = datetime.strptime(day, "%Y%m%d").replace(tzinfo=zone) + timedelta(days=later)
    if hour in ("2400", "2359"):
        return (midnight + timedelta(days=1)).astimezone(UTC)
    return midnight.replace(hour=int(hour[:2]), minute=int(hour[2:])).astimezone(UTC)


def rule_of(details: SdkDetails, exchange: str) -> int | None:
    """Return the market rule of a contract at an exchange; None where its details do not say which."""
    exchanges, rules = str(details.validExchanges).split(","), str(details.marketRuleIds).split(",")
    if exchange not in exchanges or len(rules) != len(exchanges):
        return None
    rule = rules[exchanges.index(exchange)]
    return int(rule) if rule.isascii() and rule.isdecimal() else None


def bands_of(told: Sequence[SdkPriceIncrement]) -> tuple[PriceBand, ...] | None:
    """Read a market rule; None where it has no row, or one that cannot be read."""
    rows = [(soft(number, row.lowEdge), soft(positive, row.increment)) for row in told]
    bands = tuple(PriceBand(low, step) for low, step in rows if low is not None and step is not None)
    return bands if bands and len(bands) == len(rows) else None
