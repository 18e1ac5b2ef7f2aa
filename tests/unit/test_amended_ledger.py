"""Executions that were put right or taken back stay so when the sandbox starts again from its ledger."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from tests.kit.stories import eventually, run
from tests.unit.sandbox_market import place
from worker.sandbox.alpaca.bodies import execution_uuid
from worker.sandbox.faults import Fault
from worker.sandbox.market import amending
from worker.sandbox.market.ledger import duplicates, read_ledger, summary
from worker.sandbox.market.market import Market, MarketOrder, Trade


async def _filled(market: Market) -> MarketOrder:
    market.set_price("AAPL", Decimal(100))
    order = place(market, client_order_id="a")
    await eventually(lambda: order.state == "filled")
    return order


@pytest.mark.parametrize(
    ("kind", "quantity", "price", "held"), [("trade_correct", 10, "12.5", 10), ("trade_bust", 0, "100", 0)]
)
def test_an_amended_execution_is_restored_as_it_stands(
    tmp_path: Path, kind: str, quantity: int, price: str, held: int
) -> None:
    path, told = tmp_path / "ledger.jsonl", list[tuple[str, Decimal]]()

    def tell(fault: Fault, _: MarketOrder, fill: Trade, before: Decimal) -> None:
        told.append((fault.kind, before))

    async def story() -> tuple[Trade, Trade, Decimal]:
        market = Market(fill_delay=0.002, ledger_path=path)
        order = await _filled(market)
        fault = Fault("alpaca", kind, 1, options={"price": price, "seconds": 0.0})
        amending.amend(market, fault, order, order.executions[0], tell)
        amending.amend(market, fault, order, order.executions[0], tell)  # a bust of a bust is nothing
        market.close()
        again = Market(ledger_path=path)
        (restored,) = again.orders("alpaca")
        positions = again.account("alpaca").positions
        again.close()
        return order.executions[0], restored.executions[0], positions["AAPL"].quantity if positions else Decimal(0)

    before, after, position = run(lambda: asyncio.wait_for(story(), 10))
    assert (after.quantity, after.revision, after.cumulative) == (quantity, before.revision, quantity)
    assert after.price == before.price == (Decimal(price) if kind == "trade_correct" else before.price)
    assert execution_uuid(after) == execution_uuid(before)  # a restart gives no new names
    assert position == held
    assert set(told) == {(kind, Decimal(10))}
    entry = summary(read_ledger(path))[1]
    assert Decimal(entry["filled_quantity"]) == quantity
    assert entry["state"] == "filled"
    assert not duplicates(read_ledger(path))
