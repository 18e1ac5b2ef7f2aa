"""The simulated market: prices that agree with each other, matching, accounts, the ledger and the faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from worker.sandbox.faults import Fault, Faults
from worker.sandbox.market.accounts import Book
from worker.sandbox.market.ledger import Ledger, duplicates, read_ledger, summary
from worker.sandbox.market.market import Event, Market, MarketOrder
from worker.sandbox.market.prices import NEW_YORK, Bar, PriceBook

T = TypeVar("T")
NOW = datetime(2026, 1, 15, 18, 0, tzinfo=UTC)  # a Thursday, 13:00 in New York


async def eventually(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def open_market(**options: Any) -> AsyncIterator[tuple[Market, list[Event]]]:
    """Give a market with AAPL at 100.00 and the events of its door `alpaca`."""
    market = Market(fill_delay=0.002, **options)
    events: list[Event] = []
    market.subscribe("alpaca", events.append)
    market.set_price("AAPL", Decimal(100))
    try:
        yield market, events
    finally:
        market.close()


def place(market: Market, **changes: Any) -> MarketOrder:
    fields: dict[str, Any] = {
        "door": "alpaca",
        "account": "A1",
        "client_order_id": None,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": Decimal(10),
        "order_type": "market",
        "time_in_force": "day",
    }
    return market.place(**{**fields, **changes})


def run(story: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(10):
            return await story()

    return asyncio.run(bounded())


# -- PRICES --


def test_the_same_seed_gives_the_same_prices_and_another_seed_others() -> None:
    start = NOW - timedelta(days=30)
    first, second, other = (PriceBook(seed).bars("AAPL", "1Day", start, NOW, NOW) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def _add_up(minutes: list[Bar]) -> tuple[Decimal, Decimal, Decimal, Decimal, int]:
    high, low = max(b.high for b in minutes), min(b.low for b in minutes)
    return minutes[0].open, high, low, minutes[-1].close, sum(b.volume for b in minutes)


@pytest.mark.parametrize("timeframe", ["5Min", "15Min", "30Min", "1Hour", "4Hour", "1Day", "1Week"])
def test_every_timeframe_adds_up_from_the_minutes(timeframe: str) -> None:
    book = PriceBook()
    start = datetime.combine(date(2026, 1, 5), time(), NEW_YORK)  # a Monday
    minutes = book.bars("TSLA", "1Min", start, NOW, NOW)
    bars = book.bars("TSLA", timeframe, start, NOW, NOW)
    edges = [*(b.start for b in bars[1:]), NOW]
    for bar, end in zip(bars, edges, strict=True):
        inside = [m for m in minutes if bar.start <= m.start < end]
        assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == _add_up(inside)


def test_a_year_of_daily_bars_has_one_bar_per_weekday_and_is_quick() -> None:
    begun = datetime.now(UTC)
    start = datetime.combine(date(2025, 1, 1), time(), NEW_YORK)
    bars = PriceBook().bars("SPY", "1Day", start, datetime.combine(date(2025, 12, 31), time(), NEW_YORK), NOW)
    assert len(bars) == 261
    assert {b.start.astimezone(NEW_YORK).time() for b in bars} == {time()}
    assert all(b.low <= min(b.open, b.close) <= max(b.open, b.close) <= b.high for b in bars)
    assert datetime.now(UTC) - begun < timedelta(seconds=3)


def test_bars_end_with_the_last_finished_minute_and_weekends_have_none() -> None:
    book = PriceBook()
    newest = book.bars("AAPL", "1Min", NOW - timedelta(hours=1), NOW, NOW)[-1]
    assert newest.start == NOW - timedelta(minutes=1)
    saturday = datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert book.bars("AAPL", "1Min", saturday, saturday + timedelta(hours=30), NOW) == []


def test_sessions_follow_new_york_summer_time() -> None:
    book = PriceBook()
    for day, hour in ((date(2025, 7, 1), 13), (date(2025, 12, 1), 14)):
        start = datetime.combine(day, time(), NEW_YORK)
        first = book.bars("AAPL", "1Min", start, start + timedelta(days=1), NOW)[0]
        assert (first.start.hour, first.start.minute) == (hour, 30)


@pytest.mark.parametrize(
    "moment", [NOW, NOW + timedelta(days=2), NOW.replace(hour=3), datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_quotes_are_whole_cents_and_never_zero_or_crossed(moment: datetime) -> None:
    book = PriceBook()
    for symbol in ("AAPL", "BRK.B", "SIM000", "SIM999"):
        quote = book.quote(symbol, moment)
        assert Decimal(0) < quote.bid <= quote.last < quote.ask
        assert quote.ask - quote.bid <= Decimal("0.02")
        assert quote.last == quote.last.quantize(Decimal("0.01"))


def test_a_quote_during_the_session_is_the_close_of_its_minute_bar() -> None:
    book = PriceBook()
    bar = book.bars("AAPL", "1Min", NOW, NOW, NOW + timedelta(minutes=1))[0]
    assert book.quote("AAPL", NOW).last == bar.close


def test_unknown_symbols_and_timeframes_are_refused() -> None:
    book = PriceBook()
    assert not book.exists("SIM1000")
    with pytest.raises(KeyError):
        book.quote("NOPE")
    with pytest.raises(ValueError, match="timeframe"):
        book.bars("AAPL", "3Fortnight", NOW, NOW)


# -- MATCHING --


def test_a_market_order_is_accepted_then_filled_at_the_ask() -> None:
    async def story() -> None:
        async with open_market() as (market, events):
            order = place(market)
            await eventually(lambda: order.state == "filled")
            await eventually(lambda: len(events) == 2)
            assert [e.kind for e in events] == ["accepted", "fill"]
            assert order.avg_fill_price == Decimal("100.01")
            assert market.account("alpaca").positions["AAPL"].quantity == 10
            assert market.account("alpaca").cash == Decimal("998999.90")

    run(story)


def test_a_limit_order_rests_until_the_price_comes_and_fills_no_worse() -> None:
    async def story() -> None:
        async with open_market() as (market, events):
            order = place(market, order_type="limit", limit_price=Decimal(95))
            await eventually(lambda: events)
            market.set_price("AAPL", Decimal("96"))
            assert order.state == "new"
            market.set_price("AAPL", Decimal("94.50"))
            assert order.state == "filled"
            assert order.avg_fill_price == Decimal("94.51")

    run(story)


def test_stops_trigger_on_the_last_price_and_stop_limits_then_rest() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            stop = place(market, side="sell", order_type="stop", stop_price=Decimal(98))
            limited = place(
                market, side="sell", order_type="stop_limit", stop_price=Decimal(98), limit_price=Decimal("97.50")
            )
            market.set_price("AAPL", Decimal("98.01"))
            assert (stop.state, limited.state) == ("new", "new")
            market.set_price("AAPL", Decimal("97"))
            assert (stop.state, limited.state) == ("filled", "new")
            market.set_price("AAPL", Decimal("97.80"))
            assert limited.state == "filled"

    run(story)


@pytest.mark.parametrize("trail", [{"trail_amount": Decimal(2)}, {"trail_percent": Decimal(2)}])
def test_a_trailing_stop_follows_the_price_up_but_not_down(trail: dict[str, Decimal]) -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            order = place(market, side="sell", order_type="trailing_stop", **trail)
            assert order.stop_price == 98
            market.set_price("AAPL", Decimal(110))
            raised = order.stop_price
            assert raised in (Decimal(108), Decimal("107.80"))
            market.set_price("AAPL", Decimal(109))
            assert (order.stop_price, order.state) == (raised, "new")
            market.set_price("AAPL", Decimal(107))
            assert order.state == "filled"

    run(story)


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
def test_an_immediate_order_that_cannot_trade_is_canceled(time_in_force: str) -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            late = place(market, order_type="limit", limit_price=Decimal(90), time_in_force=time_in_force)
            ready = place(market, order_type="limit", limit_price=Decimal(101), time_in_force=time_in_force)
            await eventually(lambda: not late.is_live and not ready.is_live)
            assert (late.state, ready.state) == ("canceled", "filled")

    run(story)


def test_large_orders_fill_in_three_parts_and_orders_for_the_auction_rest() -> None:
    async def story() -> None:
        async with open_market() as (market, events):
            large = place(market, quantity=Decimal(1000))
            auction = place(market, time_in_force="cls")
            await eventually(lambda: large.state == "filled")
            assert [e.quantity for e in large.executions] == [333, 333, 334]
            assert [e.cumulative for e in large.executions] == [333, 666, 1000]
            assert auction.state == "new"
            await eventually(lambda: len([e for e in events if e.kind == "fill"]) == 3)

    run(story)


def test_a_canceled_order_never_fills_and_a_filled_one_cannot_be_canceled() -> None:
    async def story() -> None:
        async with open_market() as (market, events):
            canceled = place(market)
            assert market.cancel(canceled)
            filled = place(market)
            await eventually(lambda: filled.state == "filled")
            assert not market.cancel(filled)
            assert not canceled.executions
            await eventually(lambda: len(events) == 4)
            assert [e.kind for e in events if e.order is canceled] == ["accepted", "canceled"]

    run(story)


def test_a_replacement_is_a_new_order_and_a_modification_is_not() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            old = place(market, order_type="limit", limit_price=Decimal(90), client_order_id="a")
            new = market.replace(old, limit_price=Decimal(91), client_order_id="b")
            assert (old.state, old.replaced_by, new.replaces) == ("replaced", new.number, old.number)
            assert market.modify(new, limit_price=Decimal(101))
            await eventually(lambda: new.state == "filled")
            with pytest.raises(ValueError, match="filled"):
                market.replace(new)
            assert market.ledger.duplicates() == []

    run(story)


def test_refusals_name_their_reason() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            order: dict[str, Any] = {"door": "alpaca", "symbol": "AAPL", "side": "buy", "quantity": Decimal(10)}
            assert market.refusal(**order) is None
            assert market.refusal(**{**order, "symbol": "NOPE"}) == "unknown_symbol"
            assert market.refusal(**{**order, "quantity": Decimal(0)}) == "invalid_quantity"
            assert market.refusal(**{**order, "quantity": Decimal(50_000)}) == "insufficient_funds"
            assert market.refusal(**{**order, "side": "sell"}) is None
            assert market.refusal(**{**order, "door": "tda", "side": "sell"}) == "no_position"
            market.set_position("tda", "AAPL", Decimal(10))
            assert market.refusal(**{**order, "door": "tda", "side": "sell"}) is None

    run(story)


def test_open_buys_use_up_buying_power() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            before = market.account("alpaca").buying_power
            order = place(market, order_type="limit", limit_price=Decimal(50), quantity=Decimal(100))
            assert before - market.account("alpaca").buying_power == 5000
            market.cancel(order)
            assert market.account("alpaca").buying_power == before

    run(story)


def test_positions_average_realize_and_turn_over() -> None:
    book = Book()
    book.apply("AAPL", Decimal(10), Decimal(100), Decimal(0))
    book.apply("AAPL", Decimal(10), Decimal(110), Decimal(0))
    assert book.positions["AAPL"].avg_price == 105
    assert book.apply("AAPL", Decimal(-25), Decimal(115), Decimal(1)) == 200
    assert (book.positions["AAPL"].quantity, book.positions["AAPL"].avg_price) == (-5, 115)
    assert book.apply("AAPL", Decimal(5), Decimal(110), Decimal(0)) == 25
    assert book.positions == {}
    assert book.cash == 1_000_000 + 200 + 25 - 1


def test_interactive_brokers_charges_a_dollar_at_least_once_per_order() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            small = place(market, door="ibkr")
            large = place(market, door="ibkr", quantity=Decimal(3000))
            free = place(market)
            await eventually(lambda: not any(o.is_live for o in (small, large, free)))
            assert [sum(e.commission for e in o.executions) for o in (small, large, free)] == [1, 15, 0]

    run(story)


# -- FAULTS --


def test_a_fault_is_used_up_by_its_count_and_only_where_it_is_aimed() -> None:
    faults = Faults()
    faults.add(Fault("alpaca", "refuse", count=2, symbol="AAPL"))
    assert faults.take("tda", "refuse", "AAPL") is None
    assert faults.take("alpaca", "refuse", "MSFT") is None
    assert faults.take("alpaca", ("hang", "refuse"), "AAPL")
    assert faults.take("alpaca", "refuse", "AAPL")
    assert faults.take("alpaca", "refuse", "AAPL") is None


def test_a_lasting_fault_ends_when_its_door_is_cleared() -> None:
    faults = Faults()
    faults.add(Fault("alpaca", "down"))
    faults.add(Fault("tda", "down"))
    faults.clear("alpaca")
    assert faults.peek("alpaca", "down") is None
    assert faults.take("tda", "down")
    assert faults.take("tda", "down")


def test_a_fault_aimed_at_an_operation_strikes_only_there() -> None:
    faults = Faults()
    faults.add(Fault("ibkr", "hang"))
    faults.add(Fault("ibkr", "hang", count=1, operation="cancel"))
    assert faults.take_aimed("ibkr", ("hang",), "bars") is None
    assert faults.take_aimed("ibkr", ("hang",), "cancel")
    assert faults.take_aimed("ibkr", ("hang",), "cancel") is None
    assert faults.take("ibkr", "hang", operation="place")


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown fault kind"):
        Faults().add(Fault("ibkr", "explode"))


def test_orders_held_by_a_fault_rest_until_released() -> None:
    async def story() -> None:
        async with open_market() as (market, events):
            market.faults.add(Fault("alpaca", "no_fill", count=1))
            market.faults.add(Fault("alpaca", "partial", count=1))
            resting, half = place(market), place(market)
            await eventually(lambda: half.filled_quantity == 5)
            market.set_price("AAPL", Decimal(99))
            assert (resting.state, half.state) == ("new", "partially_filled")
            market.release("alpaca")
            await eventually(lambda: resting.state == half.state == "filled")
            await eventually(lambda: len(events) == 5)

    run(story)


def test_a_partial_immediate_order_keeps_its_half_and_cancels_the_rest() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            for _unused in range(2):
                market.faults.add(Fault("alpaca", "partial", count=1))
            ioc, fok = place(market, time_in_force="ioc"), place(market, time_in_force="fok")
            await eventually(lambda: not ioc.is_live and not fok.is_live)
            assert (ioc.state, ioc.filled_quantity) == ("canceled", 5)
            assert (fok.state, fok.filled_quantity) == ("canceled", 0)

    run(story)


def test_an_order_rejected_after_acceptance_never_fills() -> None:
    async def story() -> None:
        async with open_market() as (market, events):
            market.faults.add(Fault("alpaca", "reject_after_accept", count=1, options={"text": "no borrow"}))
            order = place(market)
            await eventually(lambda: len(events) == 2)
            assert [e.kind for e in events] == ["accepted", "rejected"]
            assert (order.reason, order.executions) == ("no borrow", [])

    run(story)


# -- LEDGER --


def test_the_ledger_has_the_order_before_anyone_hears_of_it_and_survives_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.jsonl"

    async def story() -> None:
        async with open_market(ledger_path=path) as (market, events):
            order = place(market, client_order_id="s-1~1", limit_price=Decimal("101.50"), order_type="limit")
            assert [line["event"] for line in read_ledger(path)] == ["opened", "arrived"]
            assert events == []
            await eventually(lambda: order.state == "filled")

    run(story)
    lines = read_ledger(path)
    assert [line["event"] for line in lines] == ["opened", "arrived", "fill"]
    assert lines[1]["client_order_id"] == "s-1~1"
    assert lines[1]["limit_price"] == "101.50"
    assert summary(lines)[1]["state"] == "filled"


def test_a_restart_forgets_neither_orders_nor_fills_nor_positions_nor_ids(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"

    async def before() -> dict[str, Any]:
        async with open_market(ledger_path=path) as (market, _):
            filled = place(market, client_order_id="filled", quantity=Decimal(3000), extra={"wire": {"a": "1"}})
            await eventually(lambda: filled.state == "filled")
            resting = place(market, client_order_id="resting", order_type="limit", limit_price=Decimal(1))
            market.modify(resting, limit_price=Decimal("1.50"))
            old = place(market, client_order_id="old", order_type="limit", limit_price=Decimal(1))
            market.replace(old, client_order_id="new", limit_price=Decimal(2))
            gone = place(market, client_order_id="gone", order_type="limit", limit_price=Decimal(1))
            market.cancel(gone)
            market.turn_away("refused", **_arrival("refused"))
            market.set_position("alpaca", "KO", Decimal(-7))
            return _picture(market)

    async def after() -> dict[str, Any]:
        async with open_market(ledger_path=path) as (market, _):
            market.wake()
            seen = _picture(market)
            resting = market.find_by_client_id("alpaca", "resting")
            assert resting is not None
            market.set_price("AAPL", Decimal(1))  # it can still be filled, and another one canceled
            await eventually(lambda: resting.state == "filled")
            successor = market.find_by_client_id("alpaca", "new")
            assert successor is not None
            assert place(market, client_order_id="next").number == max(seen["orders"]) + 2  # one was turned away
            return seen

    first, second = run(before), run(after)
    assert second == first
    orders = {entry["client_order_id"]: entry["state"] for entry in summary(read_ledger(path)).values()}
    assert orders["gone"] == "canceled"
    assert duplicates(read_ledger(path)) == []


def _picture(market: Market) -> dict[str, Any]:
    """What a door can see of the market, but for what only counts while an order is under way."""
    seen = [asdict(order) for order in market.orders("alpaca")]
    passing = ("updated_at", "closed_at", "held", "fill_cap", "triggered", "high_water")
    orders = {row["number"]: {k: v for k, v in row.items() if k not in passing} for row in seen}
    for row in orders.values():
        row["extra"].pop("accepted", None)
        for execution in row["executions"]:
            execution.pop("at")
    account = market.account("alpaca")
    return {"orders": orders, "positions": account.positions, "cash": account.cash, "realized": account.realized}


def test_an_order_in_two_places_is_a_duplicate_unless_one_of_them_is_dead() -> None:
    async def story() -> None:
        async with open_market() as (market, _):
            first = place(market, client_order_id="s-1~1", order_type="limit", limit_price=Decimal(90))
            market.turn_away("refused", **_arrival("s-1~0"))
            assert market.ledger.duplicates() == []
            place(market, door="tda", client_order_id="s-1~2", order_type="limit", limit_price=Decimal(90))
            place(market, client_order_id="s-2")
            found = market.ledger.duplicates()
            assert [d["client_order_id"] for d in found] == ["s-1"]
            assert {o["door"] for o in found[0]["orders"]} == {"alpaca", "tda"}
            market.cancel(first)
            assert market.ledger.duplicates() == []

    run(story)


def _arrival(name: str) -> dict[str, Any]:
    keys: dict[str, Any] = {"door": "ibkr", "account": "x", "client_order_id": name, "symbol": "AAPL", "side": "buy"}
    return {**keys, "quantity": Decimal(1), "order_type": "market", "time_in_force": "day"}


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.record("arrived", number=4, door="tda")
    ledger.close()
    with path.open("a") as file:
        file.write('{"event": "fill", "numb')
    assert [line["event"] for line in read_ledger(path)] == ["opened", "arrived"]
    again = Ledger(path)
    again.close()
    assert again.last_number == 4
    assert [line["event"] for line in read_ledger(path)] == ["opened", "arrived", "opened"]
