"""The market as its ledger left it: orders, fills, positions and ids of the runs before, so a restart forgets nothing.

Not in the ledger, and so not restored: faults, pinned prices, cancels under way, and where a trailing stop had got to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from worker.sandbox.market.accounts import Books, Payment, Position, cents, commission_due
from worker.sandbox.market.orders import MarketOrder, Trade

Line = Mapping[str, Any]

_DECIMALS = ("quantity", "limit_price", "stop_price", "trail_amount", "trail_percent")
_UNREADABLE = (KeyError, ValueError, TypeError, InvalidOperation, StopIteration)
_CLOSING = ("canceled", "rejected", "expired", "replaced")
#: What every order of the ledger has; lines of older versions lack some of it and are left out.
_ARRIVED = (
    *("number", "door", "account", "client_order_id", "symbol", "side", "order_type", "time_in_force"),
    *("extended_hours", "replaces", "extra"),
)


@dataclass
class Past:
    """What the runs before have left."""

    orders: dict[int, MarketOrder] = field(default_factory=dict)
    books: Books = field(default_factory=Books)


def past(lines: Iterable[Line], books: Books) -> Past:
    """Fold the lines of a ledger, oldest first, into the orders and the accounts (`books`, new ones) at its end."""
    found = Past(books=books)
    for line in lines:
        fold = _FOLDS.get(str(line.get("event")))
        if fold is None:
            continue
        try:
            fold(found, line)
        except _UNREADABLE:  # of an older version, or written by hand
            continue
    return found


def _arrived(found: Past, line: Line) -> None:
    """Make an order of the line that told of its arrival; one that was turned away is none."""
    if not line.get("taken", True):
        return
    fields: dict[str, Any] = {name: line[name] for name in _ARRIVED}
    fields |= {name: _decimal(line[name]) for name in _DECIMALS}
    at = datetime.fromisoformat(line["at"])
    order = MarketOrder(**fields, received_at=datetime.fromisoformat(line["received_at"]), updated_at=at)
    order.extra["accepted"] = True
    found.orders[order.number] = order
    if order.replaces is not None and order.replaces in found.orders:
        found.orders[order.replaces].replaced_by = order.number


def _filled(found: Past, line: Line) -> None:
    """Book an execution again: position and cash come out as they were."""
    order, at = found.orders[line["number"]], datetime.fromisoformat(line["at"])
    size, price, cumulative = (Decimal(line[name]) for name in ("quantity", "price", "cumulative"))
    fee = commission_due(order.door, cumulative, sum((e.commission for e in order.executions), Decimal(0)))
    book = found.books.of(order.door, order.account)
    if order.extra.get("package"):  # its legs have lines of their own
        fee = gain = Decimal(0)
    else:
        gain = book.apply(order.symbol, size if order.is_buy else -size, price, fee)
    order.executions.append(Trade(line["execution_id"], size, price, at, cumulative, fee, cents(gain)))
    order.state, order.updated_at = line["state"], at
    if order.state == "filled":
        order.closed_at = at


def _amended(found: Past, line: Line) -> None:
    order = found.orders[line["number"]]
    execution = next(one for one in order.executions if one.execution_id == line["execution_id"])
    if not Decimal(line["quantity"]):  # what it does to the position is a line of its own
        order.take_back(execution)
    execution.price, execution.revision = Decimal(line["price"]), int(line["revision"])
    execution.amended_at = order.updated_at = datetime.fromisoformat(line["at"])


def _modified(found: Past, line: Line) -> None:
    order = found.orders[line["number"]]
    for name in {*line} & {*_DECIMALS, "time_in_force"}:
        setattr(order, name, _decimal(line[name]) if name in _DECIMALS else line[name])
    order.updated_at = datetime.fromisoformat(line["at"])


def _closed(found: Past, line: Line) -> None:
    order = found.orders[line["number"]]
    order.state, order.reason = line["event"], line.get("reason")
    order.closed_at = order.updated_at = datetime.fromisoformat(line["at"])


def _set(found: Past, line: Line) -> None:
    positions, quantity = found.books.of(line["door"], line.get("account", "")).positions, Decimal(line["quantity"])
    positions.pop(line["symbol"], None)
    if quantity:
        positions[line["symbol"]] = Position(quantity, Decimal(line.get("price") or "0"))


def _paid(found: Past, line: Line) -> None:
    found.books.of(line["door"], line.get("account", "")).pay(payment_of(line))


def payment_of(line: Line) -> Payment:
    """Return the payment that a line of the ledger, or of a test, tells of."""
    return Payment(
        number=int(line["number"]), kind=str(line["kind"]), at=datetime.fromisoformat(str(line["paid_at"])),
        amount=_decimal(line.get("amount")) or Decimal(0), symbol=line.get("symbol"),
        quantity=_decimal(line.get("quantity")), text=str(line.get("text") or ""),
    )  # fmt: skip


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


_FOLDS: dict[str, Callable[[Past, Line], None]] = {
    "arrived": _arrived, "fill": _filled, "amended": _amended, "modified": _modified, "position": _set,
    "paid": _paid,
    **dict.fromkeys(_CLOSING, _closed),
}  # fmt: skip
