"""Data requests without a broker: what is refused at the call, how stretches are cut, and who gets a request next."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    DataError,
    InvalidRequest,
    NoData,
)
from models.record.database import Database
from models.record.fetches import as_json, check, from_json, parse_bars, read_bars, store_bars
from models.reports import AccountReport, Bar, PositionReport, QuoteReport
from models.settings import load_settings
from models.timeframes import NEW_YORK, TIMEFRAMES, Duration, moment
from producers import OrderClient
from producers.data import bars_frame
from producers.handles import Positions
from worker.brokers.ibkr.pacing import BURST, BURST_S, SAME_S, HistoryPace
from worker.brokers.ibkr.prices import BAR_SIZES
from worker.data.quotes import clean

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def at_new_york(*when: int) -> datetime:
    return datetime(*when, tzinfo=NEW_YORK).astimezone(UTC)  # type: ignore[arg-type, misc]


# -- REQUESTS ---
@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("5D", NOW - 5 * DAY),
        ("5 D", NOW - 5 * DAY),
        ("2W", NOW - 14 * DAY),
        ("1M", datetime(2025, 12, 5, 15, 0, tzinfo=UTC)),
        ("6M", datetime(2025, 7, 5, 14, 0, tzinfo=UTC)),  # the same time in New York, in summer
        ("1Y", datetime(2025, 1, 5, 15, 0, tzinfo=UTC)),
        ("4H", NOW - timedelta(hours=4)),
        ("90S", NOW - timedelta(seconds=90)),
        ("P1Y6M", datetime(2024, 7, 5, 14, 0, tzinfo=UTC)),
        ("P1W", NOW - 7 * DAY),
        ("PT30M", NOW - timedelta(minutes=30)),
        ("P1DT2H", NOW - timedelta(days=1, hours=2)),
    ],
)
def test_durations(text: str, before: datetime) -> None:
    assert Duration.parse(text).before(NOW) == before
    assert Duration.parse(text).after(before) == NOW


def test_a_month_before_the_31st_is_the_last_day() -> None:
    assert Duration.parse("1M").before(at_new_york(2026, 3, 31, 12)) == at_new_york(2026, 2, 28, 12)


@pytest.mark.parametrize(
    "text", ["", "5", "D", "5d", "0D", "-5D", "1.5Y", "P", "PT", "P1", "1Y2M", "5X", "9999Y", "¹D"]
)
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="duration"):
        Duration.parse(text)


def test_times() -> None:
    assert moment("2026-01-05", "start") == at_new_york(2026, 1, 5)
    assert moment("2026-07-05T10:00:00-04:00", "start") == datetime(2026, 7, 5, 14, tzinfo=UTC)
    for wrong in ("2026-01-05T10:00:00", "yesterday", "2026-13-01", "20260105", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(InvalidRequest, match="start"):
            moment(wrong, "start")


def request(**changes: Any) -> dict[str, Any]:
    given = {"symbol": "spy", "timeframe": "1Day", "start": "2025-12-01", **changes}
    return {key: value for key, value in given.items() if value is not ...}


def test_two_of_start_end_and_duration() -> None:
    wanted = parse_bars(request(), NOW)
    assert (wanted.symbol, wanted.start, wanted.end) == ("SPY", at_new_york(2025, 12, 1), NOW)
    wanted = parse_bars(request(duration="5D"), NOW)
    assert wanted.end == at_new_york(2025, 12, 6)
    wanted = parse_bars(request(start=..., duration="1Y"), NOW)
    assert (wanted.start, wanted.end) == (datetime(2025, 1, 5, 15, tzinfo=UTC), NOW)
    wanted = parse_bars(request(start=..., end="2025-12-31", duration="1D"), NOW)
    assert (wanted.start, wanted.end) == (at_new_york(2025, 12, 30), at_new_york(2025, 12, 31))
    assert parse_bars(request(end="2030-01-01"), NOW).end == NOW


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("bars", request(timeframe="7Min"), "timeframe.*'7Min'"),
    ("bars", request(timeframe=...), "timeframe"),
    ("bars", request(symbol=...), "symbol"),
    ("bars", request(symbol="A'; DROP"), "symbol"),
    ("bars", request(start=...), "start.*duration"),
    ("bars", request(end="2025-11-01"), "start: must be before end"),
    ("bars", request(start="2027-01-01"), "start: must be in the past"),
    ("bars", request(start="0001-01-02"), "start: must be in the last 100 years"),
    ("bars", request(end="2025-12-03", duration="5D"), "duration"),
    ("bars", request(start=5), "start"),
    ("bars", request(adjusted=True), "adjusted"),
    ("quote", {"symbol": ""}, "symbol"),
    ("quote", {"symbol": "SPY\n"}, "symbol"),
    ("bars", request(timeframe="1Day\t"), "timeframe"),
    ("quote", {"symbol": ["SPY"]}, "symbol"),
    ("quote", {"symbol": "SPY", "depth": 5}, "depth"),
    ("account", {"broker": "ibkr"}, "broker.*it takes account"),
    ("orders", {"open_only": "false"}, "open_only.*'false'"),
    ("orders", {"since": "today"}, "since"),
]


@pytest.mark.parametrize(("kind", "fields", "words"), WRONG)
def test_requests_that_make_no_sense_are_refused_by_field(kind: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check(kind, fields, NOW)


# -- TIMEFRAMES ---
def test_long_bars_begin_at_midnight_in_new_york_however_they_are_dated() -> None:
    wednesday = datetime(2026, 1, 7, 6, 0, tzinfo=UTC)  # TDA dates a day by midnight in Chicago
    assert TIMEFRAMES["1Day"].label(wednesday) == at_new_york(2026, 1, 7)
    assert TIMEFRAMES["1Week"].label(wednesday) == at_new_york(2026, 1, 5)
    assert TIMEFRAMES["1Month"].label(wednesday) == at_new_york(2026, 1, 1)
    assert TIMEFRAMES["1Min"].label(wednesday) == wednesday
    summer = datetime(2026, 7, 8, 5, 0, tzinfo=UTC)
    assert TIMEFRAMES["1Day"].label(summer) == at_new_york(2026, 7, 8)


@pytest.mark.parametrize("name", TIMEFRAMES)
@pytest.mark.parametrize("span", [timedelta(minutes=3), timedelta(days=40), timedelta(days=4000)])
def test_pages_cover_a_stretch_without_gap_or_overlap(name: str, span: timedelta) -> None:
    start, end = NOW - span, NOW
    pages = list(TIMEFRAMES[name].pages(start, end))
    assert pages[0][0] == start
    assert pages[-1][1] == end
    assert all(left[1] == right[0] for left, right in itertools.pairwise(pages))
    for _, cut in pages[:-1]:
        assert cut.astimezone(NEW_YORK).hour == cut.astimezone(NEW_YORK).minute == 0
        assert TIMEFRAMES[name].label(cut) == cut
    again = list(TIMEFRAMES[name].pages(pages[len(pages) // 2][0], end))
    assert again == pages[len(pages) // 2 :]  # a cursor leads to the same pages


def test_whole_bars_are_asked_for() -> None:
    start, end = at_new_york(2026, 1, 7, 10), at_new_york(2026, 1, 8, 11)
    assert TIMEFRAMES["1Min"].around(start, end) == (start, end)
    assert TIMEFRAMES["1Day"].around(start, end) == (at_new_york(2026, 1, 7), at_new_york(2026, 1, 9))
    assert TIMEFRAMES["1Week"].around(start, end) == (at_new_york(2026, 1, 5), at_new_york(2026, 1, 12))
    assert TIMEFRAMES["1Month"].around(start, end) == (at_new_york(2026, 1, 1), at_new_york(2026, 2, 1))
    assert TIMEFRAMES["1Day"].around(at_new_york(2026, 1, 7), at_new_york(2026, 1, 8)) == (
        at_new_york(2026, 1, 7), at_new_york(2026, 1, 8),
    )  # fmt: skip


# -- VALUES ---
def test_a_quote_has_none_for_what_is_missing() -> None:
    raw = QuoteReport(
        symbol="SPY", bid=Decimal("NaN"), ask=Decimal(-1), last=Decimal("5.50"), bid_size=Decimal(0),
        ask_size=Decimal("Infinity"), volume=Decimal(0), at=NOW,
    )  # fmt: skip
    assert clean(raw) == QuoteReport(symbol="SPY", last=Decimal("5.50"), at=NOW)
    with pytest.raises(NoData):
        clean(QuoteReport(symbol="SPY", bid=Decimal(0), ask=Decimal(0), last=Decimal(-1)))


def test_reports_survive_the_way_through_json() -> None:
    account = AccountReport(account_id="1", buying_power=Decimal("4000000.10"), day_trade_count=2, paper=True)
    assert from_json(AccountReport, as_json(account)) == account
    assert as_json(account)["buying_power"] == "4000000.1"
    assert as_json(account)["cash"] is None


def test_net_positions() -> None:
    def held(symbol: str, quantity: str) -> PositionReport:
        return PositionReport(symbol=symbol, quantity=Decimal(quantity))

    found = {"a": [held("SPY", "10"), held("KO", "1.5")], "b": [held("SPY", "-10"), held("AAPL", "3")]}
    positions = Positions(found, {"c": "down"})
    assert positions.total() == {"AAPL": Decimal(3), "KO": Decimal("1.5"), "SPY": Decimal(0)}
    assert positions.unreachable == {"c": "down"}


def test_what_is_held_in_accounts_is_held_where_orders_can_go() -> None:
    held = [PositionReport(symbol="KO", quantity=Decimal(n), account_id=of) for n, of in ((4, "ira"), (9, "DU7"))]
    positions = Positions({"ibkr": held, "tda": [PositionReport(symbol="KO", quantity=None)]}, {})
    known = ("ibkr:ira", "ibkr:main", "tda")
    assert positions.places("KO", known) == [("ibkr:ira", 4), ("ibkr", 9), ("tda", None)]
    assert positions.places("KO", known, "ibkr") == [("ibkr:ira", 4), ("ibkr", 9)]
    assert positions.places("KO", known, "ibkr:ira") == [("ibkr:ira", 4)]
    assert positions.places("SPY", known) == []


def test_ib_durations_are_never_shorter_than_a_bar() -> None:
    assert BAR_SIZES["1Day"].duration(1) == "1 D"
    assert BAR_SIZES["1Day"].duration(365) == "365 D"
    assert BAR_SIZES["1Day"].duration(366) == "2 Y"
    assert BAR_SIZES["1Week"].duration(1) == "1 W"
    assert BAR_SIZES["1Week"].duration(15) == "3 W"
    assert BAR_SIZES["1Month"].duration(31) == "2 M"
    assert BAR_SIZES["1Month"].duration(3650) == "10 Y"


def test_ib_is_asked_at_its_pace() -> None:
    now, sent = [100.0], []

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def run() -> None:
        pace = HistoryPace(lambda: now[0], sleep=sleep)

        def make(name: str) -> Callable[[], Any]:
            async def answer() -> str:
                sent.append((name, now[0]))
                if name.startswith("bad"):
                    raise DataError(name)
                return name

            return answer

        for n in range(BURST + 2):
            await pace.ask("SPY", n, make(f"spy{n}"))
        assert [at for _, at in sent] == [100.0] * BURST + [100.0 + BURST_S] * 2
        for n in range(90):  # three times the half year of thirty stocks: no limit over all contracts holds it up
            await pace.ask(f"stock {n % 30}", ("1 day", n), make(f"day{n}"))
        assert {at for name, at in sent if name.startswith("day")} == {now[0]}
        await pace.ask("KO", 0, make("ko"))
        assert sent[-1] == ("ko", 100.0 + BURST_S)

        before = len(sent)
        now[0] += SAME_S / 2  # the second half was asked for just now, the same question gets the same answer
        assert await pace.ask("SPY", BURST + 1, make("again")) == f"spy{BURST + 1}"
        assert len(sent) == before
        now[0] += SAME_S
        assert await pace.ask("SPY", BURST + 1, make("later")) == "later"
        for _ in range(2):
            with pytest.raises(DataError):
                await pace.ask("SPY", "x", make("bad"))
        assert len(sent) == before + 3

    asyncio.run(run())


# -- ROWS ---
def bar(start: datetime, close: str = "10", volume: int = 100) -> Bar:
    price = Decimal(close)
    return Bar(start=start, open=price, high=price, low=price, close=price, volume=Decimal(volume))


def test_a_bar_that_was_still_forming_is_refreshed(database: Database) -> None:
    wanted = parse_bars(request(), NOW)
    day = at_new_york(2025, 12, 1)
    for close in ("10.25", "10.5"):
        with database.write() as connection:
            store_bars(connection, "ibkr", "SPY", TIMEFRAMES["1Day"], [bar(day, close), bar(day + DAY, close)], NOW)
            store_bars(connection, "alpaca", "SPY", TIMEFRAMES["1Day"], [bar(day, "9")], NOW)
    with database.read() as connection:
        assert [row["close"] for row in read_bars(connection, "ibkr", wanted)] == [Decimal("10.5")] * 2
        assert [row["close"] for row in read_bars(connection, "alpaca", wanted)] == [Decimal(9)]


def test_a_bar_says_whether_it_was_over_when_its_broker_was_asked(database: Database) -> None:
    """What was over stays so: an answer that was asked for earlier and comes later does not put it back."""
    day, one = at_new_york(2025, 12, 1), TIMEFRAMES["1Day"]
    told = []
    for asked_at, close in ((DAY * 3 / 2, "10"), (DAY * 2, "11"), (DAY * 3 / 2, "10"), (DAY * 3, "12")):
        with database.write() as connection:
            store_bars(connection, "ibkr", "SPY", one, [bar(day, close), bar(day + DAY, close)], day + asked_at)
        with database.read() as connection:
            rows = read_bars(connection, "ibkr", parse_bars(request(), NOW))
        told.append([(str(row["close"]), row["complete"]) for row in rows])
    begun, over = [("10", True), ("10", False)], [("11", True), ("11", True)]
    assert told == [begun, over, [("10", True), ("11", True)], [("12", True), ("12", True)]]


@pytest.mark.parametrize(
    ("timeframe", "end", "now", "by"),
    [
        ("1Min", None, "15:30:20", "15:30:20"), ("1Min", "2025-12-05T12:00:30Z", "15:30:20", "12:00:30"),
        ("1Day", "2025-12-04T17:00:00Z", "15:30:20", None), ("1Day", None, "15:30:20", "15:30:20"),
    ],
)  # fmt: skip
def test_bars_are_told_to_their_end_up_to_the_end_of_what_was_asked_for_and_to_now(
    timeframe: str, end: str | None, now: str, by: str | None
) -> None:
    moment = datetime.fromisoformat(f"2025-12-05T{now}+00:00")
    wanted = parse_bars({"symbol": "SPY", "timeframe": timeframe, "start": "2025-12-01", "end": end}, moment)
    right = at_new_york(2025, 12, 5) if by is None else datetime.fromisoformat(f"2025-12-05T{by}+00:00")
    assert wanted.asked_by(moment) == right, "a bar of a day is asked for as a whole, one within it may be cut"


# -- FRAMES ---
@pytest.mark.parametrize("floats", [True, False])
def test_a_frame_without_bars_has_the_dtypes_of_a_full_one(floats: bool) -> None:
    row = {name: Decimal(1) for name in ("open", "high", "low", "close", "volume")} | {"start": datetime.now(UTC)}
    full, empty = bars_frame([row], floats=floats), bars_frame([], floats=floats)
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert (str(empty.index.dtype), empty.index.name) == (str(full.index.dtype), "start")


def test_a_request_that_nobody_answers_is_named_in_words(bare: Path, database: Database) -> None:
    with OrderClient(load_settings(home=bare)) as client:
        with pytest.raises(DataError, match=r"^quote symbol SPY: no answer from ibkr within 0\.1 s"):
            client.quote("SPY").result(timeout=0.1)
        with pytest.raises(DataError, match=r"^account: no answer from ibkr"):
            client.account("ibkr").result(timeout=0.1)
