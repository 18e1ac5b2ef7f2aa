"""Compare the ledger of the doors with the database: the sandbox's evidence against our books.

Checked for every order: Σ over all doors of what is live or filled <= what was ordered; what we call filled is what the
doors filled; nothing reached a door that our books do not know; what our books call live is live.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from models.record.database import Database
from models.record.reading import attempt_rows, order_rows
from models.record.rows import OrderRow
from models.sizes import CENT
from models.vocabulary import LIVE, Status

_ZERO = Decimal(0)
_LIVE = {"new", "partially_filled"}


@dataclass(slots=True)
class Audit:
    """What the comparison found; `problems` is empty when both agree."""

    orders: int = 0
    at_doors: int = 0
    filled: Decimal = _ZERO
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Books and doors agree."""
        return not self.problems


def audit(database: Database, found: Iterable[Mapping[str, Any]], *, foreign: Iterable[str] = ()) -> Audit:
    """Compare.

    Args:
        database: our books.
        found: every order at every door, as `SandboxControl.orders` gives them.
        foreign: client order ids at the doors that are known not to be ours.
    """
    with database.read() as connection:
        books = {row["client_order_id"]: row for row in order_rows(connection)}
        tries = attempt_rows(connection)
    result = Audit(orders=len(books))
    ours = {(row["broker"], row["broker_client_order_id"]): row["client_order_id"] for row in tries}
    theirs = {(row["broker"], row["broker_order_id"]): row["client_order_id"] for row in tries}
    placed: dict[str, list[Mapping[str, object]]] = {}
    for entry in found:
        result.at_doors += 1
        door, id_ = entry["door"], entry["client_order_id"]
        name = ours.get((door, id_)) if id_ else theirs.get((door, str(entry["wire_id"])))
        if name is not None:
            placed.setdefault(name, []).append(entry)
        elif id_ not in set(foreign):
            result.problems.append(f"{door} has order {id_ or entry['wire_id']} that our books do not know: {entry}")
    for name, row in books.items():
        _check(result, row, placed.get(name, []))
    return result


def _check(result: Audit, row: OrderRow, entries: list[Mapping[str, Any]]) -> None:
    """Compare one order with what the doors have under its ids: never more filled and alive than was ordered."""
    name, ordered = row["client_order_id"], max(row["quantity"] or _ZERO, _ZERO)
    filled = sum((Decimal(e["filled_quantity"]) for e in entries), _ZERO)
    live = sum((Decimal(e["quantity"]) - Decimal(e["filled_quantity"]) for e in entries if e["state"] in _LIVE), _ZERO)
    result.filled += filled
    money = row["notional"]
    where = [(e["door"], e["state"], e["filled_quantity"]) for e in entries]
    if money is not None:
        trades = [trade for e in entries for trade in e["executions"]]
        spent = sum((Decimal(trade["quantity"]) * Decimal(trade["price"]) for trade in trades), _ZERO)
        if spent > money + CENT:
            result.problems.append(f"{name}: ordered for {money}, but bought for {spent} at {where}")
    elif filled + live > ordered:
        result.problems.append(f"{name}: ordered {ordered}, but {filled} filled and {live} live at {where}")
    if filled != row["filled_quantity"]:
        result.problems.append(f"{name}: our books say {row['filled_quantity']} filled, the doors {filled} ({where})")
    status = Status(row["status"])
    if status in LIVE and not live:
        result.problems.append(f"{name}: our books say {status}, but no door has it live ({where})")
    if status not in LIVE and status is not Status.SUBMITTED and live:
        result.problems.append(f"{name}: our books say {status}, but it is live at {where}")
