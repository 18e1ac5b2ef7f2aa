"""What happens to orders at Alpaca without us: executions put right or taken back, orders replaced, ids taken.

Each is a fault: a person, a clearing house or another program at work on the same account.
"""

from __future__ import annotations

import asyncio
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.sandbox.alpaca_json import execution_uuid, order_id, plain
from worker.sandbox.market import Execution, MarketOrder

if TYPE_CHECKING:
    from worker.sandbox.alpaca_door import AlpacaDoor
    from worker.sandbox.faults import Fault


def after_fill(door: AlpacaDoor, order: MarketOrder, execution: Execution) -> None:
    """Plan what shall happen to an execution later."""
    for kind in ("trade_correct", "trade_bust"):
        fault = door.take(kind, symbol=order.symbol)
        if fault is not None:
            later(fault, amend, door, fault, order, execution)


def later(fault: Fault, work: Any, *args: Any) -> None:
    """Do something in as many seconds as the fault says."""
    asyncio.get_running_loop().call_later(float(fault.options.get("seconds", 0.2)), work, *args)


def amend(door: AlpacaDoor, fault: Fault, order: MarketOrder, execution: Execution) -> None:
    """Put an execution right, or take it back, in order, account and activities; tell of it unless `silent`."""
    before, quantity = execution_uuid(execution), execution.quantity
    if fault.kind == "trade_correct":
        execution.price = Decimal(str(fault.options.get("price") or execution.price + 1))
    else:
        held = door.market.account(door.name).positions.get(order.symbol)
        signed = quantity if order.is_buy else -quantity
        door.market.set_position(door.name, order.symbol, (held.quantity if held else Decimal(0)) - signed)
        execution.quantity = Decimal(0)
        for one in order.executions[order.executions.index(execution) :]:
            one.cumulative -= quantity
        order.extra["busted"] = True
    if fault.options.get("silent"):
        return
    told = quantity if fault.kind == "trade_correct" else -quantity
    number = f"{before}:{fault.kind}:{plain(execution.price)}"
    door.stream.tell(
        fault.kind,
        order,
        {
            "execution_id": str(uuid.uuid5(uuid.UUID(before), number)),
            "previous_execution_id": before,
            "price": plain(execution.price),
            "qty": plain(told),
        },
    )


def take_id(door: AlpacaDoor, fault: Fault, client_order_id: str | None, fields: dict[str, Any]) -> None:
    """Have a stranger's order stand under the id of the order that is just coming in."""
    options = fault.options
    theirs = {**fields, "client_order_id": client_order_id}
    theirs |= {"side": options.get("side", fields["side"]), "symbol": options.get("ticker", fields["symbol"])}
    theirs |= {"quantity": Decimal(str(options.get("quantity", fields["quantity"])))}
    door.stand(theirs)


def replace_outside(door: AlpacaDoor, fault: Fault, order: MarketOrder) -> None:
    """Replace an order as a person does in the dashboard: under an id that is not ours."""
    if not order.is_live:
        return
    changes: dict[str, Any] = {"client_order_id": str(uuid.uuid4()), "extra": {"replaces": order_id(order)}}
    if "quantity" in fault.options:
        changes["quantity"] = Decimal(str(fault.options["quantity"]))
    door.succeed(order, door.market.replace(order, **changes))
