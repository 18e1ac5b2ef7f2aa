"""Data requests without a broker: what is refused at the call, how stretches are cut, and who gets a request next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from models.database import Database
from models.errors import (
    DataError,
    DataNotPermitted,
    InvalidRequest,
    NoData,
    NotConnected,
    PacingViolation,
    Unsupported,
)
from models.fetches import as_json, check, from_json, insert_fetch, parse_bars, read_bars, store_bars
from models.messages import FetchRequest
from models.reports import AccountReport, Bar, PositionReport, QuoteReport
from models.settings import Settings
from models.tables import bars, fetches, workers
from models.timeframes import NEW_YORK, TIMEFRAMES, Duration, moment
from producers.handles import Positions
from worker.brokers.ibkr_data import BAR_SIZES
from worker.brokers.ibkr_pacing import BURST, BURST_S, SAME_S, HistoryPace
from worker.fetching import Fetcher
from worker.quotes import clean

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
    ("bars", request(end="2025-12-03", duration="5D"), "duration"),
    ("bars", request(start=5), "start"),
    ("bars", request(adjusted=True), "adjusted"),
    ("quote", {"symbol": ""}, "symbol"),
    ("quote", {"symbol": ["SPY"]}, "symbol"),
    ("quote", {"symbol": "SPY", "depth": 5}, "depth"),
    ("account", {"broker": "ibkr"}, "broker.*no fields"),
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
    assert all(left[1] == right[0] for left, right in zip(pages, pages[1:], strict=False))
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


def test_ib_durations_are_never_shorter_than_a_bar() -> None:
    assert BAR_SIZES["1Day"].duration(1) == "1 D"
    assert BAR_SIZES["1Day"].duration(365) == "365 D"
    assert BAR_SIZES["1Day"].duration(366) == "2 Y"
    assert BAR_SIZES["1Week"].duration(1) == "1 W"
    assert BAR_SIZES["1Week"].duration(15) == "3 W"
    assert BAR_SIZES["1Month"].duration(31) == "2 M"
    assert BAR_SIZES["1Month"].duration(3650) == "10 Y"


def test_ib_is_asked_at_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [100.0], []

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def run() -> None:
        pace = HistoryPace(lambda: now[0])

        def make(name: str) -> Callable[[], Any]:
            async def answer() -> str:
                sent.append((name, now[0]))
                if name.startswith("bad"):
                    raise DataError(name)
                return name

            return answer

        monkeypatch.setattr("worker.brokers.ibkr_pacing.asyncio.sleep", sleep)
        for n in range(BURST + 2):
            await pace.ask("SPY", n, make(f"spy{n}"))
        assert [at for _, at in sent] == [100.0] * BURST + [100.0 + BURST_S] * 2
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
            store_bars(connection, "ibkr", "SPY", "1Day", [bar(day, close), bar(day + DAY, close)])
            store_bars(connection, "alpaca", "SPY", "1Day", [bar(day, "9")])
    with database.read() as connection:
        assert [row["close"] for row in read_bars(connection, "ibkr", wanted)] == [Decimal("10.5")] * 2
        assert [row["close"] for row in read_bars(connection, "alpaca", wanted)] == [Decimal(9)]


# -- WHO IS ASKED ---
class Stub:
    """A broker whose answers a test chooses."""

    name = "ibkr"

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []
        self.answer: Callable[[datetime, datetime], Any] = lambda start, _: [bar(start)]
        self.quote: Callable[[str], Any] = lambda symbol: QuoteReport(symbol=symbol, last=Decimal(5))
        self.connected = True

    def is_connected(self) -> bool:
        return self.connected

    def get_historical_data(self, _symbol: str, _timeframe: str, start: datetime, end: datetime) -> Any:
        self.asked.append((start, end))
        return self.answer(start, end)

    def get_market_data(self, symbol: str) -> Any:
        return self.quote(symbol)

    def get_positions(self) -> Any:
        raise NotConnected("ibkr: not connected")


class Bell:
    def __init__(self) -> None:
        self.rung: list[tuple[str, str]] = []

    def ring(self, messages: Any) -> bool:
        self.rung += [(task, queue) for task, queue, _ in messages]
        return True


class Bench:
    """A Fetcher over a real database and a stubbed broker."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self.broker, self.bell = Stub(), Bell()
        self.fetcher = self.worker("w1")

    def worker(self, name: str) -> Fetcher:
        with self.database.write() as connection:
            row = {"worker": name, "broker": "ibkr", "host": "h", "boot": "b", "pid": 1, "state": "ready"}
            now = datetime.now(UTC)
            connection.execute(insert(workers).values(**row, started_at=now, heartbeat_at=now))
        return Fetcher(self.settings, self.database, self.broker, name, self.bell)  # type: ignore[arg-type]

    def ask(self, kind: str = "bars", fetch_id: str = "f", **fields: Any) -> dict[str, Any]:
        """Ask by message, and wait until the lane is empty."""
        if kind == "bars":
            fields = {"symbol": "SPY", "timeframe": "1Min", "start": "2025-12-01", "end": "2025-12-20"} | fields
        self.fetcher.take(kind, fetch_id, fields)
        return self.settle(fetch_id)

    def settle(self, fetch_id: str = "f", fetcher: Fetcher | None = None) -> dict[str, Any]:
        for future in list((fetcher or self.fetcher)._here.values()):
            future.result(10)
        return self.row(fetch_id)

    def row(self, fetch_id: str = "f") -> dict[str, Any]:
        with self.database.read() as connection:
            found = connection.execute(select(fetches).where(fetches.c.fetch_id == fetch_id)).mappings().first()
        return dict(found) if found is not None else {}

    def change(self, table: Any, where: Any, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(update(table).where(where).values(**values))

    def stored(self) -> list[datetime]:
        with self.database.read() as connection:
            return list(connection.execute(select(bars.c.start).order_by(bars.c.start)).scalars())


@pytest.fixture
def bench(settings: Settings, database: Database) -> Iterator[Bench]:
    made = Bench(settings, database)
    yield made
    made.fetcher.close()


def test_a_fetch_is_stored_page_by_page(bench: Bench) -> None:
    row = bench.ask()
    assert (row["status"], row["progress"], row["broker"], row["error"]) == ("done", 1, "ibkr", None)
    assert row["route"] == ["ibkr", "alpaca", "tda"]
    assert len(bench.broker.asked) == 3
    assert row["stored"] == row["result"]["bars"] == 3
    assert row["cursor"] == at_new_york(2025, 12, 20)
    assert row["result"]["first"] == bench.stored()[0].isoformat()


def test_a_page_without_bars_is_no_failure(bench: Bench) -> None:
    def answer(start: datetime, end: datetime) -> Any:
        if end < at_new_york(2025, 12, 16):
            raise NoData("nothing then")
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["stored"], len(bench.broker.asked)) == ("done", 1, 3)


@pytest.mark.parametrize(
    "error", [NoData("none"), DataNotPermitted("not you"), Unsupported("not this"), DataError("?")]
)
def test_a_broker_that_cannot_is_followed_by_the_next(bench: Bench, error: Exception) -> None:
    def answer(_start: datetime, _end: datetime) -> Any:
        raise error

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["broker"], row["cursor"], row["tries"]) == ("queued", "alpaca", None, 0)
    assert row["error"].startswith("ibkr: ")
    assert bench.bell.rung == [("data.bars", "data.alpaca")]


def test_the_end_of_the_route_keeps_every_reason(bench: Bench) -> None:
    def answer(_start: datetime, _end: datetime) -> Any:
        raise DataNotPermitted("ibkr: no permission")

    bench.broker.answer = answer
    bench.ask(route=["ibkr"])
    bench.change(fetches, fetches.c.fetch_id == "f", status="queued", error="alpaca: no data")
    bench.fetcher._enqueue("f", "bars")
    row = bench.settle()
    assert (row["status"], row["error"]) == ("failed", "alpaca: no data; ibkr: no permission")
    assert row["ended_at"] is not None


def test_too_many_requests_wait_at_the_same_broker_with_what_is_stored(bench: Bench) -> None:
    busy = True

    def answer(start: datetime, _end: datetime) -> Any:
        if busy and len(bench.broker.asked) == 2:
            raise PacingViolation("ibkr: pacing", retry_after=15)
        return [bar(start)]

    bench.broker.answer = answer
    before = datetime.now(UTC)
    row = bench.ask()
    assert (row["status"], row["broker"], row["tries"], row["stored"]) == ("queued", "ibkr", 1, 1)
    assert row["available_at"] >= before + timedelta(seconds=15)
    assert bench.bell.rung == []

    bench.fetcher.take("bars", "f", {})  # another copy of the message does not shorten the pause
    assert bench.settle()["status"] == "queued"
    busy, cursor = False, row["cursor"]
    bench.change(fetches, fetches.c.fetch_id == "f", available_at=before, updated_at=before - timedelta(seconds=60))
    bench.fetcher.sweep()
    row = bench.settle()
    assert (row["status"], row["stored"], len(bench.broker.asked)) == ("done", 3, 4)
    assert bench.broker.asked[2][0] == cursor


def test_a_quote_does_not_wait_for_a_busy_broker(bench: Bench) -> None:
    def quote(_symbol: str) -> Any:
        raise PacingViolation("ibkr: pacing", retry_after=15)

    bench.broker.quote = quote
    assert bench.ask("quote", symbol="SPY")["broker"] == "alpaca"
    row = bench.ask("quote", "g", symbol="SPY", route=["ibkr"])
    assert (row["status"], row["broker"]) == ("queued", "ibkr")


def test_a_connection_lost_on_the_way_goes_on_at_the_same_broker(bench: Bench) -> None:
    def answer(start: datetime, _end: datetime) -> Any:
        if len(bench.broker.asked) == 2:
            raise NotConnected("ibkr: connection lost")
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["broker"], row["stored"]) == ("queued", "ibkr", 1)


def test_other_peoples_accounts_are_no_answer(bench: Bench) -> None:
    row = bench.ask("positions")
    assert (row["status"], row["route"], row["broker"]) == ("failed", ["ibkr"], "ibkr")
    assert row["error"] == "ibkr: not connected"


def test_a_worker_that_lost_its_request_writes_nothing(bench: Bench) -> None:
    def answer(start: datetime, _end: datetime) -> Any:
        bench.change(fetches, fetches.c.fetch_id == "f", worker="w2", attempt_no=2)
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["worker"], row["cursor"], bench.stored()) == ("running", "w2", None, [])


@pytest.mark.parametrize("how", ["lease", "heartbeat"])
def test_another_worker_goes_on_from_the_cursor(bench: Bench, how: str) -> None:
    caught, go_on = threading.Event(), threading.Event()

    def answer(start: datetime, _end: datetime) -> Any:
        if len(bench.broker.asked) == 2:
            caught.set()
            go_on.wait(10)
        return [bar(start)]

    bench.broker.answer = answer
    bench.fetcher.take("bars", "f", {"symbol": "SPY", "timeframe": "1Min", "start": "2025-12-01", "end": "2025-12-20"})
    assert caught.wait(10)
    cursor = bench.row()["cursor"]
    second = bench.worker("w2")
    second.sweep()
    assert bench.settle(fetcher=second)["worker"] == "w1"  # it is alive

    old = datetime.now(UTC) - timedelta(seconds=100)
    if how == "lease":
        bench.change(fetches, fetches.c.fetch_id == "f", lease_until=old)
    else:
        bench.change(workers, workers.c.worker == "w1", heartbeat_at=old)
    second.sweep()
    row = bench.settle(fetcher=second)
    go_on.set()
    assert (row["status"], row["worker"], row["attempt_no"], row["stored"]) == ("done", "w2", 2, 3)
    assert [asked[0] for asked in bench.broker.asked[2:]] == [cursor, at_new_york(2025, 12, 15)]
    assert bench.settle()["worker"] == "w2"
    second.close()


def test_a_stopping_worker_leaves_its_request_with_what_is_stored(bench: Bench) -> None:
    def answer(start: datetime, _end: datetime) -> Any:
        bench.fetcher._stopping.set()
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["stored"], len(bench.broker.asked)) == ("queued", 1, 1)
    assert row["cursor"] == bench.broker.asked[0][1]


def test_a_worker_that_has_not_tried_its_broker_leaves_requests_to_the_sweep(bench: Bench) -> None:
    bench.broker.connected = False
    bench.change(workers, workers.c.worker == "w1", state="starting")
    row = bench.ask("quote", symbol="SPY")
    assert (row["status"], row["attempt_no"]) == ("queued", 0)
    bench.change(workers, workers.c.worker == "w1", state="disconnected")
    assert bench.ask("quote", "g", symbol="SPY")["status"] == "done"


def test_what_waits_for_a_dead_broker_moves_on(bench: Bench, database: Database) -> None:
    old = datetime.now(UTC) - timedelta(seconds=30)
    asked = {
        "quote": ("quote", {"symbol": "SPY"}, ["tda", "ibkr"]),
        "only": ("bars", request(), ["tda"]),
        "begun": ("bars", request(), ["tda", "ibkr"]),
        "account": ("account", {}, ["tda"]),
    }
    with database.write() as connection:
        for fetch_id, (kind, fields, route) in asked.items():
            fetch = FetchRequest(kind=kind, fetch_id=fetch_id, request=fields)  # type: ignore[arg-type]
            insert_fetch(connection, fetch, route, old)
    bench.change(fetches, fetches.c.fetch_id == "begun", cursor=old)
    bench.fetcher.sweep()
    bench.fetcher.sweep()
    assert (bench.row("quote")["broker"], bench.row("quote")["error"]) == ("ibkr", "tda: no worker of tda is alive")
    assert ("data.quote", "data.ibkr") in bench.bell.rung
    assert bench.row("only")["status"] == "queued"  # nobody else was allowed
    assert (bench.row("begun")["broker"], bench.row("begun")["cursor"]) == ("tda", old)  # a worker may come back
    assert bench.row("account")["status"] == "failed"


@pytest.mark.parametrize(
    "fields", [{"symbol": "SPY", "route": ["nobody"]}, {"symbol": 5}, {}, {"symbol": "SPY", "x": {}}]
)
def test_a_message_that_makes_no_sense_is_a_failed_row(bench: Bench, fields: dict[str, Any]) -> None:
    row = bench.ask("quote", **fields)
    assert (row["status"], row["attempt_no"]) == ("failed", 0)
    assert row["error"]


def test_a_message_for_another_broker_is_passed_on(bench: Bench) -> None:
    row = bench.ask("quote", symbol="SPY", route=["tda", "ibkr"])
    assert (row["status"], row["broker"]) == ("queued", "tda")
    assert bench.bell.rung == [("data.quote", "data.tda")]


@pytest.mark.parametrize("fetch_id", [None, {"a": 1}, "", "x" * 65, "a b", "a\x00b", ["f"]])
def test_a_message_without_a_usable_id_is_dropped(bench: Bench, fetch_id: Any) -> None:
    bench.fetcher.take("quote", fetch_id, {"symbol": "SPY"})
    assert bench.fetcher._here == {}
