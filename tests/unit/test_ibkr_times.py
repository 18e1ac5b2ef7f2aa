"""Times of TWS: what is certain becomes UTC, what could be several moments becomes none."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.brokers.ibkr.times import Zones, parse

NOW = datetime(2026, 1, 29, 1, 18, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260413 15:27:04 US/Eastern", "2026-04-13T19:27:04"),
        ("20230306 12:28:30 America/Los_Angeles", "2023-03-06T20:28:30"),
        ("20230224  12:04:56", "2023-02-24T12:04:56"),
        ("20230306-12:28:30", "2023-03-06T12:28:30"),
        ("20260129 10:18:12 JST", "2026-01-29T01:18:12"),
        ("20260129 10:18:12 HKT", "2026-01-29T02:18:12"),
        ("20260129 10:18:12 GMT", "2026-01-29T10:18:12"),
        ("20260129 10:18:12 UTC", "2026-01-29T10:18:12"),
        ("20260129 10:18:12 GMT+8", "2026-01-29T02:18:12"),
        ("20260129 10:18:12 GMT-03:30", "2026-01-29T13:48:12"),
        ("20260129 10:18:12 +0530", "2026-01-29T04:48:12"),
        ("20260129 10:18:12 Etc/GMT+8", "2026-01-29T18:18:12"),
        ("20260129 10:18:12 EST", "2026-01-29T15:18:12"),
        ("20260729 10:18:12 EDT", "2026-07-29T14:18:12"),
        ("20260129 10:18:12 CET", "2026-01-29T09:18:12"),
        ("20260129 10:18:12 Japan", "2026-01-29T01:18:12"),
        ("20260129 10:18:12.123 JST", "2026-01-29T01:18:12"),
    ],
)
def test_a_certain_time_becomes_utc(text: str, expected: str) -> None:
    at = parse(text, Zones(UTC))
    assert at is not None
    assert at.isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize("day", ["00010101", "99991231", "20261301", "19700101"])
def test_a_day_that_is_in_no_calendar_makes_no_time(day: str) -> None:
    assert parse(f"{day} 00:00:00 JST", Zones(UTC)) is None


def test_a_time_without_a_zone_is_in_the_one_that_is_set() -> None:
    at = parse("20230224  12:04:56", Zones(ZoneInfo("America/New_York")))
    assert at == datetime(2023, 2, 24, 17, 4, 56, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "IST", "BST", "CST", "PST", "AST", "GST", "XYZ", "Central European Standard Time", "America", "../etc/passwd",
        "Nowhere/At_All", "GMT+99", "+99", "日本", "E ST",
    ],
)  # fmt: skip
def test_a_zone_that_is_not_certain_makes_no_time(name: str) -> None:
    assert parse(f"20260129 10:18:12 {name}", Zones(UTC)) is None


@pytest.mark.parametrize("name", ["EST", "CET", "GMT", "AEST", "NZST"])
def test_the_name_of_standard_time_is_not_certain_in_summer(name: str) -> None:
    """A gateway wrote Central European Standard Time in April: its clock was an hour ahead of that."""
    month = "01" if name in ("AEST", "NZST") else "07"
    assert parse(f"2026{month}15 10:18:12 {name}", Zones(UTC)) is None


@pytest.mark.parametrize(
    ("greeting", "now", "time", "expected"),
    [
        ("20260129 06:48:21 IST", NOW, "20260129 10:18:12 IST", "2026-01-29T04:48:12"),
        ("20260129 03:18:21 IST", NOW, "20260129 10:18:12 IST", "2026-01-29T08:18:12"),
        ("20260129 09:18:03 CST", NOW, "20260129 10:18:12 CST", "2026-01-29T02:18:12"),
        ("20260415 18:28:40 Central European Standard Time", datetime(2026, 4, 15, 16, 28, 41, tzinfo=UTC),
         "20260415 10:00:00 Central European Standard Time", "2026-04-15T08:00:00"),
        ("20260412 18:39:38 CET", datetime(2026, 4, 12, 16, 39, 38, tzinfo=UTC), "20260412 10:00:00 CET",
         "2026-04-12T08:00:00"),
    ],
)  # fmt: skip
def test_the_clock_of_the_greeting_shows_what_its_zone_means(
    greeting: str, now: datetime, time: str, expected: str
) -> None:
    zones = Zones(UTC)
    zones.greet(greeting, now)
    at = parse(time, zones)
    assert at is not None
    assert at.isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize("greeting", ["", "20260129", "garbage", "20261329 10:00:00 IST", "20270129 06:48:21 IST"])
def test_a_greeting_that_shows_nothing_makes_nothing_certain(greeting: str) -> None:
    zones = Zones(UTC)
    zones.greet(greeting, NOW)
    assert parse("20260129 10:18:12 IST", zones) is None


@given(st.one_of(st.text(), st.from_regex(r"\d{8} \d\d:\d\d:\d\d .{0,40}", fullmatch=True)))
def test_whatever_is_written_is_a_time_or_none(text: str) -> None:
    at = parse(text, Zones(UTC))
    assert at is None or at.tzinfo is UTC
