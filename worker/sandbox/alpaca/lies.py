"""What happens to orders at Alpaca without us: executions put right or taken back, orders replaced, ids taken.

Each is a fault: a person, a clearing house or another program at work on the same account.
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import TYPE_CHECKING

from worker.sandbox.alpaca.bodies import Json, amendment_uuid, execution_uuid, order_id, plain
from worker.sandbox.market import amending
from worker.sandbox.market.ledger import STRANGER
from worker.sandbox.market.market import Market, MarketOrder, OrderTerms, Trade

if TYPE_CHECKING:
    from worker.sandbox.alpaca.door import AlpacaDoor
    from worker.sandbox.faults import Fault


def after_fill(door: AlpacaDoor, order: MarketOrder, execution: Trade) -> None:
    """Plan what shall happen to an execution later."""
    amending.after_fill(door.market, order, execution, lambda *told: tell_amendment(door, *told))


def tell_amendment(door: AlpacaDoor, fault: Fault, order: MarketOrder, execution: Trade, before: Decimal) -> None:
    """Send the event that puts an execution right or takes it back: a bust's quantity is negative."""
    names = {"execution_id": amendment_uuid(execution), "previous_execution_id": execution_uuid(execution)}
    told = execution.quantity or -before
    door.stream.tell(fault.kind, order, {**names, "price": plain(execution.price), "qty": plain(told)})


def loop(market: Market, door: str, operation: str, rows: list[Json], size: int) -> list[Json]:
    """Return a full page that is the same again, whatever page was asked for, under the fault `page_loop`."""
    if not rows or not market.faults.take_aimed(door, ("page_loop",), operation):
        return rows
    return (rows * (size // len(rows) + 1))[:size]


def take_id(door: AlpacaDoor, fault: Fault, client_order_id: str | None, fields: OrderTerms) -> None:
    """Have a stranger's order stand under the id of the order that is just coming in."""
    options = fault.options
    theirs = {**fields, "client_order_id": client_order_id}
    theirs |= {"side": options.get("side", fields["side"]), "symbol": options.get("ticker", fields["symbol"])}
    theirs |= {"quantity": Decimal(str(options.get("quantity", fields["quantity"])))}
    # Whatever ours is for, theirs is for a quantity: the same amount of money would be the same order.
    theirs["extra"] = {**fields.get("extra", {}), "notional": None, STRANGER: True}
    door.stand(theirs)


def replace_outside(door: AlpacaDoor, fault: Fault, order: MarketOrder) -> None:
    """Replace an order as a person does in the dashboard: under an id that is not ours."""
    if not order.is_live:
        return
    extra = {**door.links.inherited(order), "replaces": order_id(order), STRANGER: True}
    changes: dict[str, object] = {"client_order_id": str(uuid.uuid4()), "extra": extra}
    if "quantity" in fault.options:
        changes["quantity"] = Decimal(str(fault.options["quantity"]))
    door.succeed(order, door.market.replace(order, **changes))
