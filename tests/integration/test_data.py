"""Data through the queue, from real workers over the sandbox: what comes back is what its market holds."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import insert, select, update

from models.errors import DataError, InvalidRequest
from models.history import to_json
from models.record.fetches import parse_bars
from models.record.tables import bars, fetches
from models.reports import PositionReport, QuoteReport
from tests.integration.data_stories import as_rows, finished, look_up_and_preview
from tests.integration.outside import send_bare
from tests.kit import World, eventually
from worker.sandbox.market.prices import NEW_YORK, PriceBook

BROKERS = ("ibkr", "alpaca", "tda", "schwab")
#: The market of every sandbox follows this seed, so what it holds can be computed here.
BOOK = PriceBook(seed=7)
#: A slow answer has to be slower than a look at the database, nothing more.
SLOW_S = 0.4
COUNT = 100_000


@pytest.fixture(scope="module")
def world(make_recorded_world: Callable[..., World]) -> World:
    made = make_recorded_world(BROKERS)
    made.fleet.start_all()
    return made


@pytest.fixture(autouse=True)
def _empty(world: World) -> None:
    with world.database.write() as connection:
        connection.execute(bars.delete())


def in_the_market(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the bars that the sandbox's market holds for the request in this row, as it was when it was answered."""
    wanted = parse_bars(row["request"], row["created_at"])
    found = BOOK.bars(wanted.symbol, wanted.frame.name, wanted.start, wanted.end, row["ended_at"])
    return [(b.start, b.open, b.high, b.low, b.close, b.volume) for b in found if b.start < wanted.end]


# -- WITHOUT AN ORDER ---
def test_instruments_and_previews_come_through_the_queue_and_no_order_with_them(world: World) -> None:
    look_up_and_preview(world, BROKERS)


# -- BARS ---
@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize(("timeframe", "duration", "least"), [("1Day", "1Y", 250), ("1Min", "1W", 1900)])
def test_bars_are_those_of_the_market(world: World, broker: str, timeframe: str, duration: str, least: int) -> None:
    asked = {"end": finished(), "duration": duration, "route": [broker]}
    fetch = world.client.bars("AAPL", timeframe, floats=False, **asked)  # type: ignore[arg-type]
    frame = fetch.result(60)
    assert len(frame) >= least
    assert as_rows(frame) == in_the_market(fetch.row())
    assert fetch.broker == broker
    assert frame.attrs == {"broker": broker, "symbol": "AAPL", "timeframe": timeframe, "left_out": 0}

    floats = world.client.bars("AAPL", timeframe, **asked).result(60)  # type: ignore[arg-type]
    assert str(floats.index.dtype) == "datetime64[ns, UTC]"
    assert floats.index.name == "start"
    assert floats.index.is_monotonic_increasing
    assert list(floats.columns) == ["open", "high", "low", "close", "volume"]
    assert set(map(str, floats.dtypes)) == {"float64"}
    assert (floats == frame.astype("float64")).all().all()


@pytest.mark.parametrize(
    ("timeframe", "duration"), [("5Min", "2W"), ("15Min", "1M"), ("30Min", "3M"), ("1Week", "2Y"), ("1Month", "5Y")]
)
def test_every_timeframe_is_the_same_at_every_broker(world: World, timeframe: str, duration: str) -> None:
    end = finished(timeframe)
    asked = [world.client.bars("SPY", timeframe, end=end, duration=duration, route=[b]) for b in BROKERS]
    frames = [fetch.result(60) for fetch in asked]
    assert as_rows(frames[0]) == [(start, *map(float, values)) for start, *values in in_the_market(asked[0].row())]
    for frame in frames[1:]:
        assert (frame == frames[0]).all().all()
    if timeframe in ("1Week", "1Month"):
        local = frames[0].index.tz_convert(NEW_YORK)
        assert set(local.hour) == {0}
        assert set(local.day_of_week) == {0} if timeframe == "1Week" else set(local.day) == {1}


def test_a_bar_in_formation_is_refreshed_by_the_next_fetch(world: World) -> None:
    day = BOOK.bars("KO", "1Day", finished() - timedelta(days=7), finished() - timedelta(seconds=1))[-1]
    row = {"broker": "alpaca", "symbol": "KO", "timeframe": "1Day", "start": day.start, "volume": 1}
    with world.database.write() as connection:
        connection.execute(insert(bars).values(**row, open=1, high=1, low=1, close=1))
    frame = world.client.bars("KO", "1Day", end=finished(), duration="2W", route=["alpaca"], floats=False).result(20)
    assert frame.loc[day.start, "close"] == day.close
    assert frame.loc[day.start, "volume"] == day.volume


def test_a_broker_that_lacks_a_timeframe_is_followed_by_one_that_has_it(world: World) -> None:
    fetch = world.client.bars("SPY", "1Hour", end=finished(), duration="1W", route=["tda", "alpaca"], floats=False)
    frame = fetch.result(20)
    assert fetch.broker == frame.attrs["broker"] == "alpaca"
    assert as_rows(frame) == in_the_market(fetch.row())
    assert "tda" in str(fetch.error)
    assert "1Hour" in str(fetch.error)


@pytest.mark.parametrize(
    ("first", "fault"),
    [
        ("alpaca", {"kind": "status", "status": 500, "operation": "bars"}),
        ("alpaca", {"kind": "status", "status": 403, "operation": "bars", "text": "subscription does not permit"}),
        ("ibkr", {"kind": "error_code", "code": 162, "operation": "bars", "text": "HMDS query returned no data"}),
        ("ibkr", {"kind": "error_code", "code": 162, "operation": "bars", "text": "No market data permissions"}),
    ],
)
def test_a_broker_with_a_fault_is_followed_by_the_next(world: World, first: str, fault: dict[str, Any]) -> None:
    world.control.add_fault(first, **fault)
    route = [first, "tda"]
    fetch = world.client.bars("SPY", "1Day", end=finished(), duration="3M", route=route, floats=False)
    assert as_rows(fetch.result(30)) == in_the_market(fetch.row())
    assert fetch.broker == "tda"
    assert str(fetch.error).startswith(f"{first}: ")
    with world.database.read() as connection:
        assert set(connection.execute(select(bars.c.broker)).scalars()) == {"tda"}


def test_no_broker_has_it(world: World) -> None:
    fetch = world.client.bars("ZZZZ", "1Day", duration="1M")
    with pytest.raises(DataError) as caught:
        fetch.result(30)
    assert all(f"{broker}: " in str(caught.value) for broker in BROKERS)
    with pytest.raises(InvalidRequest, match="timeframe"):
        world.client.bars("SPY", "7Min", duration="1M")


PACING = "Historical Market Data Service error message:Historical data request pacing violation"


def test_a_pacing_violation_is_not_waited_for_where_another_broker_follows(world: World) -> None:
    world.control.add_fault("ibkr", "error_code", count=1, operation="bars", code=162, text=PACING)
    fetch = world.client.bars("MSFT", "1Day", end=finished(), duration="1M", route=["ibkr", "tda"])
    fetch.result(10)
    assert fetch.broker == "tda"
    assert "pacing" in str(fetch.error)


def test_a_part_that_failed_in_whatever_words_leaves_no_hole(world: World) -> None:
    text = "Historical Market Data Service error message:Trading TWS session is connected from a different IP address"
    world.control.add_fault("ibkr", "error_code", count=1, operation="bars", code=162, text=text, after=1)
    fetch = world.client.bars("PEP", "1Min", end=finished(), duration="5D", route=["ibkr"], floats=False)
    with pytest.raises(DataError, match="different IP address"):
        fetch.result(20)
    again = world.client.bars("PEP", "1Min", end=finished(), duration="5D", route=["ibkr"], floats=False)
    assert as_rows(again.result(20)) == in_the_market(again.row())


def test_a_pacing_violation_is_waited_for_at_the_last_broker(world: World) -> None:
    world.control.add_fault("ibkr", "error_code", count=1, operation="bars", code=162, text=PACING)
    fetch = world.client.bars("WMT", "1Day", end=finished(), duration="1M", route=["ibkr"])
    waiting = eventually(lambda: (row := fetch.row())["tries"] and row)
    assert (waiting["status"], waiting["broker"]) == ("queued", "ibkr")
    assert waiting["available_at"] > datetime.now(UTC) + timedelta(seconds=5)
    with world.database.write() as connection:  # the pause of 15 s is over
        now = datetime.now(UTC)
        mine = fetches.c.fetch_id == fetch.fetch_id
        connection.execute(update(fetches).where(mine).values(available_at=now, updated_at=now - timedelta(seconds=9)))
    fetch.result(20)
    assert fetch.broker == "ibkr"
    assert "pacing" in str(fetch.error)


@pytest.mark.parametrize("broker", BROKERS)
def test_a_worker_killed_in_the_middle_is_continued_from_the_cursor(world: World, broker: str) -> None:
    timeframe, duration, door = ("1Day", "12Y", "bars") if broker != "alpaca" else ("15Min", "1Y", "bars")
    plain = world.client.bars("IBM", timeframe, end=finished(), duration=duration, route=[broker], floats=False)
    world.control.add_fault(broker, "slow", count=COUNT, operation=door, seconds=0)
    plain.result(60)
    whole = requests(world, broker)
    with world.database.write() as connection:
        connection.execute(bars.delete())

    world.control.clear_faults()
    world.control.add_fault(broker, "slow", count=COUNT, operation=door, seconds=SLOW_S)
    fetch = world.client.bars("IBM", timeframe, end=finished(), duration=duration, route=[broker], floats=False)
    eventually(lambda: (fetch.row()["progress"] or 0) > Decimal("0.3"), 30)
    world.fleet.kill(world.fleet.processes[broker])
    before = fetch.row()
    assert (before["status"], before["stored"] > 0) == ("running", True)
    world.control.clear_faults()
    world.control.add_fault(broker, "slow", count=COUNT, operation=door, seconds=0)
    world.fleet.start(broker)

    seen = []
    frame = fetch.result(60, watch=lambda row: seen.append((row["cursor"], row["progress"], row["stored"])))
    assert (fetch.progress, fetch.waits) == (1, None)
    assert seen == sorted(seen)  # neither cursor nor progress ever goes back
    assert seen[0][0] >= before["cursor"]
    assert as_rows(frame) == in_the_market(fetch.row())
    assert fetch.row()["stored"] == len(frame)
    assert fetch.row()["attempt_no"] == 2
    assert requests(world, broker) < whole  # what was stored was not asked for again


def requests(world: World, broker: str) -> int:
    """Return how many requests for bars the door has had since the counting fault was set."""
    (fault,) = [fault for fault in world.control.faults() if fault["door"] == broker and fault["kind"] == "slow"]
    return COUNT - int(fault["count"])


# -- QUOTES ---
@pytest.mark.parametrize("broker", BROKERS)
def test_a_quote_has_every_field_or_none(world: World, broker: str) -> None:
    world.control.set_price("SPY", "512.34")
    fetch = world.client.quote("SPY", route=[broker])
    quote = fetch.result(10)
    world.control.set_price("SPY", None)
    assert fetch.broker == broker
    assert isinstance(quote, QuoteReport)
    assert (quote.bid, quote.ask, quote.last) == (Decimal("512.33"), Decimal("512.35"), Decimal("512.34"))
    for size in (quote.bid_size, quote.ask_size, quote.last_size):
        assert size is not None
        assert size > 0
    assert quote.at is not None
    assert abs(datetime.now(UTC) - quote.at) < timedelta(seconds=20)
    raw = fetch.row()["result"]
    assert not {"NaN", "nan", "0", "-1", ""} & {str(value) for value in raw.values()}


def test_a_quote_falls_back(world: World) -> None:
    world.control.add_fault("ibkr", "error_code", operation="quote", code=354, text="not subscribed")
    fetch = world.client.quote("SPY")
    assert fetch.result(10).last is not None
    assert fetch.broker == "alpaca"
    assert "ibkr: 354" in str(fetch.error)


# -- ACCOUNTS ---
@pytest.mark.parametrize("broker", BROKERS)
def test_account_positions_and_orders_are_those_of_the_door(world: World, broker: str) -> None:
    world.control.set_position(broker, "KO", 25)
    truth = world.control.accounts()[broker]
    account = world.client.account(broker).result(10)
    assert account.account_id
    assert account.currency == "USD"
    assert (account.cash, account.total_liquidity) == (Decimal(truth["cash"]), Decimal(truth["cash"]))
    for money in (account.buying_power, account.equity, account.portfolio_value):
        assert money is not None
        assert money > 0
    assert account.paper is True

    (held,) = [p for p in world.client.positions()[broker] if p.symbol == "KO"]
    assert held.quantity == 25

    order = world.orders.send("KO", "buy", 5, order_type="limit", limit_price="1.00", route=broker)
    world.orders.wait(order, "accepted")
    (resting,) = world.client.broker_orders(broker).result(10)
    assert (resting.symbol, resting.quantity, resting.limit_price) == ("KO", Decimal(5), Decimal(1))
    assert resting.broker_order_id == world.orders.whole(order.client_order_id)["attempts"][0]["broker_order_id"]
    order.cancel()
    world.orders.wait(order, "canceled")
    eventually(lambda: world.client.broker_orders(broker).result(10) == [])
    ended = world.client.broker_orders(broker, open_only=False, since=datetime.now(UTC) - timedelta(hours=1)).result(10)
    assert resting.broker_order_id in {report.broker_order_id for report in ended}


def test_positions_of_all_brokers_with_what_is_missing_named(world: World) -> None:
    for broker, quantity in (("ibkr", 10), ("alpaca", 5), ("tda", -15)):
        world.control.set_position(broker, "PEP", quantity)
    held = world.client.positions()
    assert set(held) == set(BROKERS)
    assert held.unreachable == {}
    assert held.total()["PEP"] == 0
    assert all(isinstance(p, PositionReport) for ps in held.values() for p in ps)

    world.control.add_fault("alpaca", "hang", operation="positions")
    held = world.client.positions(timeout=2)
    assert set(held) == {"ibkr", "tda", "schwab"}
    assert set(held.unreachable) == {"alpaca"}
    assert "a worker of alpaca is alive" in held.unreachable["alpaca"]
    assert held.total()["PEP"] == -5
    world.control.clear_faults()


# -- FROM OUTSIDE ---
def test_a_bare_celery_client_asks_for_bars(world: World) -> None:
    fetch_id = f"outside-{uuid.uuid4().hex[:8]}"
    start = (finished() - timedelta(days=30)).isoformat()
    kwargs = {"fetch_id": fetch_id, "symbol": "SPY", "timeframe": "1Day", "start": start}
    send_bare(world, "data.bars", "data.tda", kwargs)
    row = eventually(lambda: (row := _row(world, fetch_id)) and row["status"] == "done" and row)
    assert (row["broker"], row["route"], row["progress"]) == ("tda", ["tda", "ibkr", "alpaca", "schwab"], 1)
    mine = (bars.c.broker == "tda") & (bars.c.symbol == "SPY") & (bars.c.timeframe == "1Day")
    with world.database.read() as connection:
        rows = connection.execute(select(bars).where(mine).order_by(bars.c.start)).mappings().all()
    names = ("start", "open", "high", "low", "close", "volume")
    assert [tuple(r[n] for n in names) for r in rows] == in_the_market(row)
    assert row["result"]["bars"] == len(rows)

    send_bare(world, "data.bars", "data.tda", kwargs)
    wrong = {**kwargs, "fetch_id": fetch_id + "-x", "timeframe": "7Min"}
    send_bare(world, "data.bars", "data.tda", wrong)
    row = eventually(lambda: _row(world, fetch_id + "-x"))
    assert row["status"] == "failed"
    assert "'7Min'" in row["error"]
    assert _row(world, fetch_id)["attempt_no"] == 1


def _row(world: World, fetch_id: str) -> dict[str, Any]:
    with world.database.read() as connection:
        found = connection.execute(select(fetches).where(fetches.c.fetch_id == fetch_id)).mappings().first()
    return dict(found) if found is not None else {}


# -- COMMAND LINE ---
def test_the_commands_print_json_and_csv(world: World) -> None:
    said = world.corro("quote", "SPY", "--json", "--route", "tda")
    assert said.status == 0, said
    assert said.json["broker"] == "tda"
    assert {"symbol", "bid", "ask", "last", "volume", "at", "age_s"} <= set(said.json)
    assert isinstance(said.json["bid"], str)
    assert abs(said.json["age_s"]) < 60

    end = finished().date().isoformat()
    arguments = ["bars", "spy", "1Day", "--end", end, "--duration", "1M", "--route", "alpaca"]
    said = world.corro(*arguments, "--json")
    assert said.status == 0, said
    assert said.err == ""  # no progress bar where nobody looks
    truth = BOOK.bars("SPY", "1Day", finished() - timedelta(days=40), finished() - timedelta(seconds=1))
    assert said.json[-1] == {
        "start": to_json(truth[-1].start), "open": to_json(truth[-1].open), "high": to_json(truth[-1].high),
        "low": to_json(truth[-1].low), "close": to_json(truth[-1].close), "volume": str(truth[-1].volume),
        "broker": "alpaca", "symbol": "SPY", "timeframe": "1Day",
    }  # fmt: skip
    printed = world.corro(*arguments, "--out", "-")
    assert list(csv.DictReader(io.StringIO(printed.out))) == said.json
    path = world.home / "spy.csv"
    assert world.corro(*arguments, "--out", str(path)).status == 0
    frame = pd.read_csv(path, index_col="start", parse_dates=["start"])
    assert list(frame["close"]) == [float(row["close"]) for row in said.json]

    world.control.set_position("tda", "DIS", 7)
    world.control.set_position("ibkr", "DIS", 3)
    total = world.corro("positions", "--total", "--json")
    assert {"symbol": "DIS", "quantity": "10", "brokers": ["ibkr", "tda"]} in total.json
    account = world.corro("account", "tda", "--json")
    assert account.status == 0
    assert account.json[0]["broker"] == "tda"
    assert {"buying_power", "cash", "equity", "portfolio_value", "total_liquidity", "day_trade_count"} <= set(
        account.json[0]
    )


def test_parquet(world: World) -> None:
    path = world.home / "spy.parquet"
    said = world.corro("bars", "SPY", "1Day", "--duration", "1M", "--route", "tda", "--out", str(path))
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        assert said.status == 2
        assert "corro[parquet]" in said.err
        return
    assert said.status == 0, said
    frame = pd.read_parquet(path)
    assert str(frame["start"].dtype) == "datetime64[us, UTC]"
    assert isinstance(frame["close"].iloc[0], Decimal), "decimal128: no price is rounded on its way out"


# -- NOBODY THERE ---
def test_a_broker_without_a_worker_is_said_to_have_none(world: World) -> None:
    world.fleet.kill(world.fleet.processes["tda"])
    fetch = world.client.bars("SPY", "1Day", duration="1M", route=["tda"])
    eventually(lambda: "no worker of tda is alive" in world.client.workers_of("tda"), 15)
    with pytest.raises(DataError, match=r"no answer from tda within .*at tda, 0% done.* no worker of tda is alive"):
        fetch.result(0.2)
    assert fetch.progress == 0
    assert str(fetch.waits).startswith("queued at tda")
    moved = world.client.bars("SPY", "1Day", duration="1M", route=["tda", "alpaca"])
    moved.result(20)
    assert moved.broker == "alpaca"
    assert "no worker of tda is alive" in str(moved.error)
    held = world.client.positions(timeout=10)
    assert set(held.unreachable) == {"tda"}
    assert "no worker of tda is alive" in held.unreachable["tda"]
    world.fleet.start("tda")
    fetch.result(20)
    assert fetch.broker == "tda"
