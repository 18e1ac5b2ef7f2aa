"""Who is asked, and who is asked next: the worker's side of data requests over a stubbed broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.errors import (
    AccessLost,
    DataError,
    DataNotPermitted,
    NoData,
    NoSuchSymbol,
    NotConnected,
    PacingViolation,
    QuotaExhausted,
    UnreadableReply,
    Unsupported,
)
from models.messages import FetchRequest
from models.record.database import Database
from models.record.fetches import insert_fetch
from models.record.tables import fetches, workers
from models.reports import Bars
from models.settings import Settings
from models.timeframes import NEW_YORK
from tests.kit.waiting import eventually
from tests.unit.fetch_bench import FetchBench, bar, raising
from worker.data.fetching import TRIES


def at_new_york(*when: int) -> datetime:
    return datetime(*when, tzinfo=NEW_YORK).astimezone(UTC)  # type: ignore[arg-type, misc]


@pytest.fixture
def bench(settings: Settings, database: Database) -> Iterator[FetchBench]:
    made = FetchBench(settings, database)
    yield made
    made.fetcher.close()


def test_a_fetch_is_stored_page_by_page(bench: FetchBench) -> None:
    row = bench.ask()
    assert (row["status"], row["progress"], row["broker"], row["error"]) == ("done", 1, "ibkr", None)
    assert row["route"] == ["ibkr", "alpaca", "tda"]
    assert len(bench.broker.asked) == 3
    assert row["stored"] == row["result"]["bars"] == 3
    assert row["cursor"] == at_new_york(2025, 12, 20)
    assert row["result"]["first"] == bench.stored()[0].isoformat()


def test_a_page_without_bars_is_no_failure(bench: FetchBench) -> None:
    def answer(start: datetime, end: datetime) -> Any:
        if end < at_new_york(2025, 12, 16):
            raise NoData("nothing then")
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["stored"], len(bench.broker.asked)) == ("done", 1, 3)


def test_bars_that_are_left_out_are_counted_over_all_pages(bench: FetchBench) -> None:
    bench.broker.answer = lambda start, _: Bars([bar(start)], left_out=2)
    row = bench.ask()
    assert (row["stored"], row["result"]["bars"], row["result"]["left_out"]) == (3, 3, 6)


def test_whoever_goes_on_from_the_cursor_goes_on_counting_what_is_left_out(bench: FetchBench) -> None:
    bench.fails_on_page_2(NotConnected("gone"), left_out=1)
    assert bench.ask()["result"] == {"left_out": 1}
    assert bench.again()["result"]["left_out"] == 3


def test_the_next_broker_begins_to_count_anew(bench: FetchBench) -> None:
    bench.fails_on_page_2(DataNotPermitted("no more"), left_out=1)
    row = bench.ask()
    assert (row["status"], row["broker"], row["result"]) == ("queued", "alpaca", None)


@pytest.mark.parametrize(
    "error", [NoData("none"), DataNotPermitted("not you"), Unsupported("not this"), DataError("?")]
)
def test_a_broker_that_cannot_is_followed_by_the_next(bench: FetchBench, error: Exception) -> None:
    def answer(_start: datetime, _end: datetime) -> Any:
        raise error

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["broker"], row["cursor"], row["tries"]) == ("queued", "alpaca", None, 0)
    assert row["error"].startswith("ibkr: ")
    assert bench.bell.rung == [("data.bars", "data.alpaca")]


def test_the_end_of_the_route_keeps_every_reason(bench: FetchBench) -> None:
    def answer(_start: datetime, _end: datetime) -> Any:
        raise DataNotPermitted("ibkr: no permission")

    bench.broker.answer = answer
    bench.ask(route=["ibkr"])
    bench.change(fetches, fetches.c.fetch_id == "f", status="queued", error="alpaca: no data")
    bench.fetcher._enqueue("f", "bars")
    row = bench.settle()
    assert (row["status"], row["error"]) == ("failed", "alpaca: no data; ibkr: no permission")
    assert row["ended_at"] is not None


@pytest.mark.parametrize("error", [PacingViolation("ibkr: pacing", retry_after=15), QuotaExhausted("x", retry_after=6)])
def test_a_broker_that_is_busy_for_more_than_seconds_is_not_waited_for(bench: FetchBench, error: Exception) -> None:
    def answer(start: datetime, _end: datetime) -> Any:
        if len(bench.broker.asked) == 2:
            raise error
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["broker"], row["cursor"], row["stored"]) == ("queued", "alpaca", None, 0)
    assert row["error"].startswith("ibkr: ")
    assert bench.bell.rung == [("data.bars", "data.alpaca")]


def test_a_broker_that_is_busy_for_seconds_is_waited_for(bench: FetchBench) -> None:
    def answer(_start: datetime, _end: datetime) -> Any:
        raise PacingViolation("ibkr: pacing", retry_after=2)

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["broker"], row["tries"]) == ("queued", "ibkr", 1)


@pytest.mark.parametrize(
    "error",
    [
        DataError("ibkr: 162 Historical Market Data Service error message:Trading TWS session is connected from a "
                  "different IP address"),
        NoSuchSymbol("ibkr: 200 No security definition"),
        NotConnected("ibkr: gone"),
        UnreadableReply("ibkr: ?"),
        RuntimeError("?"),
    ],
)  # fmt: skip
def test_a_page_that_failed_is_no_empty_page(bench: FetchBench, error: Exception) -> None:
    """The second of three pages: what is not `NoData` leaves a fetch that is not done, here or at the next broker."""

    def answer(start: datetime, _end: datetime) -> Any:
        if len(bench.broker.asked) > 1:
            raise error
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask(route=["ibkr"])
    assert row["status"] in ("queued", "failed")
    assert len(bench.broker.asked) == 2
    assert row["stored"] == 1
    assert str(error) in row["error"]


def test_too_many_requests_wait_at_the_last_broker_with_what_is_stored(bench: FetchBench) -> None:
    busy = True

    def answer(start: datetime, _end: datetime) -> Any:
        if busy and len(bench.broker.asked) == 2:
            raise PacingViolation("ibkr: pacing", retry_after=15)
        return [bar(start)]

    bench.broker.answer = answer
    before = datetime.now(UTC)
    row = bench.ask(route=["ibkr"])
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


def test_a_quote_does_not_wait_for_a_busy_broker(bench: FetchBench) -> None:
    def quote(_symbol: str) -> Any:
        raise PacingViolation("ibkr: pacing", retry_after=15)

    bench.broker.quote = quote
    assert bench.ask("quote", symbol="SPY")["broker"] == "alpaca"
    row = bench.ask("quote", "g", symbol="SPY", route=["ibkr"])
    assert (row["status"], row["broker"]) == ("queued", "ibkr")


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (PacingViolation("ibkr: 162 pacing", retry_after=3), 1),
        (PacingViolation("ibkr: the budget is used up", retry_after=3, ours=True), 0),
        (QuotaExhausted("ibkr: the budget is used up", retry_after=3), 0),
    ],
)
def test_what_our_own_budget_holds_back_is_no_try(bench: FetchBench, error: Exception, tries: int) -> None:
    def quote(_symbol: str) -> Any:
        raise error

    bench.broker.quote = quote
    row = bench.ask("quote", symbol="SPY", route=["ibkr"])
    assert (row["status"], row["broker"], row["tries"]) == ("queued", "ibkr", tries)


def test_a_connection_lost_on_the_way_goes_on_at_the_same_broker(bench: FetchBench) -> None:
    bench.fails_on_page_2(NotConnected("ibkr: connection lost"))
    row = bench.ask()
    assert (row["status"], row["broker"], row["stored"]) == ("queued", "ibkr", 1)


def test_an_access_that_is_lost_closes_the_gate_and_the_next_broker_answers(bench: FetchBench) -> None:
    bench.broker.quote = raising(AccessLost("ibkr: 401 the keys were revoked"))
    row = bench.ask("quote", symbol="SPY")
    assert bench.gate.refusal == "ibkr: 401 the keys were revoked"
    assert (row["status"], row["broker"], row["error"]) == ("queued", "alpaca", bench.gate.refusal)


def test_what_nobody_else_can_answer_waits_for_an_access_that_is_lost(bench: FetchBench) -> None:
    bench.broker.get_positions = raising(AccessLost("ibkr: 404 no such account"))  # type: ignore[method-assign]
    row = bench.ask("positions")
    assert bench.gate.refusal == "ibkr: 404 no such account"
    assert (row["status"], row["broker"], row["tries"]) == ("queued", "ibkr", 1)
    bench.broker.get_positions = list  # type: ignore[method-assign]
    assert bench.again("positions")["status"] == "done"


def test_an_access_that_stays_lost_ends_a_request_with_the_brokers_words(bench: FetchBench) -> None:
    bench.broker.get_positions = raising(AccessLost("ibkr: 404 no such account"))  # type: ignore[method-assign]
    row = bench.ask("positions")
    for _ in range(TRIES):
        row = bench.again("positions")
    assert (row["status"], row["error"]) == ("failed", "ibkr: 404 no such account")


def test_other_peoples_accounts_are_no_answer(bench: FetchBench) -> None:
    row = bench.ask("positions")
    assert (row["status"], row["route"], row["broker"]) == ("failed", ["ibkr"], "ibkr")
    assert row["error"] == "ibkr: not connected"


def test_a_worker_that_lost_its_request_writes_nothing(bench: FetchBench) -> None:
    def answer(start: datetime, _end: datetime) -> Any:
        bench.change(fetches, fetches.c.fetch_id == "f", worker="w2", attempt_no=2)
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["worker"], row["cursor"], bench.stored()) == ("running", "w2", None, [])


@pytest.mark.parametrize("how", ["lease", "heartbeat"])
def test_another_worker_goes_on_from_the_cursor(bench: FetchBench, how: str) -> None:
    caught, go_on = threading.Event(), threading.Event()

    def answer(start: datetime, _end: datetime) -> Any:
        if len(bench.broker.asked) == 2:
            caught.set()
            go_on.wait(10)
        return [bar(start)]

    bench.broker.answer = answer
    bench.fetcher.take("bars", "f", {"symbol": "SPY", "timeframe": "1Min", "start": "2025-12-01", "end": "2025-12-20"})
    assert caught.wait(10)
    cursor = eventually(lambda: bench.row()["cursor"])  # the second page is asked for while the first is stored
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


def test_a_stopping_worker_leaves_its_request_with_what_is_stored(bench: FetchBench) -> None:
    def answer(start: datetime, _end: datetime) -> Any:
        bench.fetcher._stopping.set()
        return [bar(start)]

    bench.broker.answer = answer
    row = bench.ask()
    assert (row["status"], row["stored"], len(bench.broker.asked)) == ("queued", 1, 1)
    assert row["cursor"] == bench.broker.asked[0][1]


def test_a_worker_that_has_not_tried_its_broker_leaves_requests_to_the_sweep(bench: FetchBench) -> None:
    bench.broker.connected = False
    bench.gate.has_tried.clear()
    row = bench.ask("quote", symbol="SPY")
    assert (row["status"], row["attempt_no"]) == ("queued", 0)
    bench.gate.close("the first connect has failed")
    bench.gate.has_tried.set()
    assert bench.ask("quote", "g", symbol="SPY")["status"] == "done"


def test_what_waits_for_a_dead_broker_moves_on(bench: FetchBench, database: Database) -> None:
    old = datetime.now(UTC) - timedelta(seconds=30)
    asked = {
        "quote": ("quote", {"symbol": "SPY"}, ["tda", "ibkr"]),
        "only": ("bars", {"symbol": "SPY", "timeframe": "1Day", "start": "2025-12-01"}, ["tda"]),
        "begun": ("bars", {"symbol": "SPY", "timeframe": "1Day", "start": "2025-12-01"}, ["tda", "ibkr"]),
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
def test_a_message_that_makes_no_sense_is_a_failed_row(bench: FetchBench, fields: dict[str, Any]) -> None:
    row = bench.ask("quote", **fields)
    assert (row["status"], row["attempt_no"]) == ("failed", 0)
    assert row["error"]


def test_a_message_for_another_broker_is_passed_on(bench: FetchBench) -> None:
    row = bench.ask("quote", symbol="SPY", route=["tda", "ibkr"])
    assert (row["status"], row["broker"]) == ("queued", "tda")
    assert bench.bell.rung == [("data.quote", "data.tda")]
