"""Executions that are put right or taken back after they were told: what it does to order, account and ledger.

The faults `trade_correct` [seconds, price, silent] and `trade_bust` [seconds, silent], at the doors of Alpaca and TWS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from worker.sandbox.faults import Fault
from worker.sandbox.market.market import Market, MarketOrder, Trade

KINDS = ("trade_correct", "trade_bust")
#: How a door tells its clients of an amendment: the fault, the order, the execution as it is now, and its old quantity.
Tell = Callable[[Fault, MarketOrder, Trade, Decimal], None]


def after_fill(market: Market, order: MarketOrder, execution: Trade, tell: Tell) -> None:
    """Plan what shall happen to an execution later."""
    for kind in KINDS:
        fault = market.faults.take(order.door, kind, order.symbol)
        if fault is not None:
            later(fault, amend, market, fault, order, execution, tell)


def later(fault: Fault, work: Callable[..., object], *args: object) -> None:
    """Do something in as many seconds as the fault says."""
    asyncio.get_running_loop().call_later(float(fault.options.get("seconds", 0.2)), work, *args)


def amend(market: Market, fault: Fault, order: MarketOrder, execution: Trade, tell: Tell) -> None:
    """Put an execution right, or take it back, in order, account and ledger; tell of it unless `silent`."""
    before = execution.quantity
    if not before:
        return  # taken back already
    if fault.kind == "trade_correct":
        execution.price = Decimal(str(fault.options.get("price") or execution.price + 1))
    else:
        _take_back(market, order, execution)
    execution.revision += 1
    execution.amended_at = order.updated_at = datetime.now(UTC)
    market.ledger.record(
        "amended", door=order.door, number=order.number, client_order_id=order.client_order_id,
        execution_id=execution.execution_id, quantity=execution.quantity, price=execution.price,
        revision=execution.revision,
    )  # fmt: skip
    if not fault.options.get("silent"):
        tell(fault, order, execution, before)


def _take_back(market: Market, order: MarketOrder, execution: Trade) -> None:
    held = market.account(order.door, order.account).positions.get(order.symbol)
    signed = execution.quantity if order.is_buy else -execution.quantity
    left = (held.quantity if held else Decimal(0)) - signed
    market.set_position(order.door, order.symbol, left, order.account)
    order.take_back(execution)
