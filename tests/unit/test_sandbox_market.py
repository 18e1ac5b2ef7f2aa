"""The simulated market: matching, accounts and the faults."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.kit.stories import eventually, run
from tests.unit.sandbox_market import open_market, place
from worker.sandbox.faults import Fault, Faults
from worker.sandbox.market.accounts import Book

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
